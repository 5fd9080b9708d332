"""What each backbone is fed with and what stands on it: the study's way and a sound one. Imports nothing heavy.

A *backbone* is a network trained on ImageNet, without its classifier. Its *features* are the output of one of its
layers, pooled into a vector; a *head* is the small network that turns them into ten probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from fmnist.errors import UserError
from fmnist.workflows.transfer.config import TransferConfig

Pooling = Literal["avg", "max", "flatten"]


@dataclass(frozen=True)
class Recipe:
    """From an image of 28x28 grey levels to ten probabilities, but for the backbone itself.

    Attributes:
        image_size: pixels along each side that the backbone sees.
        resize: whether images are scaled to that size, bilinearly; else they are framed with background.
        scale, offset: grey level (0-255) * scale + offset, one offset a channel, is what the backbone is fed with.
        feature_layer: name of the layer whose output is the features.
        pooling: how its map becomes a vector: the average or the maximum over all places, or all places one by one.
        standardise: whether features are brought to zero mean and at most unit variance over the training images.
        head_units: sizes of the hidden layers.
        feature_dropout: share of the features that is dropped in training.
        dropouts: share of each hidden layer that is dropped in training, one a layer.
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
    """What has to be known of a backbone without building it.

    Attributes:
        title: what people call it.
        stages: name of each stage's last layer, in order; the last one's output is the whole backbone's.
        keras_file: name of the published ImageNet weights without the classifier, as Keras caches them.
        keras_url: where Keras downloads them.
        keras_md5: of that file, as Keras checks it.
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


def _notebook(feature_layer: str, pooling: Pooling, units: tuple[int, ...], dropouts: tuple[float, ...]) -> Recipe:
    """The study's: framed to 32x32, 0-1 for every backbone."""
    return Recipe(32, False, 1 / 255, _NO_OFFSET, feature_layer, pooling, False, units, 0.0, dropouts)


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
        notebook=_notebook("post_relu", "max", (512,), (0.4,)),
    ),
    "efficientnetb1": BackboneFacts(
        title="EfficientNetB1",
        stages=(
            "block1b_add",
            "block2c_add",
            "block3c_add",
            "block4d_add",
            "block5d_add",
            "block6e_add",
            "top_activation",
        ),
        keras_file="efficientnetb1_notop.h5",
        keras_url=f"{_KERAS}keras-applications/",
        keras_md5="74c4e6b3e1f6a1eea24c589628592432",
        # It scales its input itself.
        sound=_sound(64, 1.0, _NO_OFFSET, "top_activation", "avg"),
        notebook=_notebook("top_activation", "flatten", (512, 128), (0.4, 0.0)),
    ),
    "vgg16": BackboneFacts(
        title="VGG16",
        stages=("block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_pool"),
        keras_file="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        keras_url=f"{_KERAS}tensorflow/keras-applications/vgg16/",
        keras_md5="6d6bbae143d832006294945121d1f1fc",
        # Size and layer by measurement: docs/results/transfer-vgg16.
        sound=_sound(48, 1.0, tuple(-mean for mean in _IMAGENET_MEAN), "block4_pool", "flatten"),  # type: ignore[arg-type]
        notebook=_notebook("block5_pool", "flatten", (1024, 512, 128), (0.4, 0.4, 0.0)),
    ),
}


def recipe_of(config: TransferConfig, backbone: str) -> Recipe:
    """Returns what a job's configuration says for one of its backbones.

    Raises:
        UserError: if a setting does not go with the recipe.
    """
    facts = FACTS[backbone]
    settings = ("image_size", "feature_layer", "pooling", "head_units", "dropout")
    changed = {name: value for name in settings if (value := getattr(config, name)) != "auto"}
    if config.recipe == "notebook":
        for name, value in {**changed, "fine_tune_epochs": config.fine_tune_epochs or None}.items():
            if value is not None:
                raise UserError(
                    f"{name}: found {value}, expected {'0' if name == 'fine_tune_epochs' else 'auto'}: "
                    "the recipe notebook is the study's model to the letter"
                )
        return facts.notebook
    layer = changed.get("feature_layer", facts.sound.feature_layer)
    if layer not in facts.stages:
        raise UserError(
            f"feature_layer: found {layer}, expected the end of a stage of {backbone}: {', '.join(facts.stages)}"
        )
    if config.fine_tune_epochs and config.fine_tune_stages > (stages := facts.stages.index(layer) + 1):
        raise UserError(
            f"fine_tune_stages: found {config.fine_tune_stages}, expected at most {stages}, the stages of {backbone} "
            f"up to {layer}"
        )
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
