"""The pipeline job."""

from typing import Any

from fmnist.config import Job
from fmnist.workflows.pipeline.config import PIPELINE, PipelineConfig


def run(config: PipelineConfig) -> Any:
    """Runs the job; what it needs is imported only now."""
    from fmnist.workflows.pipeline.job import pipeline

    return pipeline(config)


JOB = Job(PIPELINE, "run the whole study, each stage a run of its own, and write one report", PipelineConfig, run)
