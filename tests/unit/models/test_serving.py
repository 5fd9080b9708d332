"""A saved model predicts the same however it is called."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from fmnist.models.compiled import trainable
from fmnist.models.factory import build
from fmnist.models.serving import without_augmentation

IMAGES = (np.random.default_rng(0).uniform(0, 9, (32, 28, 28)) * np.arange(28)).astype("uint8")


def of_the_extended_space() -> keras.Model:
    return build("extended", {"translation": 2}, learning_rate=0.0, seed=0, precision="float32").model


def of_a_user() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((32, 32, 1)),
            keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.2)]),
            layers.Conv2D(4, 3),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return trainable(model).model


@pytest.mark.parametrize("build_model", [of_the_extended_space, of_a_user])
def test_plain_call_of_the_saved_model_does_not_augment(build_model, tmp_path: Path):
    model = build_model()
    expected = model.predict(IMAGES, verbose=0)

    without_augmentation(model).save(tmp_path / "model.keras")

    saved = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(np.asarray(saved(IMAGES)), expected, atol=1e-6)
    np.testing.assert_allclose(saved.predict(IMAGES, verbose=0), expected, atol=1e-6)
    assert not np.allclose(np.asarray(model(IMAGES)), expected, atol=1e-3)


def test_model_without_augmentation_is_left_alone():
    model = build("notebook", None, learning_rate=0.0, seed=0, precision="float32").model
    assert without_augmentation(model) is model
