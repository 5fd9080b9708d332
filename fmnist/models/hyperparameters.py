"""Search spaces of keras-tuner builders: which hyper-parameters a builder has, random points, and checked points.

keras-tuner declares the hyper-parameters, decides which are active and draws their values. A point is a dictionary of
the active hyper-parameters' values by name, of JSON's types.
"""

from __future__ import annotations

import copy
import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras_tuner import HyperParameters
from keras_tuner.engine.hyperparameters import HyperParameter

from fmnist.errors import UserError

# Builds of a model in search of hyper-parameters. A build takes a tenth of a second; common spaces need about twenty.
MAX_BUILDS = 100


def discover(build: Callable[[HyperParameters], Any]) -> HyperParameters:
    """Returns the space of a keras-tuner builder: every hyper-parameter it declares, with the default values.

    A builder declares hyper-parameters only while it is called. Like keras-tuner this calls it with the defaults, then
    until each conditional scope has been active once. keras-tuner finds hyper-parameters behind a plain ``if`` or
    ``for`` during the search; here they must be known before it, so this also calls the builder with each choice of
    each hyper-parameter, and with the largest value of each Int. These calls may fail: trials of the same values fail
    too.

    Raises:
        UserError: if a conditional scope cannot become active, or a step is not above 0.
        Exception: what ``build`` raises for the defaults or for the values that activate a scope.
    """
    space = HyperParameters()
    never_active: dict[str, list[Any]] = {}
    ever_active: set[str] = set()
    attempted: set[str] = set()
    explored: set[int] = set()
    trials: deque[dict[str, Any]] = deque()
    wanted: dict[str, Any] = {}
    exploring = False
    for _ in range(MAX_BUILDS):
        hps = _near(space, wanted)
        try:
            build(hps)
        except Exception:
            if not exploring:
                raise
        # Through JSON, so that tuples and NumPy's numbers become lists and plain numbers.
        space = HyperParameters.from_config(json.loads(json.dumps(hps.get_config())))
        ever_active.update(map(_scope_text, hps.active_scopes))
        never_active.update((_scope_text(scope), scope) for scope in hps.inactive_scopes)
        never_active = {text: scope for text, scope in never_active.items() if text not in ever_active}

        for place, hp in enumerate(space.space):
            step = getattr(hp, "step", None)
            if step is not None and step <= 0:
                raise UserError(f"hyper-parameter {hp.name!r}: found step {step!r}, expected one above 0")
            if place not in explored and space.is_active(hp):
                explored.add(place)
                trials.extend({**space.values, hp.name: value} for value in _extremes(hp))

        scope = next((text for text in never_active if text not in attempted), None)
        exploring = scope is None
        if scope is not None:
            attempted.add(scope)
            wanted = _activating(never_active[scope], space)
        elif trials:
            wanted = trials.popleft()
        else:
            break
    for text in never_active:
        expected = "expected a condition that can hold where the scope is opened"
        raise UserError(f"search space: {text} is never active, {expected}")
    return _near(space, {})


def draw(space: HyperParameters, seed: int, trial: int) -> dict[str, Any]:
    """Draws a random point, as keras-tuner's random search does.

    Args:
        space: from `discover`.
        seed, trial: seed of the search and number of the trial, 0 or more; they alone decide the point.
    """
    random = np.random.default_rng([seed, trial])

    def sample(hp: HyperParameter) -> Any:
        return inside(hp, hp.random_sample(int(random.integers(2**63))))

    values: dict[str, Any] = filled(space, sample).values
    return values


def inside(hp: HyperParameter, value: Any) -> Any:
    """Returns a value that keras-tuner has drawn; its logarithms may round to one outside the range."""
    return min(max(value, hp.min_value), hp.max_value) if is_range(hp) else value


def hyperparameters(space: HyperParameters, values: Mapping[str, Any]) -> HyperParameters:
    """Returns the space with exactly these values, to be passed to the builder.

    Args:
        space: from `discover`.
        values: of the active hyper-parameters by name. A whole number may stand for a float, and a float of a stepped
            range may be rounded to ten digits.

    Raises:
        UserError: if a value is missing or outside of the space; if a name is unknown or not active.
    """

    def checked(hp: HyperParameter) -> Any:
        if hp.name not in values:
            raise UserError(f"hyper-parameter {hp.name!r}: found no value, expected one, as it is active")
        try:
            return _accepted(hp, values[hp.name])
        except ValueError as error:
            raise UserError(f"hyper-parameter {hp.name!r}: found {values[hp.name]!r}, expected {error}") from None

    point = filled(space, checked)
    for name in values:
        if name not in point.values:
            known = any(hp.name == name for hp in space.space)
            reason = "not active with the others' values" if known else f"unknown; active are {', '.join(point.values)}"
            raise UserError(f"hyper-parameter {name!r}: found a value, expected none, as it is {reason}")
    return point


def filled(space: HyperParameters, value_of: Callable[[HyperParameter], Any]) -> HyperParameters:
    """Returns a copy of the space with a value for each active hyper-parameter; of two of one name the first counts."""
    point = copy.deepcopy(space)
    point.values = {}
    # keras-tuner opens a conditional scope only after its parent is declared, so parents come first.
    for hp in point.space:
        if hp.name not in point.values and point.is_active(hp):
            point.values[hp.name] = value_of(hp)
    return point


def _near(space: HyperParameters, wanted: Mapping[str, Any]) -> HyperParameters:
    """Returns the space with the wanted values where it has them, and the defaults elsewhere."""
    return filled(space, lambda hp: wanted[hp.name] if _accepts(hp, wanted.get(hp.name)) else hp.default)


def _activating(scope: list[Any], space: HyperParameters) -> dict[str, Any]:
    """Returns values of the parents that make a conditional scope active."""

    def possible(name: str, value: Any) -> bool:
        return any(hp.name == name and _accepts(hp, value) for hp in space.space)

    return {one.name: next((v for v in one.values if possible(one.name, v)), None) for one in scope}


def is_range(hp: HyperParameter) -> bool:
    """Whether the values are all numbers, or all whole numbers, from a minimum to a maximum."""
    if not hasattr(hp, "sampling"):
        return False
    return hp.step is None or (_is_int(hp) and hp.sampling == "linear" and hp.step == 1)


def _is_int(hp: HyperParameter) -> bool:
    return type(hp).__name__ == "Int"


def listed(hp: HyperParameter) -> list[Any]:
    """Returns all values of a hyper-parameter that is not a range, in keras-tuner's order."""
    return [int(value) for value in hp.values] if _is_int(hp) else list(hp.values)


def _extremes(hp: HyperParameter) -> list[Any]:
    """Returns values, besides the default, for which a builder may declare further hyper-parameters."""
    values = listed(hp) if not hasattr(hp, "sampling") else []
    if _is_int(hp):
        values = [hp.max_value if is_range(hp) else max(listed(hp))]
    return [value for value in values if value != hp.default]


def _accepted(hp: HyperParameter, value: Any) -> Any:
    """Returns a value as keras-tuner draws it; a ValueError that says what is expected if it cannot draw it."""
    if is_range(hp):
        number = isinstance(value, int if _is_int(hp) else int | float) and not isinstance(value, bool)
        if not number or not hp.min_value <= value <= hp.max_value:
            kind = "a whole number" if _is_int(hp) else "a number"
            raise ValueError(f"{kind} from {hp.min_value} to {hp.max_value}")
        return value if _is_int(hp) else float(value)
    allowed = listed(hp)
    # People write 0.15 for the 0.15000000000000002 of keras-tuner's steps.
    for tolerance in (0.0, 1e-10):
        for candidate in allowed:
            if _equal(value, candidate, tolerance):
                return candidate
    shown = [repr(candidate) for candidate in allowed]
    choice = ", ".join(shown if len(shown) <= 12 else [*shown[:3], "…", shown[-1]])
    raise ValueError(choice if len(shown) == 1 else f"one of {choice}")


def _accepts(hp: HyperParameter, value: Any) -> bool:
    try:
        _accepted(hp, value)
    except ValueError:
        return False
    return True


def _equal(value: Any, candidate: Any, tolerance: float) -> bool:
    if isinstance(candidate, float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isclose(value, candidate, rel_tol=tolerance)
    return type(value) is type(candidate) and value == candidate


def _scope_text(scope: list[Any]) -> str:
    return " in ".join(f"conditional_scope({condition.name!r}, {condition.values!r})" for condition in reversed(scope))
