"""Probabilities of raw images."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from fmnist.training.inference import probabilities


def test_mirrored_averaging_is_the_mean_over_the_image_and_its_mirror_image() -> None:
    keras.utils.set_random_seed(0)
    images = keras.Input((28, 28), dtype="uint8")
    x = layers.Rescaling(1 / 255)(layers.Flatten()(images))
    model = keras.Model(images, layers.Dense(10, activation="softmax")(x))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype("uint8")
    plain, of_mirrors = probabilities(model, pixels), probabilities(model, pixels[:, :, ::-1])

    averaged = probabilities(model, pixels, mirrored=True)

    np.testing.assert_allclose(averaged, (plain + of_mirrors) / 2, atol=1e-6)
    np.testing.assert_allclose(averaged.sum(axis=1), 1, atol=1e-6)
    assert np.abs(averaged - plain).max() > 0.01
    np.testing.assert_array_equal(averaged, probabilities(model, pixels[:, :, ::-1], mirrored=True))
