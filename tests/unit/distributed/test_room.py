"""What a job may ask a cluster for, told before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist.distributed.cluster import Resources, check_room
from fmnist.distributed.session import with_gpus
from fmnist.distributed.spaces import check_model
from fmnist.errors import UserError
from fmnist.runs import RunFolder
from fmnist.runs.lifecycle import OpenedRun
from fmnist.storage.folder_store import FolderStore
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
