"""The tune job."""

from fmnist.job import Job

JOB = Job(
    "tune",
    "search hyper-parameters, train the best, and write a run folder",
    "fmnist.workflows.tune.config:TuneConfig",
    "fmnist.workflows.tune.job:tune",
)
