"""The pipeline job."""

from typing import Any

from fmnist.config import Job
from fmnist.workflows.pipeline.config import PIPELINE, PipelineConfig


def run(config: PipelineConfig, resources: Any = None) -> Any:
    """Runs the job. The imports are here so that ``--help`` imports nothing heavy."""
    from fmnist.workflows.pipeline.job import pipeline

    return pipeline(config, resources)


JOB = Job(PIPELINE, "run the whole study, each stage as a run of its own, and write one report", PipelineConfig, run)
