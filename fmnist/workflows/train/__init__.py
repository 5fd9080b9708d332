"""The train job."""

from typing import Any

from fmnist.config import Job
from fmnist.workflows.train.config import TRAIN, TrainConfig


def run(config: TrainConfig, resources: Any = None) -> Any:
    """Runs the job. The imports are here so that ``--help`` imports nothing heavy."""
    from fmnist.workflows.train.job import train

    return train(config, resources)


JOB = Job(TRAIN, "train one model, data-parallel, and write a run folder", TrainConfig, run)
