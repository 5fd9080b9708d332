"""The brackets, and the scheduler's decisions, against a simulated controller that can crash and end trials at will."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from fmnist.workflows.tune.hyperband import Bracket, Hyperband, brackets, stretch

PAIRS = [(max_epochs, factor) for max_epochs in range(1, 31) for factor in range(2, 6)]


def test_brackets_of_ten_epochs_and_factor_three():
    assert brackets(10, 3) == [
        Bracket(2, sizes=(9, 3, 1), epochs=(2, 4, 10)),
        Bracket(1, sizes=(5, 2), epochs=(4, 10)),
        Bracket(0, sizes=(3,), epochs=(10,)),
    ]
    assert [bracket.budget for bracket in brackets(10, 3)] == [30, 32, 30]


def test_brackets_are_keras_tuners_where_the_epochs_are_a_power_of_the_factor():
    keras_tuner = pytest.importorskip("keras_tuner")
    for max_epochs, factor in [(9, 3), (27, 3), (8, 2), (16, 2), (16, 4), (25, 5)]:
        oracle = keras_tuner.oracles.HyperbandOracle("val_accuracy", max_epochs=max_epochs, factor=factor)
        for bracket in brackets(max_epochs, factor):
            cuts = range(bracket.halvings + 1)
            assert bracket.epochs == tuple(oracle._get_epochs(bracket.halvings, cut) for cut in cuts)
            assert bracket.sizes == tuple(oracle._get_size(bracket.halvings, cut) for cut in cuts)
        assert oracle._get_num_brackets() == len(brackets(max_epochs, factor))


@pytest.mark.parametrize(("max_epochs", "factor"), PAIRS)
def test_every_bracket_grows_to_the_maximum_and_shrinks(max_epochs: int, factor: int):
    plan = brackets(max_epochs, factor)
    assert [bracket.halvings for bracket in plan] == list(range(len(plan)))[::-1]
    for bracket in plan:
        assert bracket.epochs[-1] == max_epochs
        assert all(earlier < later for earlier, later in zip(bracket.epochs, bracket.epochs[1:], strict=False))
        assert all(earlier >= later > 0 for earlier, later in zip(bracket.sizes, bracket.sizes[1:], strict=False))


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("knows_end", [True, False])
@pytest.mark.parametrize(("max_epochs", "factor"), PAIRS)
def test_a_simulated_search_trains_exactly_its_plan(max_epochs: int, factor: int, knows_end: bool, slots: int):
    trials = simulate(max_epochs, factor, slots, knows_end=knows_end)
    assert {trial.status for trial in trials} == {Trial.TERMINATED}
    assert sum(trial.epoch for trial in trials) == sum(bracket.budget for bracket in brackets(max_epochs, factor))


@pytest.mark.parametrize("slots", [1, 2])
def test_a_simulated_bracket_keeps_its_best(slots: int):
    trials = simulate(10, 3, slots)
    first = trials[:9]
    ranked = sorted(first, key=lambda trial: trial.quality, reverse=True)
    assert [trial.epoch for trial in ranked] == [10, 4, 4, 2, 2, 2, 2, 2, 2]


@examples(300)
@given(
    pair=st.sampled_from(PAIRS),
    slots=st.integers(1, 3),
    iterations=st.integers(1, 2),
    knows_end=st.booleans(),
    seed=st.integers(0, 2**16),
    trouble=st.floats(0, 0.5),
)
def test_a_simulated_search_ends_whatever_happens_to_its_trials(
    pair: tuple[int, int], slots: int, iterations: int, knows_end: bool, seed: int, trouble: float
):
    rng = random.Random(seed)

    def fate() -> str:
        return rng.choice(["done", "crash", "fail"]) if rng.random() < trouble else "ok"

    trials = simulate(*pair, slots, iterations=iterations, knows_end=knows_end, fate=fate, rng=rng)
    assert {trial.status for trial in trials} <= {Trial.TERMINATED, Trial.ERROR}


@pytest.mark.parametrize("before", [0, 24])
def test_a_simulated_trial_that_is_started_again_competes_where_it_was(before: int):
    # One slot, two epochs and a save a trial: after 24 the bracket waits for its ninth trial only.
    happens = iter(["ok"] * before + ["crash"])
    trials = simulate(10, 3, slots=1, fate=lambda: next(happens, "ok"))
    ranked = sorted(trials[:9], key=lambda trial: trial.quality, reverse=True)
    assert [trial.epoch for trial in ranked] == [10, 4, 4, 2, 2, 2, 2, 2, 2]


@examples(50)
@given(
    pair=st.sampled_from([(max_epochs, factor) for max_epochs, factor in PAIRS if max_epochs <= 9]),
    slots=st.integers(1, 3),
    created=st.sampled_from([1, 2, 5, 1000]),
    seed=st.integers(0, 2**16),
    trouble=st.floats(0, 0.3),
)
def test_order_and_crashes_change_no_decision_of_a_simulated_search(
    pair: tuple[int, int], slots: int, created: int, seed: int, trouble: float
):
    # Few different qualities, so that trials tie; some trials end by themselves, at an epoch of their own.
    def search(seed: int, trouble: float, slots: int, created: int) -> list[int]:
        rng = random.Random(seed)
        trials = simulate(
            *pair,
            slots,
            iterations=2,
            fate=lambda: "crash" if rng.random() < trouble else "ok",
            rng=rng,
            created=created,
            restarts=1000,
            traits=lambda number: (number * 7 % 5, 1 + number * 3 % 11),
        )
        return [trial.epoch for trial in trials]

    assert search(seed, trouble, slots, created) == search(0, 0, 1, 1000)


@pytest.mark.parametrize("happened", ["done", "fail"])
def test_a_simulated_trial_at_the_maximum_does_not_wait_for_one_that_never_comes(happened: str):
    # One slot: the last of the two uncut trials gets as far as its second epoch when the other has finished.
    happens = iter(["ok"] * 7 + [happened])
    trials = simulate(2, 2, slots=1, knows_end=False, fate=lambda: next(happens, "ok"))
    assert [trial.status for trial in trials] == [Trial.TERMINATED] * 3 + [
        Trial.ERROR if happened == "fail" else Trial.TERMINATED
    ]


class SimulatedTrial:
    """As much of a Tune trial as a scheduler sees.

    Tune saves a trial before it pauses it; meanwhile other trials report, and the status is still RUNNING.
    """

    def __init__(self, quality: float, last: float, restarts: int) -> None:
        self.quality, self.last, self.restarts = quality, last, restarts
        self.epoch = 0
        self.failures = 0
        self.status = Trial.PENDING
        self.is_saving = False

    def should_recover(self) -> bool:
        return self.failures <= self.restarts


class SimulatedController:
    """As much of Tune's controller as a scheduler calls."""

    def __init__(self, scheduler: Hyperband) -> None:
        self.scheduler = scheduler

    def stop_trial(self, trial: SimulatedTrial) -> None:
        if trial.status in (Trial.PAUSED, Trial.PENDING):
            self.scheduler.on_trial_remove(self, trial)
        elif trial.status == Trial.RUNNING:
            self.scheduler.on_trial_complete(self, trial, {})
        trial.status = Trial.TERMINATED
        trial.is_saving = False


def simulate(
    max_epochs: int,
    factor: int,
    slots: int,
    iterations: int = 1,
    knows_end: bool = True,
    fate: Callable[[], str] = lambda: "ok",
    rng: random.Random | None = None,
    created: int = 1000,
    restarts: int = 1,
    traits: Callable[[int], tuple[float, float]] | None = None,
) -> list[SimulatedTrial]:
    """Runs a search as Tune's controller would.

    Args:
        max_epochs, factor, iterations: of the search.
        slots: how many trials run at once.
        knows_end: whether a trial says itself that it has reached the maximum, as `fmnist tune`'s do.
        fate: what becomes of each epoch and each save.
        rng: whose turn it is.
        created: how many trials wait for their start at most; Tune creates no more.
        restarts: how often a trial is started again.
        traits: of a trial's number, its quality and its last epoch; at random, and none, if None.
    """
    rng = rng or random.Random(0)
    scheduler: Any = Hyperband("accuracy", max_epochs, factor)
    controller = SimulatedController(scheduler)
    count = iterations * sum(bracket.sizes[0] for bracket in brackets(max_epochs, factor))
    every = [traits(number) if traits else (rng.random(), math.inf) for number in range(count)]
    trials: list[SimulatedTrial] = []
    while True:
        while len(trials) < count and sum(trial.status == Trial.PENDING for trial in trials) < created:
            trials.append(SimulatedTrial(*every[len(trials)], restarts))
            scheduler.on_trial_add(controller, trials[-1])
        running = [trial for trial in trials if trial.status == Trial.RUNNING]
        if len(running) < slots and (chosen := scheduler.choose_trial_to_run(controller)):
            chosen.status = Trial.RUNNING
            continue
        if not running:
            return trials
        trial = rng.choice(running)
        happened = fate()
        if happened in ("crash", "fail"):
            trial.failures += 1 if happened == "crash" else 2
            trial.is_saving = False
            if trial.should_recover():
                trial.status, trial.epoch = Trial.ERROR, 0
                scheduler.on_trial_error(controller, trial)
                trial.status = Trial.PENDING
                scheduler.on_trial_add(controller, trial)
            else:
                scheduler.on_trial_error(controller, trial)
                trial.status = Trial.ERROR
            continue
        if trial.is_saving:
            trial.is_saving, trial.status = False, Trial.PAUSED
            continue
        trial.epoch += 1
        result = {"training_iteration": trial.epoch, "accuracy": trial.quality}
        if happened == "done" or trial.epoch >= trial.last or (knows_end and trial.epoch == max_epochs):
            controller.stop_trial(trial)
            continue
        action = scheduler.on_trial_result(controller, trial, result)
        if action == TrialScheduler.PAUSE:
            trial.is_saving = True
        elif action == TrialScheduler.STOP:
            controller.stop_trial(trial)


def test_a_trial_trains_from_one_rung_of_its_bracket_to_the_next_in_one_go():
    # Brackets of 9, 5 and 3 trials, with rungs at 2, 4 and 10, at 4 and 10, and at 10 epochs.
    assert [stretch(10, 3, 9, done) for done in (0, 1, 2, 3, 4, 9)] == [2, 2, 2, 2, 6, 6]
    assert [stretch(10, 3, trial, 0) for trial in (1, 9, 10, 14, 15, 17, 18)] == [2, 2, 4, 4, 10, 10, 2]
