"""The settings of the train job. Importing this imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from fmnist.config import (
    GpuShare,
    JobConfig,
    ModelName,
    SettingError,
    WorkerRange,
    gpu_share,
    may_change,
    settled,
    worker_range,
)

TRAIN = "train"


@dataclass(frozen=True)
class TrainConfig(JobConfig):
    """Trains one model, data-parallel, and writes a run folder.

    Attributes:
        model: lenet5 is the study's notebook's, lenet5-1998 the published one; or a search space (notebook, extended,
            fast or module:function), of which hyperparameters is a point.
        hyperparameters: A point of the search space, as a search writes it to best.yaml; the space's defaults if not
            given. Its learning_rate and batch_size take precedence over the settings below.
        epochs: Maximum number of epochs.
        batch_size: Images per step, over all workers together.
        learning_rate: Learning rate of the Adam optimizer.
        patience: Stop after this many epochs without a lower validation loss; 0 disables it.
        workers: Data-parallel processes; a range such as 1:8 takes what the cluster has room for, and grows and shrinks
            with it.
        lanes: Slices of each batch, which the workers share. All numbers depend on the lanes and not on the workers.
            auto is one for each CPU of the workers, at least two, or one for each GPU.
        cpus_per_worker: CPUs of a worker, and so TensorFlow's threads; auto divides the cluster's CPUs among them.
        gpus_per_worker: GPUs of a worker, 0 to 1, or auto: 1 where there is one; a fraction shares one GPU.
        max_failures: How often failed workers are restarted from the last epoch before the run fails.
    """

    recipes: ClassVar[Path | None] = Path(__file__).parent / "recipes"

    model: ModelName = "lenet5"
    hyperparameters: dict[str, str | int | float | bool] | None = None
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    patience: NonNegativeInt = 10
    workers: PositiveInt | WorkerRange = may_change(1)
    lanes: PositiveInt | Literal["auto"] = settled()
    cpus_per_worker: PositiveFloat | Literal["auto"] = may_change("auto")
    gpus_per_worker: GpuShare = gpu_share()
    max_failures: NonNegativeInt = may_change(3)

    def __post_init__(self) -> None:
        super().__post_init__()
        least, most = worker_range(self.workers)
        if least > most:
            raise SettingError("workers", self.workers, WorkerRange)
