"""A run and its repetition are compared to the last digit, and the first difference is found where it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st

from fmnist.errors import IntegrityError
from fmnist.runs import HISTORY, METRICS, TRIALS_HISTORY, RunFolder
from fmnist.runs.environment import environment
from fmnist.runs.reproduction import Difference, compare_epochs, environment_differences
from fmnist.storage import FolderStore

EPOCHS = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "loss": [0.1 + 0.2, 1 / 3, 2 / 3],
        "val_accuracy": [0.8, 0.85, 0.9],
        "seconds": [1.0, 2.0, 3.0],
    }
)
SCORES: dict[str, Any] = {"test": {"accuracy": 0.91, "loss": 0.25}, "seconds": {"total": 3.0}}


def finished(folder: Path, run_id: str, tables: dict[str, pd.DataFrame], scores: dict[str, Any] = SCORES) -> RunFolder:
    run = RunFolder(FolderStore(folder), run_id)
    for name, table in tables.items():
        run.put_csv(name, table)
    run.put_json(METRICS, scores)
    run.finish("train")
    return run


def changed(table: pd.DataFrame, row: int, column: str, change: Callable[[float], float]) -> pd.DataFrame:
    table = table.copy()
    table.loc[row, column] = change(table.loc[row, column])
    return table


def test_equal_runs_have_no_difference_whatever_their_times(tmp_path: Path) -> None:
    again = EPOCHS.assign(seconds=[9.0, 9.0, 9.0])
    found = compare_epochs(
        finished(tmp_path, "a", {HISTORY: EPOCHS}),
        finished(tmp_path, "b", {HISTORY: again}, {**SCORES, "seconds": {"total": 9.0}}),
    )

    assert found.epochs == 3 and found.first is None


def test_first_epoch_that_differs_in_the_last_digit_is_found(tmp_path: Path) -> None:
    again = changed(EPOCHS, 1, "loss", lambda loss: float(np.nextafter(loss, 1)))
    again = changed(again, 2, "val_accuracy", lambda _: 0.1)
    found = compare_epochs(finished(tmp_path, "a", {HISTORY: EPOCHS}), finished(tmp_path, "b", {HISTORY: again}))

    assert found.first == Difference("epoch 2 of history.csv", "loss", 1 / 3, float(np.nextafter(1 / 3, 1)))
    assert str(found.first).endswith("difference +5.6e-17")


@examples(50)
@given(st.floats(min_value=-1e9, max_value=1e9))
def test_neighbours_of_any_number_are_told_apart(tmp_path: Path, number: float) -> None:
    next_one = float(np.nextafter(number, np.inf))
    runs = []
    for run_id, value in (("a", number), ("b", next_one)):
        RunFolder(FolderStore(tmp_path), run_id).remove()
        table = EPOCHS.assign(loss=[value, 0.0, 0.0])
        runs.append(finished(tmp_path, run_id, {HISTORY: table}))

    assert compare_epochs(runs[0], runs[0]).first is None
    assert compare_epochs(*runs).first == Difference("epoch 1 of history.csv", "loss", number, next_one)


def test_epoch_that_only_one_run_has_is_a_difference(tmp_path: Path) -> None:
    a, b = finished(tmp_path, "a", {HISTORY: EPOCHS}), finished(tmp_path, "b", {HISTORY: EPOCHS[:2]})

    assert str(compare_epochs(a, b).first).startswith("epoch 3 of history.csv: loss was 0.666")
    assert str(compare_epochs(b, a).first).startswith("epoch 3 of history.csv: loss was missing")


def test_trials_are_compared_before_the_retraining(tmp_path: Path) -> None:
    trials = pd.concat([EPOCHS.assign(trial=1), EPOCHS.assign(trial=2)])
    other = trials.copy()
    other.iloc[4, 1] = 0.5
    a = finished(tmp_path, "a", {HISTORY: EPOCHS, TRIALS_HISTORY: trials})
    b = finished(tmp_path, "b", {HISTORY: EPOCHS[:1], TRIALS_HISTORY: other})

    first = compare_epochs(a, b).first
    assert first and first.where == "epoch 2, trial 2 of trials_history.csv"


def test_scores_are_compared_where_all_epochs_are_equal(tmp_path: Path) -> None:
    a = finished(tmp_path, "a", {HISTORY: EPOCHS})
    b = finished(tmp_path, "b", {HISTORY: EPOCHS}, {"test": {"accuracy": 0.9101, "loss": 0.25}})

    assert compare_epochs(a, b).first == Difference(METRICS, "test.accuracy", 0.91, 0.9101)


@pytest.mark.parametrize("content", [b"", b"epoch,loss\n1,high\n", b"\xff\xfe", b"nothing\n"])
def test_table_that_is_none_is_damaged(tmp_path: Path, content: bytes) -> None:
    run = RunFolder(FolderStore(tmp_path), "a")
    run.put_bytes(HISTORY, content)
    run.put_json(METRICS, SCORES)
    run.finish("train")
    with pytest.raises(IntegrityError, match=r"a.*history\.csv"):
        compare_epochs(run, run)


def test_environment_differs_in_what_both_know() -> None:
    recorded = {**environment(), "numpy": "1.0.0", "lanes": 2}
    del recorded["cores"]

    assert environment_differences(recorded) == {"numpy": ("1.0.0", environment()["numpy"])}
