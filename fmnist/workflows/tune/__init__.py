"""The tune job."""

from typing import Any

from fmnist.config import Job
from fmnist.workflows.tune.config import TUNE, TuneConfig


def run(config: TuneConfig, resources: Any = None) -> Any:
    """Runs the job. The imports are here so that ``--help`` imports nothing heavy."""
    from fmnist.workflows.tune.job import tune

    return tune(config, resources)


JOB = Job(TUNE, "search hyper-parameters, train the best, and write a run folder", TuneConfig, run)
