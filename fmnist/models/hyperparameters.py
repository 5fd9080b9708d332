"""Between keras-tuner's language and Ray Tune's: what a builder can vary, as Ray samples it, and back.

A space travels as plain data, so that only the processes that build models import keras-tuner, and TensorFlow with it.
"""

from __future__ import annotations

import copy
import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ray import tune
from ray.tune.search.sample import Float, Integer, Sampler

from fmnist.errors import UserError

if TYPE_CHECKING:
    from keras_tuner import HyperParameters

# What `HyperParameters.get_config` returns, which JSON, YAML and pickle keep exactly.
Space = dict[str, Any]

# Builds of a model in search of hyper-parameters. A build takes a tenth of a second; common spaces need about twenty.
MAX_BUILDS = 100


def discover(build: Callable[[HyperParameters], Any]) -> Space:
    """Returns the space of a keras-tuner builder: every hyper-parameter it asks for.

    A builder tells what it varies only by being called. Like keras-tuner it is called with the defaults, then until
    every conditional scope has been active once. keras-tuner meets what hides behind a plain ``if`` or ``for`` during
    the search; here it must be known before, so each hyper-parameter's choices, and the largest value of each Int, are
    tried out too. A builder may fail at these: so will the trials that try the same.

    Args:
        build: function of a ``HyperParameters``; what it returns is not used, what it raises is raised.

    Raises:
        UserError: if a conditional scope cannot become active.
    """
    from keras_tuner import HyperParameters

    space: Space = {"space": [], "values": {}}
    never_active: dict[str, list[Any]] = {}
    ever_active: set[str] = set()
    attempted: set[str] = set()
    explored: set[str] = set()
    trials: deque[dict[str, Any]] = deque()
    wanted: dict[str, Any] = {}
    exploring = False
    for _ in range(MAX_BUILDS):
        hp = HyperParameters.from_config(copy.deepcopy({**space, "values": _values_near(space, wanted)}))
        try:
            build(hp)
        except Exception:
            if not exploring:
                raise
        # By JSON, so that tuples and NumPy's floats become plain lists and numbers.
        space = json.loads(json.dumps(hp.get_config()))
        ever_active.update(map(_scope_text, hp.active_scopes))
        never_active.update((_scope_text(scope), scope) for scope in hp.inactive_scopes)
        never_active = {text: scope for text, scope in never_active.items() if text not in ever_active}

        for found in _hyperparameters(space):
            if found.key not in explored and found.is_active(hp.values):
                explored.add(found.key)
                trials.extend({**hp.values, found.name: value} for value in found.extremes)

        scope = next((text for text in never_active if text not in attempted), None)
        exploring = scope is None
        if scope is not None:
            attempted.add(scope)
            wanted = _values_activating(never_active[scope], space)
        elif trials:
            wanted = trials.popleft()
        else:
            break
    for text in never_active:
        raise UserError(
            f"search space: {text} is never active, expected a condition that can hold where the scope is opened"
        )
    return {**space, "values": _values_near(space, {})}


def param_space(space: Space) -> dict[str, Any]:
    """Returns the space as Ray Tune's ``param_space``: a domain or, for a Fixed, a constant for each hyper-parameter.

    Each domain draws keras-tuner's values with keras-tuner's probabilities, and with nothing but the random state that
    Ray gives it. Keys are those of `active_values`: a number in front, since names may recur under other conditions,
    and no slashes, which Ray's searchers take for nested configs. Ray samples all; `active_values` drops what is not
    active.
    """
    return {hp.key: hp.domain() for hp in _hyperparameters(space)}


def active_values(space: Space, config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of the active hyper-parameters by keras-tuner's names.

    Args:
        config: what Ray sampled from `param_space`; other keys are ignored.
    """
    return {hp.name: value for hp, value in _active(space, lambda hp: config[hp.key])}


def to_config(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config that `active_values` turns into ``values``; without what is not active.

    Raises:
        UserError: as `hyperparameters`.
    """
    return {hp.key: value for hp, value in _checked(space, values)}


def hyperparameters(space: Space, values: Mapping[str, Any]) -> HyperParameters:
    """Returns keras-tuner's object with exactly these values, to be given to the builder.

    Args:
        values: of the active hyper-parameters by name. A whole number may stand for a float, and a float on a grid may
            be rounded to ten digits, as people write them.

    Raises:
        UserError: if a value is missing, or not one that keras-tuner can draw; if a name is unknown or not active.
    """
    from keras_tuner import HyperParameters

    checked = {hp.name: value for hp, value in _checked(space, values)}
    return HyperParameters.from_config(copy.deepcopy({**space, "values": checked}))


@dataclass(frozen=True)
class _HyperParameter:
    """One hyper-parameter of a space.

    Attributes:
        key: its name in Ray's config.
        kind: keras-tuner's class: Fixed, Boolean, Choice, Int or Float.
        config: that class' arguments.
    """

    key: str
    kind: str
    config: dict[str, Any]

    @property
    def name(self) -> str:
        return self.config["name"]

    @property
    def default(self) -> Any:
        if self.kind == "Fixed":
            return self.config["value"]
        # keras-tuner writes an Int's default only if the builder gave one.
        return self.config["min_value"] if self.config["default"] is None else self.config["default"]

    @property
    def allowed(self) -> list[Any] | None:
        """All values in keras-tuner's order; None if they are a range."""
        match self.kind:
            case "Fixed":
                return [self.config["value"]]
            case "Boolean":
                return [True, False]
            case "Choice":
                return self.config["values"]
        if self.config["step"] is None or self._is_plain_range:
            return None
        return self._grid()

    @property
    def extremes(self) -> list[Any]:
        """Values that may lead a builder's ``if`` or ``for`` to further hyper-parameters, without the default."""
        if self.kind in ("Boolean", "Choice"):
            values = self.allowed or []
        elif self.kind == "Int":
            values = [max(self.allowed or [self.config["max_value"]])]
        else:
            values = []
        return [value for value in values if value != self.default]

    def is_active(self, values: Mapping[str, Any]) -> bool:
        conditions = [condition["config"] for condition in self.config["conditions"]]
        return all(parent["name"] in values and values[parent["name"]] in parent["values"] for parent in conditions)

    def domain(self) -> Any:
        allowed = self.allowed
        if self.kind == "Fixed":
            return self.config["value"]
        if allowed is not None:
            return tune.choice(allowed)
        low, high, sampling = self.config["min_value"], self.config["max_value"], self.config["sampling"]
        whole: Any = _ClippedInteger(low, high + 1) if self.kind == "Int" else _ClippedFloat(low, high)
        if sampling == "linear":
            return whole.uniform()
        if sampling == "log":
            return whole.loguniform()
        whole.set_sampler(ReverseLogUniform())
        return whole

    def accept(self, value: Any) -> Any:
        """Returns a value as keras-tuner draws it.

        Raises:
            ValueError: if it is not one that keras-tuner can draw; the text says what is expected.
        """
        allowed = self.allowed
        if allowed is not None:
            # 0.15 is what a person writes for the 0.15000000000000002 of keras-tuner's grid.
            for tolerance in (0.0, 1e-10):
                for candidate in allowed:
                    if _equal(value, candidate, tolerance):
                        return candidate
            shown = [repr(candidate) for candidate in allowed]
            listed = ", ".join(shown if len(shown) <= 12 else [*shown[:3], "…", shown[-1]])
            raise ValueError(listed if len(shown) == 1 else f"one of {listed}")
        low, high = self.config["min_value"], self.config["max_value"]
        number = isinstance(value, int if self.kind == "Int" else int | float) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise ValueError(f"{'a whole number' if self.kind == 'Int' else 'a number'} from {low} to {high}")
        return value if self.kind == "Int" else float(value)

    @property
    def _is_plain_range(self) -> bool:
        return self.kind == "Int" and self.config["sampling"] == "linear" and self.config["step"] == 1

    def _grid(self) -> list[Any]:
        # keras-tuner's own operations in its order (engine/hyperparameters/hp_types/numerical.py), because another way
        # to the same number rounds differently: its 0 to 0.5 in steps of 0.05 ends at 0.45.
        low, high, step = self.config["min_value"], self.config["max_value"], self.config["step"]
        if step <= 0:
            raise UserError(f"hyper-parameter {self.name!r}: found step {step!r}, expected one above 0")
        if self.config["sampling"] == "linear":
            values = [low + index * step for index in range(int((high - low) // step + 1))]
        else:
            powers = [low * math.pow(step, index) for index in range(int(math.log(high / low, step) + 1e-8) + 1)]
            values = powers if self.config["sampling"] == "log" else [high + low - power for power in powers]
        return [int(value) for value in values] if self.kind == "Int" else values


class _ClippedFloat(Float):
    """Ray's domain of floats; the logarithm's rounding does not leave it."""

    def cast(self, value: float) -> float:
        return min(max(float(value), self.lower), self.upper)


class _ClippedInteger(Integer):
    """Ray's domain of integers; the logarithm's rounding does not leave it."""

    def cast(self, value: float) -> int:
        return min(max(int(value), self.lower), self.upper - 1)


class ReverseLogUniform(Sampler):
    """keras-tuner's "reverse_log": the mirror image of a log-uniform draw, dense at the upper end."""

    def __str__(self) -> str:
        return "ReverseLogUniform"

    def sample(
        self,
        domain: Float | Integer,
        config: list[dict[str, Any]] | dict[str, Any] | None = None,
        size: int = 1,
        random_state: Any = None,
    ) -> Any:
        mirrored = np.exp(random_state.uniform(np.log(domain.lower), np.log(domain.upper), size=size))
        items = [domain.cast(domain.upper + domain.lower - value) for value in mirrored]
        return items if size > 1 else items[0]


def _hyperparameters(space: Space) -> list[_HyperParameter]:
    return [
        _HyperParameter(f"{place}.{entry['config']['name']}".replace("/", "."), entry["class_name"], entry["config"])
        for place, entry in enumerate(space["space"])
    ]


def _active(space: Space, value_of: Callable[[_HyperParameter], Any]) -> list[tuple[_HyperParameter, Any]]:
    """The active hyper-parameters with their values. Of two that are active under one name the first counts."""
    values: dict[str, Any] = {}
    active = []
    # keras-tuner opens a conditional scope only where its parent is declared already, so parents come first.
    for hp in _hyperparameters(space):
        if hp.name not in values and hp.is_active(values):
            values[hp.name] = value_of(hp)
            active.append((hp, values[hp.name]))
    return active


def _checked(space: Space, values: Mapping[str, Any]) -> list[tuple[_HyperParameter, Any]]:
    def value_of(hp: _HyperParameter) -> Any:
        try:
            if hp.name not in values:
                raise UserError(f"hyper-parameter {hp.name!r}: found no value, expected one, as it is active")
            return hp.accept(values[hp.name])
        except ValueError as error:
            raise UserError(f"hyper-parameter {hp.name!r}: found {values[hp.name]!r}, expected {error}") from None

    active = _active(space, value_of)
    expected = [hp.name for hp, _ in active]
    for name in values:
        if name not in expected:
            known = any(hp.name == name for hp in _hyperparameters(space))
            raise UserError(
                f"hyper-parameter {name!r}: found a value, expected none, as it is "
                + ("not active with the others' values" if known else f"unknown; active are {', '.join(expected)}")
            )
    return active


def _values_near(space: Space, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Values for a build: the wanted ones where they can be had, defaults elsewhere."""

    def value_of(hp: _HyperParameter) -> Any:
        return wanted[hp.name] if hp.name in wanted and _accepts(hp, wanted[hp.name]) else hp.default

    return {hp.name: value for hp, value in _active(space, value_of)}


def _values_activating(scope: list[Any], space: Space) -> dict[str, Any]:
    hps = _hyperparameters(space)
    wanted = {}
    for condition in scope:
        parents = [hp for hp in hps if hp.name == condition.name]
        wanted[condition.name] = next(
            (value for value in condition.values if any(_accepts(parent, value) for parent in parents)), None
        )
    return wanted


def _accepts(hp: _HyperParameter, value: Any) -> bool:
    try:
        hp.accept(value)
    except ValueError:
        return False
    return True


def _scope_text(scope: list[Any]) -> str:
    return " in ".join(f"conditional_scope({condition.name!r}, {condition.values!r})" for condition in reversed(scope))


def _equal(value: Any, candidate: Any, tolerance: float) -> bool:
    if isinstance(candidate, float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isclose(value, candidate, rel_tol=tolerance)
    return type(value) is type(candidate) and value == candidate
