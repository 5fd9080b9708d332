"""The settings of the crossval job. Importing this imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import NonNegativeInt, OpenUnitInterval, PositiveFloat, PositiveInt

from fmnist.config import GpuShare, JobConfig, ModelName, TwoOrMore, gpu_share, may_change

CROSSVAL = "crossval"


@dataclass(frozen=True)
class CrossvalConfig(JobConfig):
    """Cross-validates one model: trains it from fresh weights for each fold and measures it on the held-out images.

    Attributes:
        folds: Number of stratified folds; each is held out once.
        val_fraction: Share of the images outside the held-out fold that validate the model and decide when to stop,
            stratified by class.
        seed: Seed of the folds and, with a fold's number, of its initial weights and the order of its images.
        carry_weights: Also run the study's protocol, which leaks: one model is trained through all folds, never reset,
            and stopped by the held-out images. Its folds run one after the other, at the same time as the others.
        model: lenet5 as the study's notebook builds it, lenet5-1998 exactly as published; or a point in a search space,
            notebook, extended, fast or module:function.
        hyperparameters: The point in the search space, as a search writes it into best.yaml; the space's defaults if
            not given. A learning_rate and a batch_size in it override those below.
        epochs: Maximum number of passes over a fold's training images.
        batch_size: Images per step.
        learning_rate: Step size of the Adam optimizer.
        patience: Stop a fold after this many epochs without a lower validation loss; 0 never stops early.
        cpus_per_fold: Processors of a fold, which is also the number of TensorFlow's threads.
        gpus_per_fold: GPUs of a fold, 0 to 1, or auto: 1 where there is one; with a fraction, folds share a GPU.
        concurrency: Maximum number of folds at once; auto is as many as the cluster has room for.
        max_failures: How often a killed fold is restarted from its last epoch before the run fails.
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
    gpus_per_fold: GpuShare = gpu_share()
    concurrency: PositiveInt | Literal["auto"] = may_change("auto")
    max_failures: NonNegativeInt = may_change(3)
