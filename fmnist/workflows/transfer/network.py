"""A pretrained network with a new head: how both are built, joined and taken apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras import layers

from fmnist.models import LOGITS
from fmnist.workflows.transfer.recipes import FACTS, Recipe

_APPLICATIONS: dict[str, Callable[..., keras.Model]] = {
    "resnet152v2": keras.applications.ResNet152V2,
    "efficientnetb1": keras.applications.EfficientNetB1,
    "vgg16": keras.applications.VGG16,
}
BACKBONE, HEAD, STANDARDISATION = "backbone", "head", "standardisation"
STANDARDISATION_EPSILON = 1e-6


def build_backbone(name: str, image_size: int, *, seed: int) -> keras.Model:
    """Builds the whole of a backbone, with fresh weights.

    Args:
        name: a key of `fmnist.workflows.transfer.recipes.FACTS`.
        image_size: pixels along each side, 32 or more.
        seed: of the weights.

    Returns:
        float [n, image_size, image_size, 3] to a map of features.
    """
    keras.utils.set_random_seed(seed)
    return _APPLICATIONS[name](include_top=False, weights=None, input_shape=(image_size, image_size, 3))


def load_backbone(
    name: str, recipe: Recipe, weights: Path | None, *, published: bool = False, seed: int = 0
) -> keras.Model:
    """Builds a backbone up to the layer that gives the features, with pretrained weights, not trainable.

    Args:
        weights: a file of the whole backbone's; fresh weights by the seed if None.
        published: whether the file is the one that Keras publishes.

    Raises:
        UserError: if the file is another network's.
    """
    whole = build_backbone(name, recipe.image_size, seed=seed)
    if weights is not None:
        from fmnist.workflows.transfer.pretrained import load_pretrained

        load_pretrained(whole, weights, published=published, backbone=name)
    backbone = keras.Model(whole.input, whole.get_layer(recipe.feature_layer).output, name=BACKBONE)
    backbone.trainable = False
    return backbone


def feature_extractor(backbone: keras.Model, recipe: Recipe) -> keras.Model:
    """Returns what turns raw images into features: uint8 [n, 28, 28] to float32 [n, features]."""
    images = keras.Input((28, 28), dtype="uint8", name="images")
    return keras.Model(images, _features(backbone, recipe, images), name="features")


def backbone_input(recipe: Recipe) -> keras.Model:
    """Returns what turns raw images into a backbone's input: uint8 [n, 28, 28] to float32 [n, size, size, 3]."""
    images = keras.Input((28, 28), dtype="uint8", name="images")
    return keras.Model(images, _prepared(recipe, images), name="input")


def build_head(recipe: Recipe, features: int, *, seed: int) -> keras.Model:
    """Builds a head with fresh weights: float [n, features] to probabilities [n, 10]."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((features,), name="inputs")
    return keras.Model(inputs, _head(recipe, inputs), name=HEAD)


def standardise(head: keras.Model, features: np.ndarray) -> None:
    """Tells a head's standardisation, if it has one, the mean and variance of the training images' features.

    A feature that varies less than they do on average is taken for varying as much: most are 0 for most images, and
    divided by their own little deviation the few images that have them would shout.
    """
    for layer in head.layers:
        if layer.name == STANDARDISATION:
            chunks = [features[start : start + 1000] for start in range(0, len(features), 1000)]
            mean = sum(chunk.sum(axis=0, dtype=np.float64) for chunk in chunks) / len(features)
            variance = sum(np.square(chunk - mean).sum(axis=0) for chunk in chunks) / len(features)
            layer.set_weights([mean, np.maximum(variance, variance.mean())])


def whole_model(backbone: keras.Model, recipe: Recipe, head: keras.Model | None = None) -> keras.Model:
    """Joins a backbone and a head into the model that is served: uint8 [n, 28, 28] to probabilities [n, 10].

    Args:
        head: whose weights the model gets; its own are fresh if None.
    """
    images = keras.Input((28, 28), dtype="uint8", name="images")
    model = keras.Model(images, _head(recipe, _features(backbone, recipe, images)), name="transfer")
    if head is not None:
        for layer in head.layers:
            if layer.weights:
                model.get_layer(layer.name).set_weights(layer.get_weights())
    return model


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Gives a model the weights of another one of the same architecture."""
    target.set_weights(source.get_weights())
    for layer in target._flatten_layers():
        # EfficientNet has one. It computes with a copy of its weights that only loading from a file brings up to date.
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()


def unfreeze(model: keras.Model, backbone: str, recipe: Recipe, stages: int) -> None:
    """Makes the last stages before the features trainable, besides the head.

    Batch normalisation stays as it is, because the statistics of 64 small grey images would be worse than those that it
    came with. Calling the backbone with ``training=False`` would not ensure it: Keras 3 replaces the argument by the
    outer model's. A layer that is not trainable keeps its statistics however it is called.

    Args:
        backbone: its name.
        stages: how many.
    """
    ends = FACTS[backbone].stages
    last = ends.index(recipe.feature_layer)
    inner = model.get_layer(BACKBONE)
    names = [layer.name for layer in inner.layers]
    first = names.index(ends[last - stages]) + 1 if last >= stages else 0
    inner.trainable = True
    for position, layer in enumerate(inner.layers):
        layer.trainable = position >= first and not isinstance(layer, layers.BatchNormalization)


def dead_units(head: keras.Model, features: np.ndarray) -> tuple[float, ...]:
    """Returns the share of each hidden layer's units that are 0 for all of the features given."""
    hidden = [layer.output for layer in head.layers if layer.name.startswith("hidden")]
    if not hidden:
        return ()
    outputs = keras.Model(head.input, hidden).predict(features, batch_size=1000, verbose=0)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return tuple(float((output.max(axis=0) <= 0).mean()) for output in outputs)


def _prepared(recipe: Recipe, images: keras.KerasTensor) -> keras.KerasTensor:
    # In float32 whatever the backbone computes in: grey levels of 0-255 do not fit into bfloat16's eight bits.
    x = layers.Reshape((28, 28, 1))(images)
    if recipe.resize:
        x = layers.Resizing(recipe.image_size, recipe.image_size, dtype="float32", name="resized")(x)
    else:
        x = layers.ZeroPadding2D((recipe.image_size - 28) // 2, dtype="float32", name="framed")(x)
    x = layers.Concatenate(dtype="float32", name="channels")([x, x, x])
    return layers.Rescaling(recipe.scale, offset=list(recipe.offset), dtype="float32", name="scaled")(x)


def _features(backbone: keras.Model, recipe: Recipe, images: keras.KerasTensor) -> keras.KerasTensor:
    x = backbone(_prepared(recipe, images))
    pooled: keras.KerasTensor
    if recipe.pooling == "flatten":
        # The size is known, so that a head can be built before any image was seen.
        pooled = layers.Reshape((math.prod(x.shape[1:]),), dtype="float32", name="pooled")(x)
    else:
        pool = layers.GlobalAveragePooling2D if recipe.pooling == "avg" else layers.GlobalMaxPooling2D
        pooled = pool(dtype="float32", name="pooled")(x)
    return pooled


def _head(recipe: Recipe, x: keras.KerasTensor) -> keras.KerasTensor:
    if recipe.standardise:
        # Keras' Normalization turns its weights into constants when it is built, which a checkpoint cannot restore.
        x = layers.BatchNormalization(
            center=False,
            scale=False,
            epsilon=STANDARDISATION_EPSILON,
            trainable=False,
            dtype="float32",
            name=STANDARDISATION,
        )(x)
    if recipe.feature_dropout:
        x = layers.Dropout(recipe.feature_dropout, name="dropout_0")(x)
    for number, (units, dropout) in enumerate(zip(recipe.head_units, recipe.dropouts, strict=True), start=1):
        x = layers.Dense(units, activation="relu", name=f"hidden_{number}")(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"dropout_{number}")(x)
    logits = layers.Dense(10, name=LOGITS, dtype="float32")(x)
    return layers.Softmax(name="probabilities", dtype="float32")(logits)
