"""Checks of models and search spaces in processes of their own: builders import TensorFlow, the driver does not."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from fmnist.config import MODELS
from fmnist.console import console
from fmnist.distributed.waiting import READY_SECONDS, SLOW_SECONDS, free, get
from fmnist.errors import TrainingError, UserError, one_line
from fmnist.waiting import Wait

if TYPE_CHECKING:
    from fmnist.models.tpe import Tried


@dataclass(frozen=True)
class Point:
    """A point of a search space."""

    values: dict[str, Any]  # of the active hyper-parameters by name
    problem: str | None = None  # why it cannot be trained and kept
    model_parameters: int | None = None  # of its model, if they were counted
    unused: tuple[str, ...] = ()  # what its model was compiled with and training does not use, if it was built


# A point, and the file of its model, empty if this process has loaded it.
Built = tuple[Point, bytes]


class Points:
    """The points of a search, each checked: whether its model can be trained and kept. Use it as a context manager.

    Each model of an own space is built, trains on one batch of noise, is saved, and is loaded in a process that has not
    built it: a few tenths of a second a point, in two processes for the whole search. Of fmnist's spaces, whose models
    are alike, that is the model of the defaults.

    Args:
        name: one of `fmnist.config.SPACES`, or ``module:function``.
        seed: of the points, 0 or more.
        counted: whether the parameters of each model are counted, for which it is built.
    """

    def __init__(self, name: str, seed: int, counted: bool = False) -> None:
        self._name = name
        # A process that was lost with its node does the same again in another one.
        started_again: Any = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
        self._builder = ray.remote(**started_again)(_Builder).remote(name, seed, counted)
        # The models of fmnist's own spaces load wherever they are built.
        self._loader = ray.remote(**started_again)(_Loader).remote(name) if ":" in name else None

    def __enter__(self) -> Points:
        return self

    def __exit__(self, *error: object) -> None:
        # TensorFlow has chosen its threads there.
        ray.kill(self._builder)
        if self._loader:
            ray.kill(self._loader)

    def check(self, hyperparameters: Mapping[str, Any] | None) -> None:
        """Checks the model of a point's values, or of the defaults if None.

        Raises:
            UserError: if there is no such space, the values are not of it, or the model cannot be trained and kept.
        """
        (point,) = self._loaded([self._builder.first.remote(hyperparameters)])
        if point.problem:
            raise UserError(point.problem)
        self._tell_unused(point)

    def random(self, trials: int) -> list[Point]:
        """Returns random points, one a trial; the first ones do not depend on how many.

        Raises:
            UserError: if there is no such space, or the model of its defaults or all of the points' cannot be trained
                and kept.
        """
        first = self._builder.first.remote(None)
        building = [self._builder.random.remote(trial) for trial in range(1, trials + 1)]
        default, *points = self._loaded([first, *building])
        if default.problem:
            raise UserError(default.problem)
        self._tell_unused(default)
        if all(point.problem for point in points):
            raise UserError(f"none of the {trials} points can be trained and kept; trial 1: {points[0].problem}")
        return points

    def drawn(self, trial: int, tried: Sequence[Tried]) -> Point:
        """Returns the point that TPE draws for a trial from those before, as `fmnist.models.tpe.draw` does."""
        (point,) = self._loaded([self._builder.drawn.remote(trial, tried)])
        return point

    def _tell_unused(self, point: Point) -> None:
        if point.unused:
            console.print(f"{self._name}: not used by fmnist's training: {', '.join(point.unused)}")

    def _loaded(self, building: Sequence[ray.ObjectRef]) -> list[Point]:
        """Returns the points that the builder gives, loaded by the other process if this is to be checked."""
        wait = Wait(
            console.print,
            lambda: f"a process to build, train and load a model of {self._name}; {free()}",
            first=SLOW_SECONDS,
            limit=lambda: READY_SECONDS,
            reason=lambda: "call its function in Python alone, and load the model that it saves: either may never end",
        )
        loads: list[tuple[Point, ray.ObjectRef | None]] = []
        try:
            for reference in building:
                point, file = get(reference, wait)
                wait.progressed()
                loads.append((point, self._loader.problem.remote(file) if self._loader and file else None))
            points = []
            for point, load in loads:
                points.append(replace(point, problem=get(load, wait)) if load else point)
                wait.progressed()
            return points
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from error
            raise


def check_model(name: str, hyperparameters: Mapping[str, Any] | None) -> None:
    """Checks that a job can train the model of its configuration, as `Points` checks a point.

    Raises:
        UserError: if there is no such model, it cannot be trained and kept, or the hyper-parameters are not of its
            space.
    """
    if name not in MODELS:
        with Points(name, 0) as points:
            points.check(hyperparameters)
    elif hyperparameters is not None:
        raise UserError(f"hyperparameters: found some, expected none, for {name} is no search space")


class _Builder:
    """Draws points and builds their models, in a process of its own."""

    def __init__(self, name: str, seed: int, counted: bool = False) -> None:
        self._name, self._seed, self._counted = name, seed, counted

    @cached_property
    def _space(self) -> Any:
        from fmnist.models.factory import load_builder
        from fmnist.models.hyperparameters import discover

        return discover(load_builder(self._name))

    def first(self, hyperparameters: Mapping[str, Any] | None) -> Built:
        """Returns the given hyper-parameters, or the defaults if None.

        Raises:
            UserError: if there is no such space, or the hyper-parameters are not of it.
        """
        from fmnist.models import hyperparameters as spaces

        space = self._space
        given = space if hyperparameters is None else spaces.hyperparameters(space, hyperparameters)
        return self._checked(given.values)

    def random(self, trial: int) -> Built:
        """Returns a random point."""
        from fmnist.models.hyperparameters import draw

        return self._built(draw(self._space, self._seed, trial))

    def drawn(self, trial: int, tried: Sequence[Tried]) -> Built:
        """Returns a point by TPE."""
        from fmnist.models.tpe import draw

        return self._built(draw(self._space, self._seed, trial, tried))

    def _built(self, values: dict[str, Any]) -> Built:
        if ":" in self._name:
            return self._checked(values)
        if not self._counted:
            return Point(values), b""
        from fmnist.models.factory import build

        self._clear()
        built = build(self._name, values, learning_rate=0.0, seed=0, precision="float32")
        return Point(values, None, built.model.count_params()), b""

    def _checked(self, values: dict[str, Any]) -> Built:
        self._clear()
        try:
            return _train_and_save(self._name, values)
        except UserError as error:
            return Point(values, str(error)), b""
        except Exception as error:
            problem = f"{self._name}: its model cannot be built, trained and saved: {one_line(error)[:300]}"
            return Point(values, problem), b""

    def _clear(self) -> None:
        import keras

        # Layers are numbered within the session, and the models of a large search need memory.
        keras.backend.clear_session(free_memory=False)


def _train_and_save(name: str, values: dict[str, Any]) -> Built:
    """Builds a point's model, trains it on one batch, saves it and, if it is of fmnist's spaces, loads it."""
    import numpy as np
    import tensorflow as tf

    from fmnist.data import SIDE, Images
    from fmnist.models.factory import build
    from fmnist.models.serving import without_augmentation
    from fmnist.training import engine

    built = build(name, values, learning_rate=1e-3, seed=0, precision="float32")
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
    point = Point(values, None, built.model.count_params(), built.unused)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        without_augmentation(built.model).save(path)
        if ":" not in name:
            _load(path)
            return point, b""
        return point, path.read_bytes()


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
    from fmnist.training.inference import load_strange_model

    load_strange_model(path)
