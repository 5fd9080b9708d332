"""What a search writes, and what it does when it finds another best trial than before it was interrupted."""

from __future__ import annotations

import subprocess
import sys
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
    _write_trials(CONFIG, run, [record(1, 0.5, units=1), record(2, 0.9, units=2, batch_size=128.0)])

    best = yaml.safe_load(run.get_bytes("best.yaml"))
    assert best["hyperparameters"] == {"units": 2, "batch_size": 128.0}
    assert (best["model"], best["epochs"], best["batch_size"], best["seed"]) == ("notebook", 7, 128, 3)
    assert isinstance(best["batch_size"], int)
    assert not {"run_id", "artifacts", "overwrite", "learning_rate"} & set(best)


@pytest.mark.parametrize(("later", "kept"), [(0.5, True), (0.95, False)])
def test_checkpoints_of_another_winner_are_not_used(run: RunFolder, later: float, kept: bool) -> None:
    first = record(1, 0.9, units=1)
    _write_trials(CONFIG, run, [first])
    run.put_bytes("checkpoints/epoch-0001/variables.npz", b"weights")

    _write_trials(CONFIG, run, [first, record(2, later, units=2)])

    assert run.exists("checkpoints/epoch-0001/variables.npz") is kept


def test_a_winner_whose_retraining_failed_makes_room_for_the_next_also_after_a_restart(run: RunFolder) -> None:
    records = [record(1, 0.9, units=1), record(2, 0.8, units=2), record(3, 0.7, units=3)]
    run.put_json(NOT_KEPT, {"1": "epoch 4: the loss is nan"})

    shown, winner, val_accuracy = _write_trials(CONFIG, run, records)

    assert (winner.trial, val_accuracy) == (2, 0.8)
    assert [one.status for one in shown] == ["failed", "finished", "finished"]
    assert b"its retraining failed: epoch 4: the loss is nan" in run.get_bytes("trials.csv")
    run.put_json(NOT_KEPT, {"1": "nan", "2": "nan", "3": "nan"})
    with pytest.raises(TrainingError, match="every trial failed, 3 in all"):
        _write_trials(CONFIG, run, records)


def test_all_failed_leaves_the_table_and_says_why(run: RunFolder) -> None:
    failed = TrialRecord(1, 2, {"units": 1}, "failed", error="OSError: no space left")

    with pytest.raises(TrainingError, match=r"every trial failed, 1 in all; .* trial 1: OSError: no space left$"):
        _write_trials(CONFIG, run, [failed])

    assert b"OSError: no space left" in run.get_bytes("trials.csv")
    assert not run.exists("best.yaml")


def test_driver_does_not_import_tensorflow() -> None:
    code = "import sys, fmnist.workflows.tune.job; print({'tensorflow', 'keras'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
