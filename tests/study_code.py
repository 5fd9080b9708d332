"""The study's own code, as its text has it, in plain Keras: what ours is compared with.

Only what cannot run here is changed: ``tf.keras`` is Keras 3, and the three backbones take their weights as an argument
instead of a download.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import Model, Sequential, losses
from keras.applications import VGG16, EfficientNetB1, ResNet152V2
from keras.layers import Conv2D, Dense, Dropout, Flatten, GlobalMaxPooling2D, Input, MaxPooling2D
from keras.losses import CategoricalCrossentropy
from keras.optimizers import Adam


def prepared(x_train: np.ndarray) -> tf.Tensor:
    """Cells 34 to 36: rows of 784 pixels to [n, 32, 32, 1] from 0 to 1."""
    x_train1 = x_train.reshape(-1, 28, 28)
    x_train1 = tf.pad(x_train1, [[0, 0], [2, 2], [2, 2]]) / 255
    return tf.expand_dims(x_train1, axis=3, name=None)


def create_model(input_shape: Any) -> keras.Model:
    lenet_5_model = Sequential()
    lenet_5_model.add(
        Conv2D(filters=32, kernel_size=(5, 5), padding="same", activation="relu", input_shape=input_shape)
    )
    lenet_5_model.add(MaxPooling2D(strides=2))
    lenet_5_model.add(Conv2D(filters=48, kernel_size=(5, 5), padding="valid", activation="relu"))
    lenet_5_model.add(MaxPooling2D(strides=2))
    lenet_5_model.add(Flatten())
    lenet_5_model.add(Dense(256, activation="relu"))
    lenet_5_model.add(Dense(84, activation="relu"))
    lenet_5_model.add(Dense(10, activation="softmax"))
    lenet_5_model.build()
    lenet_5_model.compile(optimizer=Adam(), loss=losses.categorical_crossentropy, metrics=["accuracy"])
    return lenet_5_model


def model_builder(hp: Any) -> keras.Model:
    lenet_5_model = Sequential()
    lenet_5_model.add(
        Conv2D(
            filters=hp.Int("CONV_1_FILTER", min_value=32, max_value=64),
            kernel_size=hp.Choice("KERNEL_1_FILTER", values=[3, 5]),
            activation="relu",
            padding="same",
            input_shape=(32, 32, 1),
        )
    )
    lenet_5_model.add(MaxPooling2D(strides=2))
    lenet_5_model.add(Conv2D(filters=48, kernel_size=(5, 5), padding="valid", activation="relu"))
    lenet_5_model.add(
        Conv2D(
            filters=hp.Int("CONV_2_FILTER", min_value=32, max_value=128),
            kernel_size=hp.Choice("KERNEL_2_FILTER", values=[3, 5]),
            activation="relu",
            padding="valid",
        )
    )
    lenet_5_model.add(MaxPooling2D(strides=2))
    lenet_5_model.add(Flatten())
    lenet_5_model.add(Dense(256, activation="relu"))
    lenet_5_model.add(Dropout(hp.Float("DROPOUT_1", min_value=0.0, max_value=0.5, default=0.25, step=0.05)))
    lenet_5_model.add(Dense(84, activation="relu"))
    lenet_5_model.add(Dense(10, activation="softmax"))
    lenet_5_model.build()
    lenet_5_model.compile(optimizer=Adam(), loss=losses.categorical_crossentropy, metrics=["accuracy"])
    lenet_5_model.compile(
        Adam(hp.Float("learning_rate", min_value=1e-4, max_value=1e-2, sampling="LOG")),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    return lenet_5_model


def ResNet_builder(weights: str | None = "imagenet") -> keras.Model:  # noqa: N802
    img_input = Input(shape=(32, 32, 1))
    img_conc = keras.layers.Concatenate()([img_input, img_input, img_input])
    base_model = ResNet152V2(weights=weights, include_top=False, input_tensor=img_conc)
    x = base_model.output
    x = GlobalMaxPooling2D()(x)
    x = Dense(512, activation="relu")(x)
    x = Dropout(0.4)(x)
    predictions = Dense(10, activation="softmax")(x)
    return _compiled(base_model, predictions)


def EfficientNetB1_builder(weights: str | None = "imagenet") -> keras.Model:  # noqa: N802
    img_input = Input(shape=(32, 32, 1))
    img_conc = keras.layers.Concatenate()([img_input, img_input, img_input])
    base_model = EfficientNetB1(weights=weights, include_top=False, input_tensor=img_conc)
    x = base_model.output
    x = GlobalMaxPooling2D()(x)
    x = Dense(512, activation="relu")(x)
    x = Dropout(0.4)(x)
    x = Dense(128, activation="relu")(x)
    predictions = Dense(10, activation="softmax")(x)
    return _compiled(base_model, predictions)


def VGG16_builder(weights: str | None = "imagenet") -> keras.Model:  # noqa: N802
    img_input = Input(shape=(32, 32, 1))
    img_conc = keras.layers.Concatenate()([img_input, img_input, img_input])
    base_model = VGG16(weights=weights, include_top=False, input_tensor=img_conc)
    x = base_model.output
    x = GlobalMaxPooling2D()(x)
    x = Dense(1024, activation="relu")(x)
    x = Dropout(0.4)(x)
    x = Dense(512, activation="relu")(x)
    x = Dropout(0.4)(x)
    x = Dense(128, activation="relu")(x)
    predictions = Dense(10, activation="softmax")(x)
    return _compiled(base_model, predictions)


def _compiled(base_model: keras.Model, predictions: Any) -> keras.Model:
    """The last lines of the three builders, which are the same."""
    model = Model(inputs=base_model.input, outputs=predictions)
    for layer in base_model.layers:
        layer.trainable = False
    model.compile(optimizer=Adam(learning_rate=0.001), loss=CategoricalCrossentropy(), metrics=["accuracy"])
    return model


BACKBONE_BUILDERS = {
    "resnet152v2": ResNet_builder,
    "efficientnetb1": EfficientNetB1_builder,
    "vgg16": VGG16_builder,
}
