"""Settings of Keras and TensorFlow that all models of a process share, and whether a block changes them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf
from keras.src.utils.rng_utils import get_random_seed
from tensorflow.python.eager.context import global_seed

from fmnist.errors import UserError

# Settings of the whole process, with their values. A build sets Keras' itself, after the module was imported.
OF_KERAS: dict[str, Callable[[], Any]] = {
    "dtype policy": lambda: keras.config.dtype_policy().name,
    "floatx": keras.config.floatx,
    "image data format": keras.config.image_data_format,
    "epsilon": keras.config.epsilon,
    "random seed": get_random_seed,
}
OF_TENSORFLOW: dict[str, Callable[[], Any]] = {
    "devices": lambda: [device.name for device in tf.config.get_visible_devices()],
    "execution of functions": lambda: "eager" if tf.config.functions_run_eagerly() else "graphs",
    "compilation of every function": tf.config.optimizer.get_jit,
    "operations' threads": tf.config.threading.get_intra_op_parallelism_threads,
    "parallel operations": tf.config.threading.get_inter_op_parallelism_threads,
}


OF_RANDOMNESS: dict[str, Callable[[], Any]] = {"random seed": global_seed}


_EXPECTED = "expected no change of what all models of a process share; fmnist has settings of its own"


@contextmanager
def unchanged(who: str, settings: Mapping[str, Mapping[str, Callable[[], Any]]]) -> Iterator[None]:
    """Raises a UserError if the block changes settings of the process, which also count for the models after it."""

    def values() -> dict[str, Any]:
        return {f"{owner} {name}": value() for owner, all_of in settings.items() for name, value in all_of.items()}

    before = values()
    yield
    for name, value in values().items():
        if value != before[name]:
            raise UserError(f"{who} changes {name} from {before[name]} to {value}, {_EXPECTED}")


@contextmanager
def unseeded(who: str) -> Iterator[None]:
    """Raises a UserError if the block seeds Python's random numbers, from which Keras draws the seeds of layers."""
    calls, seed = [], random.seed

    def seed_and_count(*arguments: Any, **options: Any) -> None:
        calls.append(arguments)
        seed(*arguments, **options)

    random.seed = seed_and_count
    try:
        yield
    finally:
        random.seed = seed
    if calls:
        raise UserError(f"{who} calls random.seed, {_EXPECTED}")
