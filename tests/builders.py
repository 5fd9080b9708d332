"""keras-tuner builders as a user might bring them, some of which misbehave. ``--space builders:NAME``."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from fmnist.workflows.crossval.fold import fold_seed


def tiny(hp: Any) -> keras.Model:
    """A quick model of float images [n, 28, 28], as plain Keras users write them."""
    model = keras.Sequential([keras.Input((28, 28)), layers.Flatten()])
    for _ in range(hp.Int("layers", 1, 2)):
        model.add(layers.Dense(hp.Int("units", 8, 32, step=8), activation="relu"))
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(
        keras.optimizers.Adam(hp.Float("learning_rate", 1e-4, 1e-2, sampling="log")),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def failing_wide(hp: Any) -> keras.Model:
    """`tiny`, where every trial of more than 16 units fails."""
    model = tiny(hp)
    if hp.get("units") > 16 and _is_trial():
        raise NoRoomError(hp.get("units"), 16)
    return model


class NoRoomError(Exception):
    """An error that the driver does not know, and that pickle cannot make again from its text."""

    def __init__(self, units: int, limit: int) -> None:
        super().__init__(f"no room for {units} units")
        self.limit = limit


def failing(hp: Any) -> keras.Model:
    """`tiny`, where every trial fails."""
    model = tiny(hp)
    if _is_trial():
        raise RuntimeError("this builder is broken")
    return model


def regression(hp: Any) -> keras.Model:
    """A builder of something that is no classifier."""
    model = keras.Sequential([keras.Input((28, 28)), layers.Flatten(), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(hp.Float("learning_rate", 1e-4, 1e-2)), loss="mse")
    return model


def without_hyperparameters(hp: Any) -> keras.Model:
    """A builder that leaves nothing to search."""
    model = keras.Sequential([keras.Input((28, 28)), layers.Flatten(), layers.Dense(10, activation="softmax")])
    model.compile("adam", loss="sparse_categorical_crossentropy")
    return model


def not_to_be_loaded(hp: Any) -> keras.Model:
    """A builder of a model that Keras saves and refuses to load."""
    model = keras.Sequential([keras.Input((28, 28)), layers.Flatten(), layers.Lambda(lambda x: x * 2)])
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(keras.optimizers.Adam(hp.Float("learning_rate", 1e-4, 1e-2)), loss="sparse_categorical_crossentropy")
    return model


def exploding(hp: Any) -> keras.Model:
    """A model whose learning rate explodes after 40 steps."""
    hp.Int("units", 8, 32)
    model = keras.Sequential([keras.Input((28, 28)), layers.Flatten(), layers.Dense(10, activation="softmax")])
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([40], [1e-3, 1e30])
    model.compile(keras.optimizers.SGD(rate), loss="sparse_categorical_crossentropy")
    return model


def unlucky(hp: Any) -> keras.Model:
    """A model that diverges at once in the second fold of a cross-validation with seed 0."""
    from keras.src.utils.rng_utils import get_random_seed

    hp.Int("units", 8, 32)
    model = keras.Sequential([keras.Input((28, 28)), layers.Flatten(), layers.Dense(10, activation="softmax")])
    rate = 1e38 if get_random_seed() == fold_seed(0, 2) else 1e-3
    model.compile(keras.optimizers.SGD(rate), loss="sparse_categorical_crossentropy")
    return model


def _is_trial() -> bool:
    """Whether this process runs trials; the space is looked at in another one, before."""
    import ray

    return ray.get_runtime_context().get_actor_id() is not None
