"""The recipes of each backbone's input, features and head: the study's and a sound one. Imports nothing heavy.

A *backbone* is a network pretrained on ImageNet, without its classifier. Its *features* are the output of one of its
layers, pooled into a vector. A *head* is a small network from features to ten probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from fmnist.errors import UserError
from fmnist.workflows.transfer.config import TransferConfig

Pooling = Literal["avg", "max", "flatten"]


@dataclass(frozen=True)
class Recipe:
    """Everything between an image of 28x28 grey levels and ten probabilities, except the backbone.

    Attributes:
        image_size: pixels along each side of the backbone's input.
        resize: whether images are resized to that size, bilinearly; otherwise they are padded with background.
        scale, offset: the backbone's input is grey level (0-255) * scale + offset, with an offset for each channel.
        feature_layer: name of the layer whose output is the features.
        pooling: of the layer's output: average or maximum over all positions, or flattened.
        standardise: whether features are standardised to zero mean and at most unit variance over the training images.
        head_units: sizes of the hidden layers.
        feature_dropout: dropout rate of the features.
        dropouts: dropout rate of each hidden layer.
    """

    image_size: int
    resize: bool
    scale: float
    offset: tuple[float, float, float]
    feature_layer: str
    pooling: Pooling
    standardise: bool
    head_units: tuple[int, ...]
    feature_dropout: float
    dropouts: tuple[float, ...]


@dataclass(frozen=True)
class BackboneFacts:
    """Facts about a backbone that are known without building it.

    Attributes:
        title: its name in text.
        stages: name of the last layer of each stage, in order.
        keras_file, keras_url, keras_md5: name, folder's address and checksum of the published ImageNet weights without
            the classifier, as in Keras.
        sound, notebook: the recipes.
    """

    title: str
    stages: tuple[str, ...]
    keras_file: str
    keras_url: str
    keras_md5: str
    sound: Recipe
    notebook: Recipe


_KERAS = "https://storage.googleapis.com/"
_NO_OFFSET = (0.0, 0.0, 0.0)
# The mean of ImageNet's images in the order blue, green, red; grey is the same in any order.
_IMAGENET_MEAN = (103.939, 116.779, 123.68)


def _notebook(feature_layer: str, units: tuple[int, ...], dropouts: tuple[float, ...]) -> Recipe:
    """Returns the study's recipe: images padded to 32x32, 0 to 1 for every backbone, and global max pooling."""
    return Recipe(32, False, 1 / 255, _NO_OFFSET, feature_layer, "max", False, units, 0.0, dropouts)


def _sound(
    image_size: int, scale: float, offset: tuple[float, float, float], feature_layer: str, pooling: Pooling
) -> Recipe:
    return Recipe(image_size, True, scale, offset, feature_layer, pooling, True, (512,), 0.5, (0.5,))


FACTS: dict[str, BackboneFacts] = {
    "resnet152v2": BackboneFacts(
        title="ResNet152V2",
        stages=("pool1_pool", "conv2_block3_out", "conv3_block8_out", "conv4_block36_out", "post_relu"),
        keras_file="resnet152v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        keras_url=f"{_KERAS}tensorflow/keras-applications/resnet/",
        keras_md5="ed17cf2e0169df9d443503ef94b23b33",
        sound=_sound(64, 1 / 127.5, (-1.0, -1.0, -1.0), "post_relu", "avg"),
        notebook=_notebook("post_relu", (512,), (0.4,)),
    ),
    "efficientnetb1": BackboneFacts(
        title="EfficientNetB1",
        stages=(
            *("block1b_add", "block2c_add", "block3c_add", "block4d_add", "block5d_add", "block6e_add"),
            "top_activation",
        ),
        keras_file="efficientnetb1_notop.h5",
        keras_url=f"{_KERAS}keras-applications/",
        keras_md5="74c4e6b3e1f6a1eea24c589628592432",
        # The network scales its input itself.
        sound=_sound(64, 1.0, _NO_OFFSET, "top_activation", "avg"),
        notebook=_notebook("top_activation", (512, 128), (0.4, 0.0)),
    ),
    "vgg16": BackboneFacts(
        title="VGG16",
        stages=("block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_pool"),
        keras_file="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        keras_url=f"{_KERAS}tensorflow/keras-applications/vgg16/",
        keras_md5="6d6bbae143d832006294945121d1f1fc",
        # Size and layer by measurement: docs/results/transfer-vgg16.
        sound=_sound(48, 1.0, tuple(-mean for mean in _IMAGENET_MEAN), "block4_pool", "flatten"),  # type: ignore[arg-type]
        notebook=_notebook("block5_pool", (1024, 512, 128), (0.4, 0.4, 0.0)),
    ),
}


def recipe_of(config: TransferConfig, backbone: str) -> Recipe:
    """Returns the recipe of a job's configuration for one of its backbones.

    Raises:
        UserError: if a setting contradicts the recipe.
    """
    facts = FACTS[backbone]
    settings = ("image_size", "feature_layer", "pooling", "head_units", "dropout")
    changed = {name: value for name in settings if (value := getattr(config, name)) != "auto"}
    if config.recipe == "notebook":
        refused = {name: (value, "auto") for name, value in changed.items()}
        if config.fine_tune_epochs:
            refused["fine_tune_epochs"] = (config.fine_tune_epochs, "0")
        for name, (value, expected) in refused.items():
            reason = "the recipe notebook is the study's model to the letter"
            raise UserError(f"{name}: found {value}, expected {expected}: {reason}")
        return facts.notebook
    layer = changed.get("feature_layer", facts.sound.feature_layer)
    if layer not in facts.stages:
        expected = f"the end of a stage of {backbone}: {', '.join(facts.stages)}"
        raise UserError(f"feature_layer: found {layer}, expected {expected}")
    if config.fine_tune_epochs and config.fine_tune_stages > (stages := facts.stages.index(layer) + 1):
        expected = f"at most {stages}, the stages of {backbone} up to {layer}"
        raise UserError(f"fine_tune_stages: found {config.fine_tune_stages}, expected {expected}")
    units = tuple(changed.get("head_units", facts.sound.head_units))
    dropout = changed.get("dropout")
    return replace(
        facts.sound,
        image_size=changed.get("image_size", facts.sound.image_size),
        feature_layer=layer,
        pooling=changed.get("pooling", facts.sound.pooling),
        head_units=units,
        feature_dropout=facts.sound.feature_dropout if dropout is None else dropout,
        dropouts=(facts.sound.dropouts[0] if dropout is None else dropout,) * len(units),
    )
