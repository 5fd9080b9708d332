"""A search space of small networks that train in a minute; the recipes `fast-…` of the train job are points of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

from fmnist.models.augmentation import RandomCrop
from fmnist.models.optimizers import KernelMuon
from fmnist.models.schedules import CosineWithWarmup

if TYPE_CHECKING:
    from keras_tuner import HyperParameters

# Of the published training images, scaled to 0-1.
MEAN, DEVIATION = 0.286, 0.353


def fast(hp: HyperParameters) -> keras.Model:
    """Three convolutions on 14, 14 and 7 pixels or, with strides instead of pooling, on 14, 7 and 4.

    The first convolution has a stride of 2: at full size it would take most of the time. Mirroring and shifts are part
    of the model and run in training only.
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


def _convolution(x: keras.KerasTensor, filters: int, side: int, strides: int) -> keras.KerasTensor:
    x = layers.Conv2D(filters, side, strides=strides, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
