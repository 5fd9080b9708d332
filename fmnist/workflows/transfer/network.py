"""A pretrained network with a new head: building, joining, unfreezing and diagnosing them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras import layers

from fmnist.data import Images
from fmnist.models import LOGITS
from fmnist.workflows.transfer.recipes import FACTS, Recipe
from fmnist.workflows.transfer.records import InputDiagnosis

_APPLICATIONS: dict[str, Callable[..., keras.Model]] = {
    "resnet152v2": keras.applications.ResNet152V2,
    "efficientnetb1": keras.applications.EfficientNetB1,
    "vgg16": keras.applications.VGG16,
}
BACKBONE, STANDARDISATION = "backbone", "standardisation"
BATCH_SIZE = 100


def build_backbone(name: str, image_size: int, *, seed: int) -> keras.Model:
    """Builds a whole backbone with random weights: float [n, image_size, image_size, 3] to a map of features."""
    keras.utils.set_random_seed(seed)
    return _APPLICATIONS[name](include_top=False, weights=None, input_shape=(image_size, image_size, 3))


def load_backbone(
    name: str, recipe: Recipe, weights: Path | None, *, published: bool = False, seed: int = 0
) -> keras.Model:
    """Builds a backbone up to the feature layer, not trainable, with the weights of a file or random ones by the seed.

    Args:
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
    """Returns a model of raw images to features: uint8 [n, 28, 28] to float32 [n, features]."""
    images = keras.Input((28, 28), dtype="uint8", name="images")
    return keras.Model(images, _features(backbone, recipe, images), name="features")


def backbone_input(recipe: Recipe) -> keras.Model:
    """Returns a model of raw images to a backbone's input: uint8 [n, 28, 28] to float32 [n, size, size, 3]."""
    images = keras.Input((28, 28), dtype="uint8", name="images")
    return keras.Model(images, _prepared(recipe, images), name="input")


def build_head(recipe: Recipe, features: int, *, seed: int) -> keras.Model:
    """Builds a head with random weights: float [n, features] to probabilities [n, 10]."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((features,), name="inputs")
    return keras.Model(inputs, _head(recipe, inputs), name="head")


def standardise(head: keras.Model, features: np.ndarray) -> None:
    """Sets the mean and variance of a head's standardisation, if it has one, to those of the training features.

    Variances below their mean are raised to it. Most features are 0 for most images: divided by their own small
    deviation, the few other values would dominate.
    """
    for layer in head.layers:
        if layer.name == STANDARDISATION:
            chunks = [features[start : start + 1000] for start in range(0, len(features), 1000)]
            mean = sum(chunk.sum(axis=0, dtype=np.float64) for chunk in chunks) / len(features)
            variance = sum(np.square(chunk - mean).sum(axis=0) for chunk in chunks) / len(features)
            layer.set_weights([mean, np.maximum(variance, variance.mean())])


def whole_model(backbone: keras.Model, recipe: Recipe, head: keras.Model | None = None) -> keras.Model:
    """Joins a backbone and a head into the served model: uint8 [n, 28, 28] to probabilities [n, 10].

    The head's weights are copied; without a head they are random.
    """
    images = keras.Input((28, 28), dtype="uint8", name="images")
    model = keras.Model(images, _head(recipe, _features(backbone, recipe, images)), name="transfer")
    if head is not None:
        for layer in head.layers:
            if layer.weights:
                model.get_layer(layer.name).set_weights(layer.get_weights())
    return model


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies the weights of a model to another one of the same architecture."""
    target.set_weights(source.get_weights())
    for layer in target._flatten_layers():
        # EfficientNet has one. It computes with a copy of its weights, which only loading a file updates.
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()


def unfreeze(model: keras.Model, backbone: str, recipe: Recipe, stages: int) -> None:
    """Makes that many of the last stages before the features trainable, in addition to the head.

    Batch normalisation stays frozen, because the statistics of 64 small grey images are worse than the pretrained ones.
    Calling the backbone with ``training=False`` does not freeze it: Keras 3 replaces the argument by the outer model's.
    A layer that is not trainable keeps its statistics however it is called.
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


def diagnose(name: str, recipe_name: str, recipe: Recipe, extractor: keras.Model, images: Images) -> InputDiagnosis:
    """Measures how well the features of some images separate their classes, without training.

    Args:
        extractor: raw images to the backbone's features, prepared as in ``recipe``.
        images: two or more of each class; every second one is held out.
    """
    inputs = backbone_input(recipe).predict(images.pixels, batch_size=BATCH_SIZE, verbose=0)
    features = extractor.predict(images.pixels, batch_size=BATCH_SIZE, verbose=0)
    size = np.abs(features).mean(axis=0)
    silent = size == 0
    spread = features.std(axis=0)[~silent] / size[~silent]
    return InputDiagnosis(
        backbone=name,
        recipe=recipe_name,
        low=float(inputs.min()),
        high=float(inputs.max()),
        spread=float(spread.mean()) if len(spread) else 0.0,
        silent_features=float(silent.mean()),
        separability=_separability(features.astype(np.float64), images.labels),
    )


def _separability(features: np.ndarray, labels: np.ndarray) -> float:
    """Returns the accuracy of a nearest-mean classifier on every second image, fitted to the others."""
    fitted, held_out = features[::2], features[1::2]
    classes = np.unique(labels[::2])
    means = np.stack([fitted[labels[::2] == label].mean(axis=0) for label in classes])
    # |x - m|^2 without |x|^2, which is the same for every mean.
    distances = (means**2).sum(axis=1) - 2 * held_out @ means.T
    return float((classes[distances.argmin(axis=1)] == labels[1::2]).mean())


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
    if recipe.pooling == "flatten":
        # Reshape, not Flatten: the size is known when the head is built.
        pool: keras.Layer = layers.Reshape((math.prod(x.shape[1:]),), dtype="float32", name="pooled")
    elif recipe.pooling == "avg":
        pool = layers.GlobalAveragePooling2D(dtype="float32", name="pooled")
    else:
        pool = layers.GlobalMaxPooling2D(dtype="float32", name="pooled")
    return pool(x)


def _head(recipe: Recipe, x: keras.KerasTensor) -> keras.KerasTensor:
    if recipe.standardise:
        # Keras' Normalization turns its weights into constants when it is built, which a checkpoint cannot restore.
        x = layers.BatchNormalization(
            center=False, scale=False, epsilon=1e-6, trainable=False, dtype="float32", name=STANDARDISATION
        )(x)
    if recipe.feature_dropout:
        x = layers.Dropout(recipe.feature_dropout, name="dropout_0")(x)
    for number, (units, dropout) in enumerate(zip(recipe.head_units, recipe.dropouts, strict=True), start=1):
        x = layers.Dense(units, activation="relu", name=f"hidden_{number}")(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"dropout_{number}")(x)
    logits = layers.Dense(10, name=LOGITS, dtype="float32")(x)
    return layers.Softmax(name="probabilities", dtype="float32")(logits)
