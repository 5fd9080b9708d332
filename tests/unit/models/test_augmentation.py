"""Random changes of images: the same numbers as Keras' layers, compiled too."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from fmnist.models.augmentation import RandomCrop, RandomShift


def images(height: int = 28, width: int = 28, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(6, height, width, channels)).astype("float32")


@examples(15)
@given(
    pixels=st.integers(1, 5),
    seed=st.integers(0, 2**31 - 1),
    height=st.integers(6, 30),
    width=st.integers(6, 30),
    channels=st.integers(1, 3),
)
def test_a_shift_has_the_numbers_of_keras_translation(pixels, seed, height, width, channels) -> None:
    given_images = images(height, width, channels)
    of_keras = layers.RandomTranslation(pixels / height, pixels / width, fill_mode="constant", seed=seed)

    shifted = RandomShift(pixels, seed=seed)(given_images, training=True)

    np.testing.assert_allclose(shifted, of_keras(given_images, training=True), atol=1e-5)


def test_a_checkpoint_with_keras_translation_fits() -> None:
    ours, of_keras = RandomShift(1), layers.RandomTranslation(0.1, 0.1)

    assert [v.shape for v in ours.variables] == [v.shape for v in of_keras.variables]


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_compiled_shift_moves_each_image_within_its_limits(precision: str) -> None:
    dot = np.zeros((200, 28, 28, 1), "float32")
    dot[:, 14, 14] = 1
    shift = RandomShift(2, seed=0, dtype=precision)

    compiled = tf.function(lambda x: shift(x, training=True), jit_compile=True)
    moved = np.asarray(compiled(dot), "float32")[..., 0]

    for axis in np.indices((28, 28)):
        distances = (moved * axis).sum(axis=(1, 2)) / moved.sum(axis=(1, 2)) - 14
        assert np.abs(distances).max() == pytest.approx(2, abs=0.1) and distances.min() < -1 < 1 < distances.max()


def test_a_shift_changes_nothing_at_prediction_and_survives_saving() -> None:
    shift = layers.deserialize(keras.saving.serialize_keras_object(RandomShift(3, seed=7, name="shift")))

    assert (shift.pixels, shift.seed, shift.name) == (3, 7, "shift")
    np.testing.assert_array_equal(shift(images(), training=False), images())


@examples(10)
@given(pixels=st.integers(0, 3), mirror=st.booleans(), seed=st.integers(0, 2**31 - 1), channels=st.integers(1, 2))
def test_a_crop_is_a_window_of_the_padded_image_or_of_its_mirror_image(pixels, mirror, seed, channels) -> None:
    given_images = np.random.default_rng(seed).integers(0, 256, (5, 9, 7, channels)).astype("uint8")

    cropped = np.asarray(RandomCrop(pixels, mirror=mirror, seed=seed)(given_images, training=True))

    assert cropped.dtype == "uint8"
    for image, found in zip(np.pad(given_images, [(0, 0), *[(pixels, pixels)] * 2, (0, 0)]), cropped, strict=True):
        windows = [
            image[down : down + 9, right : right + 7]
            for down in range(2 * pixels + 1)
            for right in range(2 * pixels + 1)
        ]
        windows += [window[:, ::-1] for window in windows] if mirror else []
        assert any(np.array_equal(window, found) for window in windows)


def test_a_compiled_crop_mirrors_half_of_the_images_and_shifts_them_evenly() -> None:
    dot = np.zeros((600, 28, 28, 1), "uint8")
    dot[:, 14, 10] = 1
    crop = RandomCrop(1, seed=0)

    compiled = tf.function(lambda x: crop(x, training=True), jit_compile=True)
    _, rows, columns, _ = np.nonzero(np.asarray(compiled(dot)))

    places, counts = np.unique(np.stack([rows, columns]), axis=1, return_counts=True)
    assert set(places[0]) == {13, 14, 15} and set(places[1]) == {9, 10, 11, 16, 17, 18}
    assert len(rows) == 600 and counts.min() > 600 / 18 / 2
