"""The settings of the transfer job. Importing this imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from fmnist.config import JobConfig, may_change, number_type

TRANSFER = "transfer"
BACKBONES = ("resnet152v2", "efficientnetb1", "vgg16")
RECIPES = ("notebook", "sound")

DropoutRate = number_type("DropoutRate", float, [(">=", 0), ("<", 1)], "a number of 0 or more and below 1")
# Below 32 pixels a backbone's last stage would see nothing.
ImageSize = number_type("ImageSize", int, (">=", 32), "a whole number of 32 or more")


@dataclass(frozen=True)
class TransferConfig(JobConfig):
    """Trains a new head on a network that was trained on ImageNet, then its last stages if wanted.

    Attributes:
        backbone: The pretrained network, or all three one after the other.
        recipe: sound feeds the network what it was trained on, at a size that it can use; notebook repeats the study's
            model to the letter.
        weights: imagenet for those that Keras publishes; a file (.h5 or .weights.h5) or its s3:// address; a folder or
            s3:// prefix of files named after the backbones, as `fmnist weights fetch` stages them; or none.
        image_size: Pixels along each side that images are resized to; auto is the recipe's.
        feature_layer: Layer of the backbone whose output is the features; auto is the recipe's.
        pooling: How a map of features becomes a vector; auto is the recipe's.
        head_units: Sizes of the head's hidden layers; auto is the recipe's.
        dropout: Share of the features and of each hidden layer that is dropped in training; auto is the recipe's.
        epochs: Passes over the training images' features at most.
        batch_size: Images a step, over all workers together.
        learning_rate: Step size of the Adam optimizer while the backbone is frozen; in the sound recipe the highest one
            of a cosine with a warm-up.
        patience: Stop after this many epochs without a lower validation loss; 0 never stops early.
        fine_tune_epochs: Passes over the training images that also train the backbone's last stages; 0 for none.
        fine_tune_stages: How many of the stages before the features are trained then.
        fine_tune_learning_rate: Highest step size then, of a cosine with a warm-up.
        compare_with: A finished train run of the same store that the report shows beside the backbones; the newest one
            of lenet5 if not given.
        images_per_shard: Images whose features one task computes, and that a killed task costs.
        cpus_per_shard: Processors of such a task; as many run at once as the cluster has room for.
        gpus_per_shard: GPUs of such a task, 0 to 1; a fraction shares one.
        workers: Data-parallel processes of the training.
        cpus_per_worker: Processors of such a worker; auto shares out what the cluster has.
        gpus_per_worker: GPUs of such a worker, 0 to 1; a fraction shares one.
        max_failures: How often a killed task is run again, and failed workers are started again, before the run fails.
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
    images_per_shard: PositiveInt = may_change(2000)
    cpus_per_shard: PositiveFloat = may_change(1)
    gpus_per_shard: NonNegativeFloat = may_change(0)
    workers: PositiveInt = may_change(1)
    cpus_per_worker: PositiveFloat | Literal["auto"] = may_change("auto")
    gpus_per_worker: NonNegativeFloat = may_change(0)
    max_failures: NonNegativeInt = may_change(3)
