"""The settings of the tune job. Importing this imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from fmnist.config import JobConfig, SpaceName, TwoOrMore, may_change

TUNE = "tune"


@dataclass(frozen=True)
class TuneConfig(JobConfig):
    """Searches hyper-parameters, then trains the best, and leaves a finished run folder.

    Attributes:
        space: The study's search space, the extended one, or module:function, a keras-tuner builder of your own.
        scheduler: Hyperband, which compares trials when a whole bracket has come as far, or ASHA, which does not wait.
        max_epochs: Epochs of a trial at most.
        factor: One of so many trials goes on when a bracket is cut.
        iterations: How often to go through all brackets of Hyperband; with ASHA as many trials as that has.
        patience: A trial ends after this many epochs without a lower validation loss; 0 never ends one early.
        batch_size: Images a step, unless the space has a hyper-parameter batch_size.
        cpus_per_trial: Processors of a trial; as many trials run at once as the cluster has room for.
        gpus_per_trial: GPUs of a trial, 0 to 1; a fraction shares one.
        retrain_epochs: Epochs that the best trial's hyper-parameters are trained for, from new weights.
        retrain_patience: Ends that training early, as in fmnist train; 0 never does.
        workers: Data-parallel processes of that training.
        cpus_per_worker: Processors of such a worker; auto shares out what the cluster has.
        gpus_per_worker: GPUs of such a worker, 0 to 1; a fraction shares one.
        max_failures: How often a crashed trial is started again from its last epoch before it counts as failed, and
            how often the workers of the training are.
    """

    space: SpaceName = "notebook"
    scheduler: Literal["hyperband", "asha"] = "hyperband"
    max_epochs: PositiveInt = 10
    factor: TwoOrMore = 3
    iterations: PositiveInt = 1
    patience: NonNegativeInt = 5
    batch_size: PositiveInt = 64
    cpus_per_trial: PositiveFloat = may_change(1)
    gpus_per_trial: NonNegativeFloat = may_change(0)
    retrain_epochs: PositiveInt = 30
    retrain_patience: NonNegativeInt = 0
    workers: PositiveInt = may_change(1)
    cpus_per_worker: PositiveFloat | Literal["auto"] = may_change("auto")
    gpus_per_worker: NonNegativeFloat = may_change(0)
    max_failures: NonNegativeInt = may_change(1)
