"""The crossval job."""

from fmnist.job import Job

JOB = Job(
    "crossval",
    "cross-validate one model, folds in parallel, and leave a finished run",
    "fmnist.workflows.crossval.config:CrossvalConfig",
    "fmnist.workflows.crossval.job:crossval",
)
