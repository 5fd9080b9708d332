"""Spaces of keras-tuner builders: what is found, what is drawn, and which points are taken."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import yaml
from fuzzing import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from keras_tuner import HyperParameters
from scipy import stats

from fmnist.errors import UserError
from fmnist.models.hyperparameters import MAX_BUILDS, discover, draw, hyperparameters
from fmnist.options import settings_yaml

Build = Callable[[HyperParameters], Any]


def names(space: HyperParameters) -> list[str]:
    return [hp.name for hp in space.space]


def one(build: Build, count: int, seed: int = 0) -> list[Any]:
    """Values of a space's only hyper-parameter."""
    space = discover(build)
    return [draw(space, seed, trial)["x"] for trial in range(1, count + 1)]


# -- What a builder asks for is found


def test_every_scope_and_what_hides_in_plain_python_is_found() -> None:
    def build(hp: HyperParameters) -> None:
        for layer in range(hp.Int("layers", 1, 3)):
            hp.Int(f"units_{layer}", 8, 64, step=8)
        kind = hp.Choice("kind", ["dense", "convolution"])
        if kind == "convolution" and hp.Boolean("wide"):
            hp.Choice("kernel", [3, 5])
        optimizer = hp.Choice("optimizer", ["adam", "sgd"])
        with hp.conditional_scope("optimizer", ["sgd"]):
            hp.Boolean("nesterov")
            with hp.conditional_scope("nesterov", [True]), hp.name_scope("sgd"):
                # None where the scope is not active, as documented by keras-tuner.
                momentum = hp.Float("momentum", 0.1, 0.9)
                assert optimizer == "sgd" or momentum is None

    space = discover(build)

    assert sorted(names(space)) == sorted(
        ["layers", "units_0", "units_1", "units_2", "kind", "wide", "kernel", "optimizer", "nesterov", "sgd/momentum"]
    )
    config = space.get_config()
    assert config == json.loads(json.dumps(config))
    assert discover(build).get_config() == config


def test_a_builder_is_called_with_values_that_its_space_has() -> None:
    seen = []

    def build(hp: HyperParameters) -> None:
        a = hp.Choice("a", ["x", "y"])
        with hp.conditional_scope("a", ["unheard of", "y"]):
            b = hp.Int("b", 1, 4)
        with hp.conditional_scope("a", ["x"]):
            other = hp.Int("b", 100, 400)
        seen.append((a, other if a == "x" else b))

    discover(build)

    assert set(seen) == {("x", 100), ("x", 400), ("y", 1), ("y", 4)}


def test_a_scope_that_can_not_be_active_is_named() -> None:
    def build(hp: HyperParameters) -> None:
        hp.Choice("a", [1, 2])
        with hp.conditional_scope("a", [2]):
            hp.Choice("b", [3])
            with hp.conditional_scope("b", [4]):
                hp.Int("c", 1, 2)

    with pytest.raises(
        UserError, match=r"search space: conditional_scope\('b', \[4\]\) in conditional_scope\('a', \[2"
    ):
        discover(build)


def test_a_builder_that_always_asks_for_more_ends() -> None:
    calls = []

    def build(hp: HyperParameters) -> None:
        calls.append(hp.Boolean(f"hp_{len(calls)}"))

    discover(build)

    assert len(calls) == MAX_BUILDS


def test_what_a_builder_raises_comes_through() -> None:
    def build(hp: HyperParameters) -> None:
        hp.Choice("a", [1, 2])
        with hp.conditional_scope("a", [2]):
            if hp.Int("b", 7, 9):
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        discover(build)


def test_values_that_only_some_trials_will_meet_may_fail() -> None:
    def build(hp: HyperParameters) -> None:
        if hp.Int("poolings", 1, 6) > 4:
            raise ValueError("negative size")
        hp.Boolean("flip")

    assert names(discover(build)) == ["poolings", "flip"]


# -- Points have keras-tuner's values with keras-tuner's probabilities

KINDS: dict[str, Build] = {
    "int": lambda hp: hp.Int("x", 3, 7),
    "int of one value": lambda hp: hp.Int("x", 3, 3),
    "int step": lambda hp: hp.Int("x", 3, 14, step=4),
    "int step divisible": lambda hp: hp.Int("x", 4, 16, step=4),
    "int log": lambda hp: hp.Int("x", 2, 9, sampling="log"),
    "int log step": lambda hp: hp.Int("x", 2, 40, step=2, sampling="log"),
    "int reverse_log": lambda hp: hp.Int("x", 2, 9, sampling="reverse_log"),
    "int reverse_log step": lambda hp: hp.Int("x", 2, 40, step=2, sampling="reverse_log"),
    "float": lambda hp: hp.Float("x", -1, 0.5),
    "float step": lambda hp: hp.Float("x", 0, 0.5, step=0.05),
    "float log": lambda hp: hp.Float("x", 1e-4, 1e-2, sampling="log"),
    "float log step": lambda hp: hp.Float("x", 1e-4, 1e-1, step=10, sampling="log"),
    "float reverse_log": lambda hp: hp.Float("x", 0.1, 10, sampling="reverse_log"),
    "float reverse_log step": lambda hp: hp.Float("x", 0.1, 10, step=3, sampling="reverse_log"),
    "choice": lambda hp: hp.Choice("x", [5, 3, 3, 8]),
    "choice unordered": lambda hp: hp.Choice("x", ["relu", "tanh"]),
    "choice of floats": lambda hp: hp.Choice("x", (np.float64(0.1), np.float64(0.3)), ordered=False),
    "boolean": lambda hp: hp.Boolean("x"),
    "fixed": lambda hp: hp.Fixed("x", "value"),
}
CONTINUOUS = {"float", "float log", "float reverse_log"}


@pytest.mark.parametrize("kind", KINDS)
def test_values_have_keras_tuners_distribution(kind: str) -> None:
    space = HyperParameters()
    KINDS[kind](space)
    # keras-tuner's own draws at evenly spaced probabilities, and its types.
    theirs = [space.space[0].prob_to_value((place + 0.5) / 4000) for place in range(4000)]
    ours = one(KINDS[kind], 4000)

    assert {type(value) for value in ours} == {type(json.loads(json.dumps(value))) for value in theirs}
    if kind in CONTINUOUS:
        assert min(theirs) * 0.999 - 0.01 <= min(ours) and max(ours) <= max(theirs) * 1.001 + 0.01
        assert stats.ks_2samp(ours, theirs).statistic < 0.04
        return
    expected, found = Counter(theirs), Counter(ours)
    assert set(found) == set(expected)
    for value, count in expected.items():
        assert found[value] == pytest.approx(count, abs=5 * math.sqrt(count) + 5)


def test_ends_are_within_reach_and_nothing_beyond() -> None:
    values = one(KINDS["int"], 300) + one(KINDS["int log"], 300) + one(KINDS["int reverse_log"], 300)

    assert (set(values[:300]), set(values[300:600]), set(values[600:])) == (
        {3, 4, 5, 6, 7},
        set(range(2, 10)),
        set(range(2, 10)),
    )
    # Where the logarithm's rounding would leave the range every other time.
    bounds = (3.0, math.nextafter(3.0, 4))
    narrow = one(lambda hp: hp.Float("x", *bounds, sampling="log"), 50)
    assert all(bounds[0] <= value <= bounds[1] for value in narrow)
    narrow = one(lambda hp: hp.Float("x", *bounds, sampling="reverse_log"), 50)
    assert all(bounds[0] <= value <= bounds[1] for value in narrow)


@pytest.mark.parametrize("kind", KINDS)
def test_seed_and_trial_decide_the_point(kind: str) -> None:
    first, again = one(KINDS[kind], 20, seed=5), one(KINDS[kind], 20, seed=5)

    assert first == again
    assert draw(discover(KINDS[kind]), 5, 20) == {"x": first[-1]}
    if kind not in ("fixed", "int of one value"):
        assert first != one(KINDS[kind], 20, seed=6)


def test_a_step_that_leads_nowhere_is_named() -> None:
    with pytest.raises(UserError, match=r"hyper-parameter 'x': found step 0, expected one above 0"):
        discover(lambda hp: hp.Float("x", 0, 1, step=0))


# -- There and back, for spaces of any form

NAMES = st.sampled_from(["a", "b", "units", "eval", "grid_search", "config", "0.a", "with space", "ü"])
SAMPLING = st.sampled_from(["linear", "log", "reverse_log"])


@st.composite
def declarations(draw: st.DrawFn) -> Build:
    """A call that declares one hyper-parameter."""
    name = draw(NAMES)
    kind = draw(st.sampled_from(["Int", "Float", "Choice", "Boolean", "Fixed"]))
    if kind == "Boolean":
        return lambda hp: hp.Boolean(name)
    if kind == "Choice":
        values = draw(
            st.one_of(
                st.lists(st.integers(-5, 5), min_size=1, max_size=4),
                st.lists(st.floats(-1, 1), min_size=1, max_size=4),
                st.lists(st.text(max_size=3), min_size=1, max_size=4),
                st.lists(st.booleans(), min_size=1, max_size=2),
            )
        )
        return lambda hp: hp.Choice(name, values)
    if kind == "Fixed":
        value = draw(st.one_of(st.integers(), st.floats(allow_nan=False), st.text(), st.booleans()))
        return lambda hp: hp.Fixed(name, value)
    sampling = draw(SAMPLING)
    if kind == "Int":
        low = draw(st.integers(1 if sampling != "linear" else -20, 20))
        high, step = low + draw(st.integers(0, 200)), draw(st.none() | st.integers(2, 7))
    else:
        low = draw(st.floats(1e-6 if sampling != "linear" else -5, 5))
        high = low + draw(st.floats(0, 50))
        step = draw(st.none() | (st.floats(0.05, 3) if sampling == "linear" else st.floats(1.1, 10)))
    return lambda hp: getattr(hp, kind)(name, low, high, step=step, sampling=sampling)


@st.composite
def builders(draw: st.DrawFn, depth: int = 2) -> Build:
    """A builder of several hyper-parameters, some of them under conditions and in name scopes."""
    steps: list[Build] = [lambda hp, parent=f"parent_{depth}": hp.Choice(parent, ["one", "two", "three"])]
    for _ in range(draw(st.integers(1, 3))):
        inner = draw(builders(depth - 1)) if depth and draw(st.booleans()) else draw(declarations())
        steps.append(draw(st.sampled_from([plain, conditional, named]))(inner, draw, depth))
    return lambda hp: [step(hp) for step in steps]


def plain(inner: Build, draw: st.DrawFn, depth: int) -> Build:
    return inner


def conditional(inner: Build, draw: st.DrawFn, depth: int) -> Build:
    values = draw(st.lists(st.sampled_from(["one", "two", "three"]), min_size=1, max_size=2, unique=True))

    def build(hp: HyperParameters) -> None:
        with hp.conditional_scope(f"parent_{depth}", values):
            inner(hp)

    return build


def named(inner: Build, draw: st.DrawFn, depth: int) -> Build:
    name = draw(st.sampled_from(["scope", "a", "x/y"]))

    def build(hp: HyperParameters) -> None:
        with hp.name_scope(name):
            inner(hp)

    return build


@examples(120, suppress_health_check=list(HealthCheck))
@given(builders(), st.integers(0, 2**31))
def test_points_of_any_space_are_what_the_builder_takes_and_come_back_exactly(build: Build, seed: int) -> None:
    space = discover(build)
    for trial in range(1, 5):
        values = draw(space, seed, trial)
        assert repr(draw(space, seed, trial)) == repr(values)
        hp = hyperparameters(space, values)

        assert hp.values == values
        build(hp)  # finds all it asks for, and declares nothing new
        assert hp.values == values and len(hp.space) == len(space.space)
        # By JSON and YAML too, as values are kept in a run folder; `repr` tells 1 from 1.0 and True.
        again = yaml.safe_load(settings_yaml(json.loads(json.dumps(values))))
        assert repr(sorted(hyperparameters(space, again).values.items())) == repr(sorted(values.items()))
        active = {}
        for entry in filter(hp.is_active, hp.space):
            active.setdefault(entry.name, entry)
        assert set(active) == set(values)
        assert all(can_be_drawn(entry, values[name]) for name, entry in active.items())
    assert repr(draw(discover(build), seed, 4)) == repr(values)


def can_be_drawn(entry: Any, value: Any) -> bool:
    """Whether keras-tuner itself draws a value at some probability."""
    if not hasattr(entry, "step"):
        return value in entry.values
    if entry.step is not None:
        # Not by `value_to_prob`, which is one step off for some floats.
        count = entry._get_n_values()
        return value in [entry.prob_to_value((place + 0.5) / count) for place in range(count)]
    return math.isclose(entry.prob_to_value(entry.value_to_prob(value)), value, rel_tol=1e-6, abs_tol=1e-6)


# -- Points that a user edited


def edited(hp: HyperParameters) -> None:
    hp.Int("units", 8, 64, step=8)
    hp.Int("layers", 1, 3)
    hp.Float("dropout", 0, 0.5, step=0.05)
    hp.Float("rate", 1, 10, sampling="log")
    hp.Choice("smoothing", [0.0, 0.1])
    hp.Boolean("flip")
    hp.Fixed("version", 2)
    hp.Choice("optimizer", ["adam", "sgd"])
    with hp.conditional_scope("optimizer", ["sgd"]):
        hp.Float("momentum", 0, 1)
    with hp.conditional_scope("optimizer", ["adam"]):
        hp.Float("epsilon", 1, 2)


GOOD = {
    "units": 16,
    "layers": 2,
    "dropout": 0.15000000000000002,
    "rate": 2.5,
    "smoothing": 0.1,
    "flip": True,
    "version": 2,
    "optimizer": "sgd",
    "momentum": 0.5,
}


def test_what_people_write_is_taken_as_keras_tuner_means_it() -> None:
    values = hyperparameters(discover(edited), {**GOOD, "dropout": 0.15, "rate": 2, "smoothing": 0}).values

    assert values == {**GOOD, "rate": 2.0, "smoothing": 0.0}
    assert all(type(values[name]) is float for name in ("dropout", "rate", "smoothing"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": 17}, "'units': found 17, expected one of 8, 16, 24, 32, 40, 48, 56, 64"),
        ({"units": 16.0}, "'units': found 16.0, expected one of 8, "),
        ({"layers": 4}, "'layers': found 4, expected a whole number from 1 to 3"),
        ({"layers": True}, "'layers': found True, expected a whole number from 1 to 3"),
        ({"layers": 2.5}, "'layers': found 2.5, expected a whole number from 1 to 3"),
        ({"dropout": 0.5}, "'dropout': found 0.5, expected one of 0.0, 0.05, 0.1, 0.15"),
        ({"rate": 0.5}, "'rate': found 0.5, expected a number from 1.0 to 10.0"),
        ({"rate": "2e0"}, "'rate': found '2e0', expected a number from 1.0 to 10.0"),
        ({"rate": math.nan}, "'rate': found nan, expected a number from 1.0 to 10.0"),
        ({"flip": 1}, "'flip': found 1, expected one of True, False"),
        ({"version": 3}, "'version': found 3, expected 2"),
        ({"optimizer": "lamb"}, "'optimizer': found 'lamb', expected one of 'adam', 'sgd'"),
        ({"momentum": None}, "'momentum': found None, expected a number from 0.0 to 1.0"),
        ({"epsilon": 1.5}, "'epsilon': found a value, expected none, as it is not active with the others' values"),
        ({"unit": 16}, "'unit': found a value, expected none, as it is unknown; active are units, layers, "),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        hyperparameters(discover(edited), {**GOOD, **change})

    assert f"hyper-parameter {message}" in str(caught.value)


def test_a_missing_value_is_named() -> None:
    values = {name: value for name, value in GOOD.items() if name != "momentum"}

    with pytest.raises(UserError, match="hyper-parameter 'momentum': found no value, expected one, as it is active"):
        hyperparameters(discover(edited), values)
