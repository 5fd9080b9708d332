"""Points of a search space by Optuna's tree-structured Parzen estimator (TPE), from the results of other points.

A point depends only on the seed, the number of its trial and what it is drawn from, so a search that resumes draws the
same points again. That is why this uses Optuna's study and not Ray Tune's OptunaSearch around it, which draws from
whatever has ended by then, keeps its study in Tune's own record of a search, and takes the accuracy of a trial that was
dropped after two epochs for that of all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from fmnist.models.hyperparameters import filled, inside, is_range, listed

if TYPE_CHECKING:
    from keras_tuner import HyperParameters
    from keras_tuner.engine.hyperparameters import HyperParameter

# The values of a point by name, and its score.
Tried = tuple[dict[str, Any], float | None]

# To find a point that no trial has, where TPE looks and then anywhere; a small space may have none left.
ATTEMPTS = 20


def draw(space: HyperParameters, seed: int, trial: int, tried: Sequence[Tried]) -> dict[str, Any]:
    """Draws a point that no other trial has, as far as the space has one left.

    Args:
        space: from `fmnist.models.hyperparameters.discover`.
        seed, trial: seed of the search and number of the trial, 0 or more.
        tried: points of other trials, in the order of their numbers, each with its score, higher is better; None if it
            has none that can be compared.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = int(np.random.default_rng([seed, trial]).integers(2**32))
    study = optuna.create_study(direction="maximize")
    study.add_trials([_trial(space, values, score) for values, score in tried if score is not None])
    others = [values for values, _ in tried]
    guided, free = optuna.samplers.TPESampler(n_startup_trials=1, seed=seed), optuna.samplers.RandomSampler(seed)
    for study.sampler in [*[guided] * ATTEMPTS, *[free] * ATTEMPTS]:
        asked = study.ask()
        values = filled(space, partial(_suggested, asked=asked)).values
        if values not in others:
            break
        study.tell(asked, state=TrialState.FAIL)
    point: dict[str, Any] = values
    return point


def _trial(space: HyperParameters, values: dict[str, Any], score: float) -> optuna.trial.FrozenTrial:
    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}

    def visit(hp: HyperParameter) -> Any:
        if distribution := _distribution(hp):
            distributions[_name(hp)] = distribution
            is_float = isinstance(distribution, FloatDistribution)
            params[_name(hp)] = hp.value_to_prob(values[hp.name]) if is_float else listed(hp).index(values[hp.name])
        return values[hp.name]

    filled(space, visit)
    return optuna.trial.create_trial(value=score, params=params, distributions=distributions)


def _suggested(hp: HyperParameter, asked: optuna.Trial) -> Any:
    distribution = _distribution(hp)
    if distribution is None:
        return hp.min_value if is_range(hp) else listed(hp)[0]
    if isinstance(distribution, FloatDistribution):
        return inside(hp, hp.prob_to_value(asked.suggest_float(_name(hp), 0, 1)))
    if isinstance(distribution, IntDistribution):
        return listed(hp)[asked.suggest_int(_name(hp), 0, distribution.high)]
    return listed(hp)[asked.suggest_categorical(_name(hp), distribution.choices)]


def _distribution(hp: HyperParameter) -> BaseDistribution | None:
    """Returns what Optuna draws for a hyper-parameter; None if it has a single value.

    For a range, the probability that keras-tuner makes a value of, whatever the sampling; else the place of a value.
    """
    if is_range(hp):
        return FloatDistribution(0, 1) if hp.min_value < hp.max_value else None
    count = len(listed(hp))
    if count == 1:
        return None
    # Steps have an order, and so do choices of numbers.
    ordered = hasattr(hp, "sampling") or getattr(hp, "ordered", False)
    return IntDistribution(0, count - 1) if ordered else CategoricalDistribution(range(count))


def _name(hp: HyperParameter) -> str:
    # Several scopes may use one name with different ranges.
    return json.dumps(hp.get_config(), sort_keys=True)
