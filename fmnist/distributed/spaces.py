"""Checks of models and search spaces in processes of their own: builders import TensorFlow, the driver does not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from fmnist.config import MODELS
from fmnist.console import console
from fmnist.distributed.waiting import SLOW_SECONDS, free, until_ready
from fmnist.errors import TrainingError, UserError, one_line
from fmnist.waiting import Wait

Point = dict[str, Any]
# A point; the file of its model, empty if this process has loaded it; and why it cannot be trained and kept, or None.
Built = tuple[Point, bytes, str | None]


def draw_points(name: str, seed: int, trials: int) -> tuple[list[Point], dict[int, str]]:
    """Returns a random point of a search space for each trial, and checks that each can be trained and kept.

    Each model of an own space is built, trains on one batch of noise, is saved, and is loaded in a process that has not
    built it: a few tenths of a second a point, in two processes for the whole search. Of fmnist's spaces, whose models
    are alike, that is the model of the defaults.

    Args:
        name: one of `fmnist.config.SPACES`, or ``module:function``.
        seed: of the points, 0 or more.
        trials: how many points, 1 or more; the first ones do not depend on it.

    Returns:
        The points, and by the number of the trial, from 1, why a point cannot be trained and kept.

    Raises:
        UserError: if there is no such function, the model of its defaults cannot be trained and kept, or none of the
            points' can.
    """
    points, problems = _checked(name, None, seed, trials)
    if len(problems) == trials:
        raise UserError(f"none of the {trials} points can be trained and kept; trial 1: {problems[1]}")
    return points, problems


def check_model(name: str, hyperparameters: Mapping[str, Any] | None) -> None:
    """Checks that a job can train the model of its configuration, as `draw_points` checks a point.

    Raises:
        UserError: if there is no such model, it cannot be trained and kept, or the hyper-parameters are not of its
            space.
    """
    if name not in MODELS:
        _checked(name, hyperparameters, 0, 0)
    elif hyperparameters is not None:
        raise UserError(f"hyperparameters: found some, expected none, for {name} is no search space")


def _checked(
    name: str, hyperparameters: Mapping[str, Any] | None, seed: int, trials: int
) -> tuple[list[Point], dict[int, str]]:
    """Returns the points of the trials and the problems of some, after the check of one of the hyper-parameters."""
    # The models of fmnist's own spaces load wherever they are built.
    loader = ray.remote(num_cpus=0)(_Loader).remote(name) if ":" in name else None
    points: list[Point] = []
    loads: list[ray.ObjectRef | None] = []
    problems: list[str | None] = []
    try:
        building = _build_points.remote(name, hyperparameters, seed, trials)
        what = f"a process that builds {name} to start"
        until_ready(building, Wait(console.print, lambda: f"{what}; {free()}", first=SLOW_SECONDS))
        for reference in building:
            point, file, problem = ray.get(reference)
            points.append(point)
            problems.append(problem)
            loads.append(loader.problem.remote(file) if loader and not problem else None)
        for trial, load in enumerate(loads):
            problems[trial] = ray.get(load) if load is not None else problems[trial]
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from error
        raise
    finally:
        if loader:
            ray.kill(loader)
    if problems[0]:
        raise UserError(problems[0])
    return points[1:], {trial: problem for trial, problem in enumerate(problems) if problem}


# The process ends with the call: TensorFlow has chosen its threads there, and a trial must be able to choose its own.
@ray.remote(max_calls=1)
def _build_points(name: str, hyperparameters: Mapping[str, Any] | None, seed: int, trials: int) -> Iterator[Built]:
    """Yields the given hyper-parameters, or the defaults if None, and then the trials' points.

    Raises:
        UserError: if there is no such space, or the hyper-parameters are not of it.
    """
    import keras

    from fmnist.models import hyperparameters as spaces
    from fmnist.models.factory import load_builder

    space = spaces.discover(load_builder(name))
    first = space if hyperparameters is None else spaces.hyperparameters(space, hyperparameters)
    for point in (first.values, *(spaces.draw(space, seed, trial) for trial in range(1, trials + 1))):
        if ":" not in name and point is not first.values:
            yield point, b"", None
            continue
        # Layers are numbered within the session, and the models of a large search need memory.
        keras.backend.clear_session(free_memory=False)
        try:
            yield point, _train_and_save(name, point), None
        except UserError as error:
            yield point, b"", str(error)
        except Exception as error:
            yield point, b"", f"{name}: its model cannot be built, trained and saved: {one_line(error)[:300]}"


def _train_and_save(name: str, point: Point) -> bytes:
    """Builds a point's model, trains it on one batch, saves it and, if it is of an own space, loads it."""
    import numpy as np
    import tensorflow as tf

    from fmnist.data import SIDE, Images
    from fmnist.models.factory import build
    from fmnist.models.serving import without_augmentation
    from fmnist.training import engine

    built = build(name, point, learning_rate=1e-3, seed=0, precision="float32")
    noise = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE), np.uint8)
    images = Images(noise, np.array([0, 1], np.uint8))
    # To trace the step takes ten times as long as to run it.
    tf.config.run_functions_eagerly(True)
    try:
        # A learning rate for which the loss is not finite is no fault of the model.
        with suppress(TrainingError):
            next(engine.train(built.model, built.loss, built.optimizer, images, images, batch_size=2, epochs=1, seed=0))
    finally:
        tf.config.run_functions_eagerly(False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        without_augmentation(built.model).save(path)
        if ":" not in name:
            _load(path)
            return b""
        return path.read_bytes()


class _Loader:
    """Loads models as `fmnist evaluate` does: in a process that imports the builder's module, but builds nothing."""

    def __init__(self, name: str) -> None:
        self._name = name

    def problem(self, file: bytes) -> str | None:
        """Returns why a model cannot be loaded from its file; None if it can."""
        return _load_problem(self._name, file)


def _load_problem(name: str, file: bytes) -> str | None:
    import importlib

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        path.write_bytes(file)
        try:
            importlib.import_module(name.partition(":")[0])
            _load(path)
        except Exception as error:
            return f"{name}: its model cannot be saved and loaded again: {one_line(error)[:300]}"
    return None


def _load(path: Path) -> None:
    import numpy as np

    from fmnist.data import SIDE
    from fmnist.training.inference import load_model

    load_model(path)(np.zeros((1, SIDE, SIDE), np.uint8))
