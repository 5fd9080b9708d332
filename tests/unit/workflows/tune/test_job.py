"""What a search writes, and what it does when it finds another best trial than before it was interrupted."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from fmnist.errors import TrainingError
from fmnist.runs import RunFolder
from fmnist.storage import FolderStore
from fmnist.workflows.tune.config import TuneConfig
from fmnist.workflows.tune.job import NOT_KEPT, _write_trials
from fmnist.workflows.tune.records import TrialRecord

CONFIG = TuneConfig(space="notebook", retrain_epochs=7, precision="auto", seed=3)


def record(trial: int, val_accuracy: float, **parameters: Any) -> TrialRecord:
    row = {"epoch": 1.0, "val_accuracy": val_accuracy, "val_loss": 0.5, "seconds": 1.0}
    return TrialRecord(trial, 0, parameters, "finished", (row,))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(FolderStore(tmp_path), "run")


def test_best_is_a_training_of_the_winner(run: RunFolder) -> None:
    _write_trials(CONFIG, run, [record(1, 0.5, units=1), record(2, 0.9, units=2, batch_size=128.0)], 1000)

    best = yaml.safe_load(run.get_bytes("best.yaml"))
    assert best["hyperparameters"] == {"units": 2, "batch_size": 128.0}
    assert (best["model"], best["epochs"], best["batch_size"], best["seed"]) == ("notebook", 7, 128, 3)
    assert isinstance(best["batch_size"], int)
    assert not {"run_id", "artifacts", "overwrite", "learning_rate"} & set(best)


@pytest.mark.parametrize(("later", "kept"), [(0.5, True), (0.95, False)])
def test_checkpoints_of_another_winner_are_not_used(run: RunFolder, later: float, kept: bool) -> None:
    first = record(1, 0.9, units=1)
    _write_trials(CONFIG, run, [first], 1000)
    run.put_bytes("checkpoints/epoch-0001/variables.npz", b"weights")

    _write_trials(CONFIG, run, [first, record(2, later, units=2)], 1000)

    assert run.exists("checkpoints/epoch-0001/variables.npz") is kept


def test_a_winner_whose_retraining_failed_makes_room_for_the_next_also_after_a_restart(run: RunFolder) -> None:
    records = [record(1, 0.9, units=1), record(2, 0.8, units=2), record(3, 0.7, units=3)]
    run.put_json(NOT_KEPT, {"1": "epoch 4: the loss is nan"})

    shown, winner, val_accuracy = _write_trials(CONFIG, run, records, 1000)

    assert (winner.trial, val_accuracy) == (2, 0.8)
    assert [one.status for one in shown] == ["failed", "finished", "finished"]
    assert b"its retraining failed: epoch 4: the loss is nan" in run.get_bytes("trials.csv")
    run.put_json(NOT_KEPT, {"1": "nan", "2": "nan", "3": "nan"})
    with pytest.raises(TrainingError, match="every trial failed, 3 in all"):
        _write_trials(CONFIG, run, records, 1000)


def test_all_failed_leaves_the_table_and_says_why(run: RunFolder) -> None:
    failed = TrialRecord(1, 2, {"units": 1}, "failed", error="OSError: no space left")

    with pytest.raises(TrainingError, match=r"every trial failed, 1 in all; .* trial 1: OSError: no space left$"):
        _write_trials(CONFIG, run, [failed], 1000)

    assert b"OSError: no space left" in run.get_bytes("trials.csv")
    assert not run.exists("best.yaml")


def test_driver_does_not_import_tensorflow() -> None:
    code = "import sys, fmnist.workflows.tune.job; print({'tensorflow', 'keras'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_smallest_of_the_nearly_best_is_trained_if_small_is_preferred(run: RunFolder) -> None:
    sizes = {1: 500_000, 2: 60_000, 3: 20_000}
    records = [
        replace(record(n, accuracy), model_parameters=sizes[n]) for n, accuracy in ((1, 0.9), (2, 0.891), (3, 0.88))
    ]

    _, winner, val_accuracy = _write_trials(replace(CONFIG, prefer_small=True), run, records, 1000)

    # One standard error is 0.0095.
    assert (winner.trial, val_accuracy) == (2, 0.891)
    assert run.get_bytes("trials.csv").decode().splitlines()[1].split(",")[-1] == "500000"
