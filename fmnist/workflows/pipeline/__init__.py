"""The pipeline job."""

from fmnist.job import Job

JOB = Job(
    "pipeline",
    "run the whole study, each stage as a run of its own, and write one report",
    "fmnist.workflows.pipeline.config:PipelineConfig",
    "fmnist.workflows.pipeline.job:pipeline",
    extender="fmnist.workflows.pipeline.stages:lacks_stages",
)
