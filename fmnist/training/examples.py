"""The data that the engine trains on, and its one copy on the device."""

from __future__ import annotations

from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
import tensorflow as tf


class Examples(Protocol):
    """Training data of a model: `fmnist.data.Images`, or features that a frozen network computed from images."""

    @property
    def inputs(self) -> np.ndarray:
        """The model's inputs, [n, ...]."""

    @property
    def labels(self) -> np.ndarray:
        """uint8 [n], 0 to 9."""

    def __len__(self) -> int: ...


# TensorFlow keeps every compiled function, with the tensors it uses, until the process ends. The images are converted
# once, so that a process which trains one model after the other keeps them once.
_tensors: WeakKeyDictionary[Examples, tuple[tf.Tensor, tf.Tensor]] = WeakKeyDictionary()


def on_device(examples: Examples) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns inputs and labels as tensors on TensorFlow's first device."""
    if examples not in _tensors:
        _tensors[examples] = tf.constant(examples.inputs), tf.constant(examples.labels)
    return _tensors[examples]
