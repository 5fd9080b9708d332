"""The typed configuration of each job: the only place where a default lives.

The command line, the YAML form, ``--print-config`` and the text of ``--help`` all come from these classes. Importing
this module imports nothing heavy.
"""

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

TRAIN = "train"


@dataclass(frozen=True)
class JobConfig:
    """What every job has.

    Attributes:
        data: Where the images are: auto (cache, Debian's package, download), a folder of IDX or CSV files, the train
            CSV of a pair, or an s3:// address of either.
        artifacts: The artifact store that the run folder goes to, a folder or s3://bucket/prefix.
        run_id: Name of the run, made from job and time if not given. The same id again resumes an unfinished run.
        overwrite: Replace a finished run of the same id instead of refusing.
        val_fraction: Share of the training images set aside for validation, stratified by class.
        seed: Of the split, the initial weights and the order of the images.
        limit: Use the first so many training images, after shuffling by the seed; all if not given.
    """

    data: str = "auto"
    artifacts: str = "artifacts"
    run_id: str | None = None
    overwrite: bool = False
    val_fraction: OpenUnitInterval = 0.2
    seed: NonNegativeInt = 0
    limit: PositiveInt | None = None


@dataclass(frozen=True)
class TrainConfig(JobConfig):
    """Trains one model, data-parallel, and leaves a finished run folder.

    Attributes:
        model: LeNet-5 as the study's notebook builds it, or exactly as published in 1998.
        epochs: Passes over the training images at most.
        batch_size: Images a step, over all workers together.
        learning_rate: Step size of the Adam optimizer.
        patience: Stop after this many epochs without a lower validation loss; 0 never stops early.
        precision: Of the products; weights stay float32. auto takes bfloat16 where the processor has instructions for
            it.
        xla: Compile the training step with XLA; auto does so on GPUs only, for on a CPU it is slower.
        workers: Data-parallel processes.
        cpus_per_worker: Processors of a worker, and so TensorFlow's threads; auto shares out what the cluster has.
        gpus_per_worker: GPUs of a worker, 0 to 1; a fraction shares one.
        max_failures: How often failed workers are started again from the last epoch before the run fails.
    """

    model: Literal["lenet5", "lenet5-1998"] = "lenet5"
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    patience: NonNegativeInt = 10
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    xla: Literal["auto", "on", "off"] = "auto"
    workers: PositiveInt = 1
    cpus_per_worker: PositiveFloat | Literal["auto"] = "auto"
    gpus_per_worker: NonNegativeFloat = 0
    max_failures: NonNegativeInt = 3
