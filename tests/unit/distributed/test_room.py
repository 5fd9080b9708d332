"""What a job may ask a cluster for, told before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fmnist.distributed import session
from fmnist.distributed.cluster import Resources, check_room
from fmnist.distributed.session import with_gpus, with_precision
from fmnist.distributed.spaces import check_model
from fmnist.errors import UserError
from fmnist.runs import RunFolder
from fmnist.runs.lifecycle import OpenedRun, changed_setting
from fmnist.storage.folder_store import FolderStore
from fmnist.workflows import JOBS
from fmnist.workflows.tune.config import TuneConfig

LAPTOP = Resources(cpus=2, gpus=0, nodes=1, cpus_of_largest_node=2, started_here=True)
GROWING = Resources(cpus=2, gpus=0, nodes=1, cpus_of_largest_node=2, started_here=False)


@pytest.mark.parametrize(
    ("kind", "count", "cpus", "gpus", "message"),
    [
        ("fold", 1, 3.0, 0, "cpus_per_fold: found 3, expected at most the 2 processors of this machine"),
        ("fold", 1, 1.0, 1, "gpus_per_fold: found 1, expected at most the 0 GPUs of this machine"),
        ("fold", 1, 1.0, 2, "gpus_per_fold: found 2, expected 0 to 1; several GPUs take several --workers"),
        ("trial", 1, 1000.0, 0, "cpus_per_trial: found 1000, expected at most the 2 processors of this machine"),
        ("trial", 1, 1.0, 2, "gpus_per_trial: found 2, expected 0 to 1"),
        ("trial", 1, 1.5, 0, "cpus_per_trial: found 1.5, expected a whole number, or a share of one processor"),
        ("worker", 2, 1.0, 0.5, "gpus_per_worker: found 0.5 and 2 workers, expected 1, or 1 worker: workers exchange"),
        ("worker", 3, 1.0, 0, "workers x cpus_per_worker: found 3 x 1, expected at most the 2 processors"),
    ],
)
def test_what_finds_no_room_is_refused_by_name(kind, count: int, cpus: float, gpus: float, message: str) -> None:
    with pytest.raises(UserError) as error:
        check_room(LAPTOP, kind, count, cpus, gpus)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("cpus", [1, 2.0, 0.5])
def test_what_fits_is_not_refused(cpus: float) -> None:
    check_room(LAPTOP, "fold", 1, cpus, 0)


def test_cluster_that_may_grow_is_asked_for_more_than_it_has() -> None:
    check_room(GROWING, "fold", 1, 64.0, 1)


def test_hyperparameters_of_a_model_that_has_none_are_refused() -> None:
    check_model("lenet5", None)
    with pytest.raises(UserError, match=r"^hyperparameters: found some, expected none, for lenet5 is no search space$"):
        check_model("lenet5", {"units": 3})


@pytest.mark.parametrize(
    ("gpus", "workers", "stored", "expected"),
    [
        (0, 1, None, (0.0, 0.0)),
        (1, 1, None, (1.0, 1.0)),
        # Each worker needs one; a trial takes one.
        (1, 2, None, (0.0, 1.0)),
        # A run goes on with what it was started with, as one of an earlier version whose default was none.
        (1, 1, 0, (0, 0)),
        (0, 1, 0.5, (0.5, 0.5)),
    ],
)
def test_a_gpu_is_used_where_there_is_one(tmp_path: Path, gpus: float, workers: int, stored, expected) -> None:
    folder = RunFolder(FolderStore(tmp_path), "one")
    if stored is not None:
        folder.put_bytes("config.yaml", f"gpus_per_worker: {stored}\ngpus_per_trial: {stored}\n".encode())
    there = Resources(cpus=4, gpus=gpus, nodes=1, cpus_of_largest_node=4, started_here=True)
    opened = OpenedRun(folder, "new" if stored is None else "resumed")

    config = with_gpus(TuneConfig(workers=workers), opened, there)

    assert (config.gpus_per_worker, config.gpus_per_trial) == expected
    assert with_gpus(TuneConfig(gpus_per_trial=0.25), opened, there).gpus_per_trial == 0.25


@pytest.mark.parametrize("job", JOBS)
def test_resumed_run_keeps_the_precision_that_auto_was(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, lines = RunFolder(FolderStore(tmp_path), "one"), []
    asked = JOBS[job].Config(precision="auto")
    config = with_gpus(asked, OpenedRun(folder, "new"), LAPTOP)

    def settled(entry, there: str) -> str:
        monkeypatch.setattr(session, "_automatic_precision", lambda *_: there)
        return with_precision(config, OpenedRun(folder, entry), LAPTOP, lines.append).precision

    assert settled("new", "bfloat16") == "bfloat16" and settled("new", "float32") == "float32"
    # One of an earlier version, which says what it was told.
    folder.put_bytes("config.yaml", b"precision: auto\n")
    assert settled("resumed", "bfloat16") == "bfloat16" and not lines
    folder.put_bytes("config.yaml", b"precision: bfloat16\n")
    assert settled("resumed", "bfloat16") == "bfloat16" and not lines
    assert settled("resumed", "float32") == "bfloat16"
    assert lines == ["precision: bfloat16 as the run was started with; auto would be float32 here, which may be faster"]
    assert changed_setting(folder, asked) is None
    changed = changed_setting(folder, replace(asked, precision="float32"))
    assert changed == "started with precision bfloat16, found float32"


def test_precision_is_one_that_all_processes_of_a_job_are_quick_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_automatic_precision", lambda _, gpus, note: "bfloat16" if gpus else "float32")

    new = OpenedRun(RunFolder(FolderStore(tmp_path), "one"), "new")

    def settled(trials: float, workers: float) -> str:
        config = TuneConfig(precision="auto", gpus_per_trial=trials, gpus_per_worker=workers)
        return with_precision(config, new, LAPTOP, print).precision

    assert [settled(1, 1), settled(0.5, 1), settled(0, 1), settled(0, 0)] == [*["bfloat16"] * 2, *["float32"] * 2]
