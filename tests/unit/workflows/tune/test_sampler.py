"""The sampler tpe: what a point is drawn from depends on no order in which trials end, and on no interruption."""

from __future__ import annotations

import random
from typing import Any

from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.search import Searcher

from fmnist.distributed.spaces import Point
from fmnist.workflows.tune.config import TuneConfig
from fmnist.workflows.tune.sampler import ENOUGH, TpeSearch, drawn_at_random, scores
from fmnist.workflows.tune.trial import OUT_OF_TIME, epochs_in_a_row

CONFIG = TuneConfig(sampler="tpe", max_epochs=10, factor=3)
TRIALS = 17


def result(number: int, epochs: int, **more: Any) -> dict[str, Any]:
    return {"rows": tuple({"epoch": e, "val_accuracy": 1 - 1 / (number + e)} for e in range(1, epochs + 1)), **more}


def simulate(seed: int, ahead: int, slots: int, last: dict[int, int], config: TuneConfig = CONFIG) -> list[Any]:
    """Runs a search whose trials end in a random order; returns what each drawn point was drawn from.

    ``last`` has the epoch at which a trial ends by itself, by number.
    """
    order, drawn = random.Random(seed), []

    def draw(number: int, tried: list[Any]) -> Point:
        drawn.append((number, tried))
        return Point({"x": number})

    first = [Point({"x": number}) for number in range(1, drawn_at_random(TRIALS, ahead) + 1)]
    search = TpeSearch(config, TRIALS, first, ahead, draw)
    running: dict[str, tuple[int, int]] = {}
    asked = 0
    while True:
        while len(running) < slots and isinstance(suggested := search.suggest(f"id-{asked + 1}"), dict):
            asked += 1
            assert suggested == {
                "trial": asked,
                "point": {"values": {"x": asked}, "problem": None, "model_parameters": None, "unused": ()},
            }
            running[f"id-{asked}"] = asked, 0
        if not running:
            assert suggested == Searcher.FINISHED
            return drawn
        trial_id = order.choice(sorted(running))
        number, epochs = running[trial_id]
        if (number not in last and epochs == config.max_epochs) or order.random() < 0.05:
            # Dropped by the scheduler, at a rung or later, or started again after a crash.
            if epochs < epochs_in_a_row(config, number):
                running[trial_id] = number, 0
                continue
            search.on_trial_complete(trial_id)
            del running[trial_id]
        elif last.get(number) == epochs:
            search.on_trial_complete(trial_id, result(number, epochs))
            del running[trial_id]
        else:
            running[trial_id] = number, epochs + 1
            search.on_trial_result(trial_id, result(number, epochs + 1))


@examples(60)
@given(
    seeds=st.tuples(st.integers(0, 2**16), st.integers(0, 2**16)),
    slots=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    ahead=st.integers(1, 6),
    last=st.dictionaries(st.integers(1, TRIALS), st.integers(0, 10), max_size=5),
    scheduler=st.sampled_from(["hyperband", "asha"]),
)
def test_points_do_not_depend_on_order_slots_or_crashes(
    seeds: tuple[int, int], slots: tuple[int, int], ahead: int, last: dict[int, int], scheduler: str
) -> None:
    config = TuneConfig(sampler="tpe", max_epochs=10, factor=3, scheduler=scheduler)
    one, other = (simulate(seed, ahead, count, last, config) for seed, count in zip(seeds, slots, strict=True))

    assert one == other
    assert [number for number, _ in one] == list(range(drawn_at_random(TRIALS, ahead) + 1, TRIALS + 1))
    for number, tried in one:
        assert [values["x"] for values, _ in tried] == list(range(1, number))
        assert all(score is None for _, score in tried[number - ahead :])
        assert sum(score is not None for _, score in tried) >= ENOUGH


def test_scores_are_of_the_most_epochs_that_enough_trials_have_trained() -> None:
    short, long = ([0.5, 0.7], False), ([0.4, 0.6, 0.9, 0.8], False)

    assert scores([short] * ENOUGH + [long]) == [0.7] * ENOUGH + [0.6]
    assert scores([short] + [long] * ENOUGH) == [None] + [0.9] * ENOUGH
    # One that has ended by itself gets no better.
    assert scores([([0.3], True), ([], True)] + [long] * ENOUGH) == [0.3, 0.0] + [0.9] * ENOUGH


def test_no_point_is_drawn_once_a_trial_that_it_needs_has_run_out_of_time() -> None:
    points = [Point({"x": number}) for number in range(1, drawn_at_random(TRIALS, 2) + 1)]
    search = TpeSearch(CONFIG, TRIALS, points, 2, lambda number, tried: Point({"x": number}))
    for number in range(1, 8):
        assert search.suggest(f"id-{number}")
    for number in range(1, 7):
        search.on_trial_complete(f"id-{number}", result(number, 2))
    assert search.suggest("id-8")["point"]["values"] == {"x": 8}

    search.on_trial_complete("id-7", result(7, 1, **{OUT_OF_TIME: True}))

    # Hyperband still gets all trials of its brackets.
    for number in range(9, TRIALS + 1):
        assert search.suggest(f"id-{number}")["point"]["values"] == {}
        search.on_trial_complete(f"id-{number - 1}", result(number - 1, 0, **{OUT_OF_TIME: True}))
    assert search.suggest("id-18") == Searcher.FINISHED
