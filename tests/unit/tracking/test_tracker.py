"""A run is tracked while a job works: what is stored is sent, and a tracker that fails costs a line, no result."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tracked_runs import begun, finish, put_epochs

from fmnist.errors import LeaseError, TrainingError, UserError
from fmnist.options import parse_config
from fmnist.runs import RunFolder
from fmnist.storage import FolderStore
from fmnist.tracking import tracker
from fmnist.tracking.tracker import check_installed, tracked
from fmnist.workflows.train.config import TrainConfig


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    monkeypatch.setattr(tracker, "INTERVAL", 0.05)
    return FolderStore(tmp_path / "artifacts")


def sent(runs: FolderStore) -> list[str]:
    """Returns what the names of the event files say after the run's identity."""
    return sorted(entry.key.split(".first.")[1] for entry in runs.entries("tensorboard"))


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_epochs_are_sent_while_the_job_works_and_the_rest_at_its_end(runs: FolderStore) -> None:
    with tracked(begun(runs, "train-1"), ["tensorboard"], "first"):
        run = begun(runs, "train-1")
        put_epochs(run, 1)
        until(lambda: sent(runs) == ["1-epochs-000001-000001"])
        finish(run, "train", 3, best_epoch=2, test={"accuracy": 0.9})

    assert sent(runs) == ["1-epochs-000001-000001", "1-epochs-000002-000003", "2-end"]


def test_checkpoint_that_the_job_removes_meanwhile_is_no_line_and_the_next_one_is_sent(
    runs: FolderStore, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run, listed = begun(runs, "train-1"), RunFolder.files
    looks: list[RunFolder] = []

    def with_a_removed_one(folder: RunFolder) -> dict[str, int]:
        looks.append(folder)
        return {**listed(folder), "checkpoints/epoch-0001/history.json": 9}

    monkeypatch.setattr(RunFolder, "files", with_a_removed_one)
    with tracked(run, ["tensorboard"], "first"):
        until(lambda: len(looks) > 1)
        monkeypatch.setattr(RunFolder, "files", listed)
        put_epochs(run, 2)
        until(lambda: sent(runs) == ["1-epochs-000001-000002"])

    assert capfd.readouterr().err == ""


def test_run_that_is_to_be_replaced_is_not_sent_as_the_new_one(
    runs: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, looks = begun(runs, "train-1"), []
    finish(run, "train", 3, best_epoch=2)
    looked = RunFolder.exists
    monkeypatch.setattr(RunFolder, "exists", lambda *one: looks.append(one) or looked(*one))

    with tracked(run, ["tensorboard"], "second"):
        until(lambda: len(looks) > 6)

    assert not list(runs.entries("tensorboard"))


def test_epochs_of_a_job_that_fails_are_sent(runs: FolderStore) -> None:
    run = begun(runs, "train-1")

    with pytest.raises(TrainingError), tracked(run, ["tensorboard"], "first"):
        put_epochs(run, 2)
        raise TrainingError("the loss is nan")

    assert sent(runs)[-1].endswith("-000002")


def test_job_that_another_process_took_over_sends_no_more(runs: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "INTERVAL", 60.0)
    run = begun(runs, "train-1")

    with pytest.raises(LeaseError), tracked(run, ["tensorboard"], "first"):
        put_epochs(run, 2)
        raise LeaseError("taken over")

    assert not list(runs.entries("tensorboard"))


def test_tracker_that_fails_is_a_line_and_the_other_one_goes_on(
    runs: FolderStore, capfd: pytest.CaptureFixture[str]
) -> None:
    run = begun(runs, "train-1")

    # No kind of tracker: as one whose library or server is away.
    with tracked(run, ["nowhere", "tensorboard"], "first"):
        put_epochs(run, 1)
        said = ""

        def is_said() -> bool:
            nonlocal said
            said += capfd.readouterr().err
            return "nowhere" in said

        until(is_said)
        finish(run, "train", 1, best_epoch=1, test={"accuracy": 0.9})

    lines = [line for line in (said + capfd.readouterr().err).splitlines() if "nowhere" in line]
    assert len(lines) == 2
    assert "it is tried again" in lines[0]
    assert "`fmnist runs track train-1 --to nowhere` sends it" in lines[1]
    assert sent(runs) == ["1-epochs-000001-000001", "2-end"]


def test_nothing_is_tracked_unless_it_is_asked_for(runs: FolderStore) -> None:
    run = begun(runs, "train-1")

    with tracked(run, [], "first"):
        put_epochs(run, 1)

    assert not list(runs.entries("tensorboard"))


@pytest.mark.parametrize("value", ["tensorboard", "mlflow", "tensorboard,mlflow"])
def test_setting_names_one_tracker_or_both(value: str) -> None:
    config = parse_config(TrainConfig, "fmnist train", ["--track", value])

    assert config and config.track == value


def test_setting_refuses_what_is_no_tracker() -> None:
    with pytest.raises(UserError, match="track: found wandb, expected tensorboard, mlflow, or both"):
        parse_config(TrainConfig, "fmnist train", ["--track", "wandb"])


def test_tracker_that_is_not_installed_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(UserError, match=r"not installed; `pip install 'fmnist\[mlflow\]'`"):
        check_installed("tensorboard,mlflow")


def test_mlflow_without_an_address_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker.importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI: not set, expected the address of an MLflow server"):
        check_installed("mlflow")
