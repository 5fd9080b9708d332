"""The transfer job."""

from typing import Any

from fmnist.config import Job
from fmnist.workflows.transfer.config import TRANSFER, TransferConfig


def run(config: TransferConfig) -> Any:
    """Runs the job; what it needs is imported only now."""
    from fmnist.workflows.transfer.job import transfer

    return transfer(config)


JOB = Job(TRANSFER, "train new heads on networks trained on ImageNet, and leave a finished run", TransferConfig, run)
