"""Checks of models and search spaces in a process of their own: builders import TensorFlow, the driver does not."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray

from fmnist.config import MODELS
from fmnist.errors import UserError
from fmnist.models.hyperparameters import Space


def discover_space(name: str, hyperparameters: Mapping[str, Any] | None = None) -> Space:
    """Returns a search space after checking that its models can be trained, saved and loaded.

    Args:
        name: ``notebook``, ``extended`` or ``module:function``.
        hyperparameters: a point that must be in the space; None for its defaults.

    Raises:
        UserError: if there is no such function, its model cannot be trained, or the point is not in the space.
    """
    try:
        space: Space = ray.get(_discover.remote(name, hyperparameters))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from error
        raise
    return space


def check_model(name: str, hyperparameters: Mapping[str, Any] | None) -> None:
    """Checks that a job can train the model that its configuration names.

    Raises:
        UserError: if there is no such model, or the hyper-parameters are not in its space.
    """
    if name not in MODELS:
        discover_space(name, hyperparameters)
    elif hyperparameters is not None:
        raise UserError(f"hyperparameters: found some, expected none, for {name} is no search space")


# The process ends with the call: it has set TensorFlow's number of threads, and a trial sets its own.
@ray.remote(max_calls=1)
def _discover(name: str, hyperparameters: Mapping[str, Any] | None) -> Space:
    from fmnist.models import hyperparameters as tune_space
    from fmnist.models.factory import build, load_builder
    from fmnist.models.serving import without_augmentation
    from fmnist.training.inference import load_model

    space = tune_space.discover(load_builder(name))
    if hyperparameters is not None:
        tune_space.hyperparameters(space, dict(hyperparameters))
    model = build(name, hyperparameters, learning_rate=1e-3, seed=0, precision="float32").model
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.keras")
            without_augmentation(model).save(path)
            load_model(path)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name}: its model cannot be saved and loaded again: {reason}") from error
    return space
