"""Points by TPE: of the space, seeded, never twice, and better than random ones."""

from __future__ import annotations

import math
from statistics import mean
from typing import Any

import pytest

pytest.importorskip("optuna")

from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from keras_tuner import HyperParameters

from fmnist.models import tpe
from fmnist.models.hyperparameters import discover, draw, hyperparameters


def everything(hp: HyperParameters) -> None:
    """All kinds of hyper-parameters, scopes of one name, and one with a single value."""
    hp.Fixed("fixed", 3)
    hp.Int("units", 16, 128)
    hp.Int("steps", 8, 64, step=8)
    hp.Int("doubled", 1, 64, step=2, sampling="log")
    hp.Float("rate", 1e-4, 1e-1, sampling="log")
    hp.Float("late", 0.5, 0.99, sampling="reverse_log")
    hp.Float("same", 0.5, 0.5)
    hp.Float("dropout", 0, 0.5, step=0.05)
    hp.Choice("size", [3, 5, 7])
    hp.Boolean("flip")
    hp.Choice("kind", ["adam", "sgd"])
    with hp.conditional_scope("kind", ["adam"]):
        hp.Float("decay", 1e-5, 1e-1, sampling="log")
    with hp.conditional_scope("kind", ["sgd"]):
        hp.Float("decay", 0, 1)
        hp.Float("momentum", 0.5, 0.99)


SPACE = discover(everything)


@examples(25)
@given(
    seed=st.integers(0, 2**32 - 1),
    known=st.lists(st.none() | st.floats(0, 1), max_size=12),
)
def test_a_point_is_one_of_the_space_and_depends_on_its_arguments_only(seed: int, known: list[float | None]) -> None:
    tried = [(draw(SPACE, seed, trial), score) for trial, score in enumerate(known)]

    point = tpe.draw(SPACE, seed, len(tried), tried)

    # Values of inactive hyper-parameters, and of no hyper-parameter, are refused here.
    assert hyperparameters(SPACE, point).values == point
    assert tpe.draw(SPACE, seed, len(tried), tried) == point
    assert point not in [values for values, _ in tried]


def test_no_point_is_drawn_twice_as_long_as_there_is_another() -> None:
    def small(hp: HyperParameters) -> None:
        hp.Boolean("a")
        hp.Choice("b", ["x", "y", "z"])

    space, tried = discover(small), []
    for trial in range(6):
        tried.append((tpe.draw(space, 0, trial, tried), 0.9 if trial == 0 else None))

    assert len({str(sorted(values.items())) for values, _ in tried}) == 6
    assert tpe.draw(space, 0, 7, tried) in [values for values, _ in tried]


def test_points_are_better_than_random_ones() -> None:
    def score(point: dict[str, Any]) -> float:
        return -abs(math.log10(point["rate"]) + 2) - 0.5 * (point["kind"] == "sgd") - point["dropout"]

    def searched(seed: int) -> list[float]:
        tried = [(point, score(point)) for point in (draw(SPACE, seed, trial) for trial in range(6))]
        for trial in range(6, 20):
            point = tpe.draw(SPACE, seed, trial, tried)
            tried.append((point, score(point)))
        return [it for _, it in tried[6:]]

    at_random = [score(draw(SPACE, seed, trial)) for seed in range(3) for trial in range(6, 20)]
    assert mean(it for seed in range(3) for it in searched(seed)) > mean(at_random) + 0.2
