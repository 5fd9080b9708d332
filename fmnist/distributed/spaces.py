"""Checks of models and search spaces in a process of their own: builders import TensorFlow, the driver does not."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray

from fmnist.config import MODELS
from fmnist.console import plain_console
from fmnist.distributed.waiting import SLOW_SECONDS, Wait, free, get
from fmnist.errors import UserError


def draw_points(
    name: str, seed: int, trials: int, hyperparameters: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Returns a random point of a search space for each trial, after checking that its models can be trained.

    Args:
        name: ``notebook``, ``extended`` or ``module:function``.
        seed: of the points, 0 or more.
        trials: how many points; the first ones do not depend on it.
        hyperparameters: of the model to check; the defaults if None.

    Raises:
        UserError: if there is no such function, its models cannot be trained, or the hyper-parameters are not of it.
    """
    try:
        wait = Wait(plain_console().print, lambda: f"a process that builds {name}; {free()}", first=SLOW_SECONDS)
        points: list[dict[str, Any]] = get(_check_and_draw.remote(name, hyperparameters, seed, trials), wait)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from error
        raise
    return points


def check_model(name: str, hyperparameters: Mapping[str, Any] | None) -> None:
    """Checks that a job can train the model of its configuration.

    Raises:
        UserError: if there is no such model, it cannot be trained, or the hyper-parameters are not of its space.
    """
    if name not in MODELS:
        draw_points(name, 0, 0, hyperparameters)
    elif hyperparameters is not None:
        raise UserError(f"hyperparameters: found some, expected none, for {name} is no search space")


# The process ends with the call: TensorFlow has chosen its threads there, and a trial must be able to choose its own.
@ray.remote(max_calls=1)
def _check_and_draw(
    name: str, hyperparameters: Mapping[str, Any] | None, seed: int, trials: int
) -> list[dict[str, Any]]:
    from fmnist.models import hyperparameters as spaces
    from fmnist.models.factory import build, load_builder
    from fmnist.models.serving import without_augmentation
    from fmnist.training.inference import load_model

    space = spaces.discover(load_builder(name))
    if hyperparameters is not None:
        spaces.hyperparameters(space, hyperparameters)
    model = build(name, hyperparameters, learning_rate=1e-3, seed=0, precision="float32").model
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.keras")
            without_augmentation(model).save(path)
            load_model(path)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name}: its model cannot be saved and loaded again: {reason}") from error
    return [spaces.draw(space, seed, trial) for trial in range(1, trials + 1)]
