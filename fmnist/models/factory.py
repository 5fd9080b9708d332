"""Builds a model with loss and optimizer from its name, and from a point if the name is a search space's."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import keras

from fmnist.errors import UserError
from fmnist.models import MODELS, build_model, precision_policy
from fmnist.models.compiled import Trainable, trainable
from fmnist.models.optimizers import FusedAdam
from fmnist.models.search_space import SPACES
from fmnist.models.settings import OF_KERAS, OF_RANDOMNESS, OF_TENSORFLOW, unchanged, unseeded

Builder = Callable[[Any], keras.Model]


def load_builder(name: str) -> Builder:
    """Returns the function that builds a search space's models.

    Args:
        name: a key of `SPACES`, or ``module:function`` of a module that can be imported here.

    Raises:
        UserError: if there is no such module or function, or the module changes how TensorFlow runs.
    """
    module, colon, function = name.partition(":")
    if not colon:
        if name not in SPACES:
            raise UserError(f"space {name!r} is unknown: expected one of {', '.join(SPACES)}, or module:function")
        return SPACES[name]
    try:
        with unchanged(f"{name}: the module", {"TensorFlow's": OF_TENSORFLOW}):
            found = getattr(importlib.import_module(module), function, None)
    except ModuleNotFoundError as error:
        expected = "expected a module in the current directory or on the Python path"
        raise UserError(f"{name}: cannot import {error.name}, {expected}") from error
    if not callable(found):
        raise UserError(f"{name}: {module} has no function {function}, expected one that takes HyperParameters")
    return found


def build(
    name: str, hyperparameters: Mapping[str, Any] | None, *, learning_rate: float, seed: int, precision: str
) -> Trainable:
    """Builds a model with fresh weights, its loss and its optimizer.

    Args:
        name: a key of `fmnist.models.MODELS`, or a search space as for `load_builder`.
        hyperparameters: values by name, for a search space only; the others have their default.
        learning_rate: for a model of `MODELS` only; a search space has its own.
        seed: of the initial weights, dropout and augmentation; 0 or more.
        precision: ``"float32"``, or ``"bfloat16"`` for products in bfloat16 with float32 weights.

    Raises:
        UserError: if the name is unknown, the engine cannot train the model of its function, or the function changes
            settings of the whole process.
    """
    if name in MODELS:
        model = build_model(name, seed=seed, precision=precision)
        return Trainable(model, MODELS[name].loss, FusedAdam(learning_rate))
    from keras_tuner import HyperParameters

    point = HyperParameters()
    point.values = dict(hyperparameters or {})
    builder = load_builder(name)
    with precision_policy(precision):
        keras.utils.set_random_seed(seed)
        who, settings = f"{name}: the builder", {"Keras'": OF_KERAS, "TensorFlow's": OF_TENSORFLOW | OF_RANDOMNESS}
        with unseeded(who), unchanged(who, settings):
            model = builder(point)
        return trainable(model)
