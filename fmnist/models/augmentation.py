"""Layers that change each image at random in training, of operations that XLA compiles.

Keras' own layers of this kind use an operation that XLA does not have, except `keras.layers.RandomFlip`.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


class RandomImageLayer(layers.Layer):
    """Base of such layers: a subclass defines `augment`. A saved model has none of them.

    Shapes:
        float [n, height, width, channels] to the same.

    Args:
        seed: of the random numbers; drawn from Python's `random` if None, as Keras' layers do.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        # One variable, as Keras' layers have, so that each loads the other's checkpoint.
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, images: keras.KerasTensor, training: bool = True) -> keras.KerasTensor:
        # training=True as in Keras' augmentation, by which `fmnist.models.serving` knows such a layer.
        return self.augment(images) if training else images

    def augment(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the images, each changed by random numbers of its own."""
        raise NotImplementedError

    def uniform(self, images: keras.KerasTensor, low: float, high: float) -> keras.KerasTensor:
        """Returns a random number in [low, high) for each image: float32 [n, 1, 1, 1], new ones in each call."""
        return keras.random.uniform((ops.shape(images)[0], 1, 1, 1), low, high, "float32", seed=self.generator)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable("fmnist")
class RandomShift(RandomImageLayer):
    """Shifts each image by up to ``pixels`` up or down, and left or right, between pixels too; zeros come in.

    The numbers are those of ``RandomTranslation(pixels / height, pixels / width, fill_mode="constant")`` of Keras, from
    the same random numbers.

    Args:
        pixels: the farthest shift, 1 or more. The cost grows with it.
    """

    def __init__(self, pixels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pixels = pixels

    def augment(self, images: keras.KerasTensor) -> keras.KerasTensor:
        pixels = self.pixels
        for axis in (1, 2):
            shift = self.uniform(images, -pixels, pixels)
            padded = ops.pad(images, [(pixels, pixels) if side == axis else (0, 0) for side in range(4)])
            moved = []
            for whole in range(-pixels, pixels + 1):
                # Linear interpolation: only the whole shifts on both sides of the random one weigh more than zero.
                weight = ops.cast(ops.relu(1 - ops.abs(shift - whole)), images.dtype)
                window = slice(pixels - whole, pixels - whole + images.shape[axis])
                moved.append(weight * (padded[:, window] if axis == 1 else padded[:, :, window]))
            images = sum(moved)
        return images

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pixels": self.pixels}


@keras.saving.register_keras_serializable("fmnist")
class RandomCrop(RandomImageLayer):
    """Mirrors half of the images, and shifts each by up to ``pixels`` whole pixels along both axes; zeros come in.

    Both are one gather, before the images are scaled: the cheapest augmentation on a CPU.

    Args:
        pixels: the farthest shift, 0 or more.
        mirror: whether images are mirrored.
    """

    def __init__(self, pixels: int, mirror: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pixels, self.mirror = pixels, mirror

    def augment(self, images: keras.KerasTensor) -> keras.KerasTensor:
        height, width = images.shape[1:3]
        padding = (self.pixels, self.pixels)
        images = ops.pad(images, [(0, 0), padding, padding, (0, 0)])
        rows, columns = (ops.reshape(ops.arange(size), (1, size)) for size in (height, width))
        if self.mirror:
            columns = ops.where(self.uniform(images, 0, 1)[:, :, 0, 0] < 0.5, columns, width - 1 - columns)
        if self.pixels:
            down, right = (
                ops.cast(ops.floor(self.uniform(images, 0, 2 * self.pixels + 1)[:, :, 0, 0]), "int32") for _ in range(2)
            )
            rows, columns = rows + down, columns + right
        count, channels = ops.shape(images)[0], images.shape[3]
        starts = ops.arange(count)[:, None, None] * (images.shape[1] * images.shape[2])
        places = starts + rows[:, :, None] * images.shape[2] + columns[:, None, :]
        return ops.take(ops.reshape(images, (-1, channels)), places, axis=0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pixels": self.pixels, "mirror": self.mirror}
