"""The settings of the train job. Importing this imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from fmnist.config import JobConfig, ModelName, may_change

TRAIN = "train"


@dataclass(frozen=True)
class TrainConfig(JobConfig):
    """Trains one model, data-parallel, and leaves a finished run folder.

    Attributes:
        model: lenet5 as the study's notebook builds it, lenet5-1998 exactly as published; or a point in a search space,
            notebook, extended or module:function.
        hyperparameters: The point in the search space, as a search writes it into best.yaml; the space's defaults if
            not given. A learning_rate and a batch_size among them win over those below.
        epochs: Passes over the training images at most.
        batch_size: Images a step, over all workers together.
        learning_rate: Step size of the Adam optimizer.
        patience: Stop after this many epochs without a lower validation loss; 0 never stops early.
        workers: Data-parallel processes.
        cpus_per_worker: Processors of a worker, and so TensorFlow's threads; auto shares out what the cluster has.
        gpus_per_worker: GPUs of a worker, 0 to 1; a fraction shares one.
        max_failures: How often failed workers are started again from the last epoch before the run fails.
    """

    model: ModelName = "lenet5"
    hyperparameters: dict[str, str | int | float | bool] | None = None
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    patience: NonNegativeInt = 10
    workers: PositiveInt = may_change(1)
    cpus_per_worker: PositiveFloat | Literal["auto"] = may_change("auto")
    gpus_per_worker: NonNegativeFloat = may_change(0)
    max_failures: NonNegativeInt = may_change(3)
