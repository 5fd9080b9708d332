"""The settings of the tune job. Importing this imports nothing heavy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from fmnist.config import GpuShare, JobConfig, SpaceName, TwoOrMore, gpu_share, may_change, text_type

TUNE = "tune"

TimeSpan = text_type("TimeSpan", r"^(?=.*[1-9])(\d+h)?(\d+m)?(\d+s)?\Z", "a time such as 45s, 30m or 1h30m")


@dataclass(frozen=True)
class TuneConfig(JobConfig):
    """Searches hyper-parameters, trains a model with the best ones, and writes a run folder.

    Attributes:
        space: The study's search space (notebook), a larger one (extended), one of networks that train in a minute
            (fast), or module:function, a keras-tuner builder of your own.
        sampler: random draws every point by the seed alone; tpe draws it from the results of earlier trials, by
            Optuna's tree-structured Parzen estimator.
        scheduler: hyperband compares the trials of a bracket when all of them have reached a rung; asha does not wait.
        max_epochs: Maximum number of epochs of a trial.
        factor: Reduction factor; 1/factor of the trials survive each rung.
        iterations: Number of passes over all brackets of Hyperband; asha runs the same number of trials.
        time_budget: The search starts no trial and no epoch after this time, such as 45s, 30m or 1h30m, and the best
            trial so far is retrained; a search that resumes has what is left. No limit if not given.
        prefer_small: Take the smallest model whose validation accuracy is within one standard error of the best one's.
        patience: A trial ends after this many epochs without a lower validation loss; 0 disables it.
        batch_size: Images per step, unless the space has a hyper-parameter batch_size.
        cpus_per_trial: CPUs of a trial; as many trials run in parallel as the cluster has room for.
        gpus_per_trial: GPUs of a trial, 0 to 1, or auto: 1 where there is one; a fraction shares one GPU.
        retrain_epochs: Maximum number of epochs of the best trial's retraining, which starts from new weights.
        retrain_patience: Patience of the retraining; 0 disables it.
        workers: Data-parallel processes of the retraining.
        cpus_per_worker: CPUs of such a worker; auto divides the cluster's CPUs among them.
        gpus_per_worker: GPUs of such a worker, 0 to 1, or auto: 1 where there is one; a fraction shares one GPU.
        max_failures: How often a crashed trial is restarted from its last epoch before it counts as failed, and how
            often the workers of the retraining are.
    """

    space: SpaceName = "notebook"
    sampler: Literal["random", "tpe"] = "random"
    scheduler: Literal["hyperband", "asha"] = "hyperband"
    max_epochs: PositiveInt = 10
    factor: TwoOrMore = 3
    iterations: PositiveInt = 1
    time_budget: TimeSpan | None = None  # type: ignore[valid-type]
    prefer_small: bool = False
    patience: NonNegativeInt = 5
    batch_size: PositiveInt = 64
    cpus_per_trial: PositiveFloat = 1
    gpus_per_trial: GpuShare = gpu_share()
    retrain_epochs: PositiveInt = 30
    retrain_patience: NonNegativeInt = 0
    workers: PositiveInt = may_change(1)
    cpus_per_worker: PositiveFloat | Literal["auto"] = may_change("auto")
    gpus_per_worker: GpuShare = gpu_share()
    max_failures: NonNegativeInt = may_change(1)


def seconds_of(time_span: str) -> int:
    """Returns the seconds of a time such as 45s, 30m or 1h30m."""
    return sum(
        int(count) * {"h": 3600, "m": 60, "s": 1}[unit] for count, unit in re.findall(r"(\d+)([hms])", time_span)
    )
