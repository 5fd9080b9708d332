"""Search spaces in keras-tuner's language: functions of its ``HyperParameters`` that build a compiled Keras model.

Any such function can be searched, also one of your own: ``fmnist tune --space module:function``. See
docs/search-spaces.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

from fmnist.models.augmentation import RandomCrop, RandomShift
from fmnist.models.optimizers import KernelMuon
from fmnist.models.schedules import CosineWithWarmup

if TYPE_CHECKING:
    from keras_tuner import HyperParameters


# Of the published training images, scaled to 0-1.
MEAN, DEVIATION = 0.286, 0.353


def notebook(hp: HyperParameters) -> keras.Model:
    """The study's space: six hyper-parameters around a fixed convolution of 48 maps.

    Names, ranges, defaults and the layers' order are the study's: the searched second convolution is directly behind
    the fixed one, and both are before the second pooling. tests/unit/models/test_study.py compares it with the study's
    own code.
    """
    images = keras.Input((28, 28), dtype="uint8", name="images")
    x = layers.Reshape((28, 28, 1))(images)
    x = layers.ZeroPadding2D(2)(x)
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(
        hp.Int("CONV_1_FILTER", 32, 64), hp.Choice("KERNEL_1_FILTER", [3, 5]), padding="same", activation="relu"
    )(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(48, 5, activation="relu")(x)
    x = layers.Conv2D(hp.Int("CONV_2_FILTER", 32, 128), hp.Choice("KERNEL_2_FILTER", [3, 5]), activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(256, activation="relu")(x)
    x = layers.Dropout(hp.Float("DROPOUT_1", 0, 0.5, step=0.05, default=0.25))(x)
    x = layers.Dense(84, activation="relu")(x)
    model = _classifier(images, x, "notebook")
    model.compile(
        keras.optimizers.Adam(hp.Float("learning_rate", 1e-4, 1e-2, sampling="log")),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def extended(hp: HyperParameters) -> keras.Model:
    """A larger space, whose models have at most the 504,342 parameters of the study's LeNet-5.

    Three blocks of 3x3 convolutions, each followed by pooling. Augmentation layers are part of the model: they run in
    the graph, and only in training. All models mirror images at random, because clothes are symmetric; the search does
    not decide it, because trials of a few epochs end before it helps.
    """
    normalize = hp.Boolean("batch_normalization", default=True)
    images = keras.Input((28, 28), dtype="uint8", name="images")
    x = layers.Reshape((28, 28, 1))(images)
    x = layers.Rescaling(1 / 255)(x)
    x = layers.RandomFlip("horizontal")(x)
    if pixels := hp.Choice("translation", [0, 1, 2], default=1):
        x = RandomShift(pixels)(x)
    x = _block(x, hp.Int("filters_1", 16, 32, step=8), 1, normalize)
    convolutions = hp.Choice("convolutions", [1, 2])
    x = _block(x, hp.Int("filters_2", 48, 64, step=8), convolutions, normalize)
    x = _block(x, hp.Int("filters_3", 96, 128, step=16), convolutions, normalize)
    x = layers.Flatten()(x)
    dropout = hp.Float("dropout", 0, 0.4, step=0.1)
    x = layers.Dropout(dropout)(x)
    x = _activated(layers.Dense(hp.Int("units", 96, 160, step=32), use_bias=not normalize)(x), normalize)
    x = layers.Dropout(dropout)(x)
    model = _classifier(images, x, "extended")

    # The training reads it, see `fmnist.config.batch_size_of`.
    hp.Choice("batch_size", [64, 128])
    learning_rate = hp.Float("learning_rate", 1e-3, 1e-2, sampling="log")
    if hp.Choice("schedule", ["constant", "cosine"], default="cosine") == "cosine":
        learning_rate = CosineWithWarmup(learning_rate)
    optimizer = hp.Choice("optimizer", ["adam", "adamw"], default="adamw")
    with hp.conditional_scope("optimizer", ["adamw"]):
        weight_decay = hp.Float("weight_decay", 1e-4, 1e-1, sampling="log")
    model.compile(
        keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay)
        if optimizer == "adamw"
        else keras.optimizers.Adam(learning_rate),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=hp.Choice("label_smoothing", [0.0, 0.05, 0.1])),
        metrics=["accuracy"],
    )
    return model


def fast(hp: HyperParameters) -> keras.Model:
    """Three convolutions on 14, 14 and 7 pixels or, with strides instead of pooling, on 14, 7 and 4.

    Small networks that train in a minute: the recipes `fast-…` of the train job are points of it. The first
    convolution has a stride of 2: at full size it would take most of the time. Mirroring and shifts are part of the
    model and run in training only.
    """
    filters = hp.Int("filters", 8, 48, step=4, default=16)
    pooling = hp.Choice("pooling", ["max", "stride"], default="max")
    images = keras.Input((28, 28), dtype="uint8", name="images")
    x = layers.Reshape((28, 28, 1))(images)
    x = RandomCrop(hp.Int("translation", 0, 3, default=1))(x)
    x = layers.Rescaling(1 / (255 * DEVIATION), -MEAN / DEVIATION)(x)
    x = _convolution(x, filters, 5, strides=2)
    for factor in (2, 4):
        x = _convolution(x, factor * filters, 3, strides=2 if pooling == "stride" else 1)
        if pooling == "max":
            x = layers.MaxPooling2D(2)(x)
    logits = layers.Dense(10, name="logits", dtype="float32")(layers.Flatten()(x))
    model = keras.Model(images, layers.Softmax(name="probabilities", dtype="float32")(logits), name="fast")

    # The training reads it, see `fmnist.config.batch_size_of`.
    hp.Choice("batch_size", [128, 256, 512], default=256)
    learning_rate = CosineWithWarmup(hp.Float("learning_rate", 3e-3, 1e-1, sampling="log", default=0.01), warmup=0.2)
    weight_decay = hp.Float("weight_decay", 1e-3, 1, sampling="log", default=0.02)
    if hp.Choice("optimizer", ["adamw", "muon"], default="adamw") == "muon":
        with hp.conditional_scope("optimizer", ["muon"]):
            ratio = hp.Float("adam_lr_ratio", 0.05, 1, sampling="log", default=0.5)
        optimizer = KernelMuon(
            learning_rate,
            weight_decay=weight_decay,
            adam_weight_decay=0,
            adam_lr_ratio=ratio,
            adam_beta_2=0.99,
            momentum=0.9,
            exclude_layers=["logits"],
        )
    else:
        optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay, beta_2=0.99)
    smoothing = hp.Choice("label_smoothing", [0.0, 0.05, 0.1, 0.2], default=0.1)
    model.compile(optimizer, loss=keras.losses.CategoricalCrossentropy(label_smoothing=smoothing), metrics=["accuracy"])
    return model


def _block(x: keras.KerasTensor, filters: int, convolutions: int, normalize: bool) -> keras.KerasTensor:
    for _ in range(convolutions):
        x = _activated(layers.Conv2D(filters, 3, padding="same", use_bias=not normalize)(x), normalize)
    return layers.MaxPooling2D(2)(x)


def _activated(x: keras.KerasTensor, normalize: bool) -> keras.KerasTensor:
    if normalize:
        # Keras' default of 0.99 needs more steps than the first epochs of a trial have.
        x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x)


def _classifier(images: keras.KerasTensor, x: keras.KerasTensor, name: str) -> keras.Model:
    logits = layers.Dense(10, name="logits", dtype="float32")(x)
    return keras.Model(images, layers.Softmax(name="probabilities", dtype="float32")(logits), name=name)


def _convolution(x: keras.KerasTensor, filters: int, side: int, strides: int) -> keras.KerasTensor:
    x = layers.Conv2D(filters, side, strides=strides, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


SPACES = {"notebook": notebook, "extended": extended, "fast": fast}
