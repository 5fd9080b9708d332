"""The transfer job."""

from fmnist.job import Job

JOB = Job(
    "transfer",
    "train new heads on networks trained on ImageNet, and leave a finished run",
    "fmnist.workflows.transfer.config:TransferConfig",
    "fmnist.workflows.transfer.job:transfer",
    "fmnist.workflows.transfer.job:check_weights",
)
