"""The train job."""

from fmnist.job import Job

JOB = Job(
    "train",
    "train one model, data-parallel, and write a run folder",
    "fmnist.workflows.train.config:TrainConfig",
    "fmnist.workflows.train.job:train",
)
