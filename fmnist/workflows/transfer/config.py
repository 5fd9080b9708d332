"""The settings of the transfer job. Importing this imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from fmnist.config import GpuShare, JobConfig, gpu_share, may_change, number_type

TRANSFER = "transfer"
BACKBONES = ("resnet152v2", "efficientnetb1", "vgg16")
RECIPES = ("notebook", "sound")

DropoutRate = number_type("DropoutRate", float, [(">=", 0), ("<", 1)], "a number of 0 or more and below 1")
# Below 32 pixels the output of a backbone's last stage is empty.
ImageSize = number_type("ImageSize", int, (">=", 32), "a whole number of 32 or more")


@dataclass(frozen=True)
class TransferConfig(JobConfig):
    """Trains a new head on a network pretrained on ImageNet, then its last stages if configured.

    Attributes:
        backbone: The pretrained network, or all three one after the other.
        recipe: sound prepares images as in pretraining, at a sufficient size; notebook repeats the study's model to the
            letter.
        weights: imagenet for those that Keras publishes; a file (.h5 or .weights.h5) or its s3:// address; a folder or
            s3:// prefix of files named after the backbones, as `fmnist weights fetch` stages them; or none.
        image_size: Pixels along each side to which images are resized; auto takes the recipe's.
        feature_layer: Layer of the backbone whose output is the features; auto takes the recipe's.
        pooling: Reduction of a map of features to a vector; auto takes the recipe's.
        head_units: Sizes of the head's hidden layers; auto takes the recipe's.
        dropout: Dropout rate of the features and of each hidden layer; auto takes the recipe's.
        epochs: Maximum number of passes over the features of the training images.
        batch_size: Images in a step, over all workers together.
        learning_rate: Step size of the Adam optimizer while the backbone is frozen; in the sound recipe the peak of a
            cosine schedule with a warm-up.
        patience: Stop after this many epochs without a lower validation loss; 0 never stops early.
        fine_tune_epochs: Passes over the training images that also train the backbone's last stages; 0 for none.
        fine_tune_stages: Number of stages before the features that are fine-tuned.
        fine_tune_learning_rate: Peak step size of fine-tuning, of a cosine schedule with a warm-up.
        compare_with: A finished train run of the same store, for comparison in the report; by default the newest one of
            lenet5.
        images_per_shard: Images whose features one task computes; a killed task loses as many.
        cpus_per_shard: Processors of such a task; as many tasks run at once as the cluster has room for.
        gpus_per_shard: GPUs of such a task, 0 to 1, or auto: 1 where there is one; a fraction shares one.
        workers: Data-parallel processes of the training.
        cpus_per_worker: Processors of a worker; auto divides those of the cluster.
        gpus_per_worker: GPUs of a worker, 0 to 1, or auto: 1 where there is one; a fraction shares one.
        max_failures: Retries of a killed task, and restarts of failed workers, before the run fails.
    """

    backbone: Literal["resnet152v2", "efficientnetb1", "vgg16", "all"] = "all"
    recipe: Literal["sound", "notebook"] = "sound"
    weights: str = "imagenet"
    image_size: ImageSize | Literal["auto"] = "auto"  # type: ignore[valid-type]
    feature_layer: str = "auto"
    pooling: Literal["auto", "avg", "max", "flatten"] = "auto"
    head_units: list[PositiveInt] | Literal["auto"] = "auto"
    dropout: DropoutRate | Literal["auto"] = "auto"  # type: ignore[valid-type]
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    patience: NonNegativeInt = 10
    fine_tune_epochs: NonNegativeInt = 0
    fine_tune_stages: PositiveInt = 1
    fine_tune_learning_rate: PositiveFloat = 1e-4
    compare_with: str | None = may_change(None)
    images_per_shard: PositiveInt = 2000
    cpus_per_shard: PositiveFloat = 1
    gpus_per_shard: GpuShare = gpu_share()
    workers: PositiveInt = may_change(1)
    cpus_per_worker: PositiveFloat | Literal["auto"] = may_change("auto")
    gpus_per_worker: GpuShare = gpu_share()
    max_failures: NonNegativeInt = may_change(3)
