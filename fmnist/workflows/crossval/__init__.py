"""The crossval job."""

from typing import Any

from fmnist.config import Job
from fmnist.workflows.crossval.config import CROSSVAL, CrossvalConfig


def run(config: CrossvalConfig, resources: Any = None) -> Any:
    """Runs the job; what it needs is imported only now."""
    from fmnist.workflows.crossval.job import crossval

    return crossval(config, resources)


JOB = Job(CROSSVAL, "cross-validate one model, folds in parallel, and leave a finished run", CrossvalConfig, run)
