"""The settings of the crossval job. Importing this imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import (
    NonNegativeFloat,
    NonNegativeInt,
    OpenUnitInterval,
    PositiveFloat,
    PositiveInt,
)

from fmnist.config import JobConfig, ModelName, TwoOrMore, may_change

CROSSVAL = "crossval"


@dataclass(frozen=True)
class CrossvalConfig(JobConfig):
    """Cross-validates one model: trains it once a fold, from fresh weights, and measures it on the held-out images.

    Attributes:
        folds: Into how many parts the training images are dealt; each part is held out once.
        val_fraction: Share of the images outside the held-out part that decide when to stop, stratified by class.
        seed: Of the folds and, together with a fold's number, of its initial weights and the order of its images.
        carry_weights: Also repeat the study's protocol, one model through all folds that is never reset and stops by
            the held-out images, to show what that leaks. Its folds follow each other beside the others.
        model: lenet5 as the study's notebook builds it, lenet5-1998 exactly as published; or a point in a search space,
            notebook, extended or module:function.
        hyperparameters: The point in the search space, as a search writes it into best.yaml; the space's defaults if
            not given. A learning_rate and a batch_size among them win over those below.
        epochs: Passes over a fold's training images at most.
        batch_size: Images a step.
        learning_rate: Step size of the Adam optimizer.
        patience: Stop a fold after this many epochs without a lower validation loss; 0 never stops early.
        cpus_per_fold: Processors of a fold, and so TensorFlow's threads.
        gpus_per_fold: GPUs of a fold, 0 to 1; a fraction shares one.
        concurrency: Folds at once at most; auto is as many as the cluster has room for.
        max_failures: How often a crashed fold is started again from its last epoch before the run fails.
    """

    folds: TwoOrMore = 10
    val_fraction: OpenUnitInterval = 0.1
    carry_weights: bool = may_change(False)
    model: ModelName = "lenet5"
    hyperparameters: dict[str, str | int | float | bool] | None = None
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    patience: NonNegativeInt = 10
    cpus_per_fold: PositiveFloat = 1
    gpus_per_fold: NonNegativeFloat = 0
    concurrency: PositiveInt | Literal["auto"] = may_change("auto")
    max_failures: NonNegativeInt = may_change(3)
