"""Looking at a search space in a process of its own: its builder needs TensorFlow, and the driver does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray

from fmnist.errors import UserError
from fmnist.workflows.tune_space import Space


def discover_space(name: str, hyperparameters: Mapping[str, Any] | None = None) -> Space:
    """Returns a search space, after seeing that its models can be trained here.

    Args:
        name: ``notebook``, ``extended`` or ``module:function``.
        hyperparameters: a point that must lie in it; the defaults if not given.

    Raises:
        UserError: if there is no such function, it does not build what can be trained, or the point is not in it.
    """
    try:
        space: Space = ray.get(_discover.remote(name, hyperparameters))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from error
        raise
    return space


# The process ends with the call: TensorFlow has chosen its threads there, and a trial must be able to choose its own.
@ray.remote(max_calls=1)
def _discover(name: str, hyperparameters: Mapping[str, Any] | None) -> Space:
    from fmnist.models.factory import build, load_builder
    from fmnist.workflows import tune_space

    space = tune_space.discover(load_builder(name))
    if hyperparameters is not None:
        tune_space.hyperparameters(space, dict(hyperparameters))
    build(name, hyperparameters, learning_rate=1e-3, seed=0, precision="float32")
    return space
