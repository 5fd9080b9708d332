"""What a search's trials amount to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st

from fmnist.workflows.tune.records import (
    Status,
    TrialRecord,
    best_trial,
    pareto_front,
    smallest_trial,
    standard_error,
    trials_table,
)


def record(trial: int, accuracies: list[float], status: Status = "finished", **parameters: object) -> TrialRecord:
    rows = [
        {"epoch": float(epoch), "val_accuracy": accuracy, "val_loss": 1 - accuracy, "seconds": 2.0}
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]
    return TrialRecord(trial, 0, dict(parameters), status, tuple(rows))


def test_best_trial_has_the_highest_accuracy_in_any_epoch():
    assert best_trial([record(1, [0.5, 0.8]), record(2, [0.9, 0.1]), record(3, [0.7])]).trial == 2


def test_first_of_equal_trials_is_the_best():
    assert best_trial([record(1, [0.5]), record(3, [0.8]), record(2, [0.8])]).trial == 2


def test_failed_trial_is_not_the_best():
    assert best_trial([record(1, [0.9], "failed"), record(2, [0.8])]).trial == 2
    assert best_trial([record(1, [0.9], "failed"), record(2, [])]) is None


def test_table_has_a_row_a_trial_with_its_best_epoch():
    table = trials_table([record(1, [0.5, 0.8, 0.7], units=3), record(2, [], "failed", units=4)])

    assert table.loc[0, ["epochs", "best_epoch", "best_val_accuracy", "seconds", "units"]].tolist() == [3, 2, 0.8, 6, 3]
    assert table.loc[1, ["status", "epochs", "seconds", "units"]].tolist() == ["failed", 0, 0, 4]
    assert table.loc[1, ["best_epoch", "best_val_accuracy"]].isna().all()


def test_hyperparameter_does_not_take_a_columns_place():
    table = trials_table([record(1, [0.5], epochs=99, status_="x")])

    assert table.loc[0, "epochs"] == 1
    assert table.loc[0, "epochs (hyper-parameter)"] == 99


SIZED = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 10)), max_size=12)


def sized(pairs: list[tuple[int, int]]) -> list[TrialRecord]:
    return [
        replace(record(number, [tenths / 10]), model_parameters=size)
        for number, (size, tenths) in enumerate(pairs, start=1)
    ]


@examples(100)
@given(pairs=SIZED)
def test_front_has_every_trial_that_no_other_equals_in_both_and_only_those(pairs: list[tuple[int, int]]) -> None:
    def dominated(pair: tuple[int, int]) -> bool:
        return any(size <= pair[0] and tenths >= pair[1] and (size, tenths) != pair for size, tenths in pairs)

    front = [pairs[one.trial - 1] for one in pareto_front(sized(pairs))]

    assert front == sorted({pair for pair in pairs if not dominated(pair)})


@examples(100)
@given(pairs=SIZED, images=st.integers(1, 1000))
def test_smallest_is_on_the_front_and_within_one_standard_error(pairs: list[tuple[int, int]], images: int) -> None:
    records = sized(pairs)
    best, chosen = best_trial(records), smallest_trial(records, images)
    if best is None:
        assert chosen is None
        return
    assert chosen in pareto_front(records)
    highest = best.best["val_accuracy"]
    near = [one for one in records if one.best["val_accuracy"] >= highest - standard_error(highest, images)]
    assert chosen in near and chosen.model_parameters == min(one.model_parameters for one in near)


def test_failed_trial_is_neither_on_the_front_nor_the_smallest() -> None:
    failed, sound = replace(record(1, [0.9], "failed"), model_parameters=1), sized([(1, 1), (5, 8)])[1]

    assert pareto_front([failed, sound]) == [sound]
    assert smallest_trial([failed, sound], 100) == sound


def test_standard_error_is_the_binomial_one() -> None:
    assert standard_error(0.9, 10_000) == pytest.approx(0.003)
