"""A run keeps the number of lanes that it was started with: the last digits of its numbers follow from it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from fmnist.distributed.cluster import Resources, cpus_per_worker, workers_now
from fmnist.distributed.workers import LANES, keep_lanes
from fmnist.errors import UserError
from fmnist.runs import RunFolder
from fmnist.runs.lifecycle import OpenedRun
from fmnist.storage import FolderStore
from fmnist.workflows import JOBS
from fmnist.workflows.train.config import TrainConfig

# None of these reaches a lane or a kernel. Workers share the run's lanes. Their processors are the number of operations
# that run at once, each of them in one thread: which one computes a lane changes no number.
CHANGEABLE = {
    *("artifacts", "run_id", "overwrite", "skip_finished", "wait", "track", "allow_overlap", "max_failures"),
    *("workers", "cpus_per_worker", "concurrency", "carry_weights", "compare_with", "stages"),
}


def opened(tmp_path: Path, lanes: int | None) -> OpenedRun:
    run = RunFolder(FolderStore(tmp_path), "run")
    run.put_json("environment.json", {LANES: lanes} if lanes else {})
    return OpenedRun(run, "resumed")


@pytest.mark.parametrize(
    ("workers", "cpus", "gpus", "expected"),
    [(1, 1, 0.0, 2), (1, 4, 0.0, 4), (2, 1, 0.0, 2), (2, 2, 0.0, 4), (1, 4, 1.0, 1), (2, 4, 0.5, 2), (1, 0.5, 0.0, 2)],
)
def test_new_run_has_a_lane_for_each_processor_or_gpu(
    tmp_path: Path, workers: int, cpus: float, gpus: float, expected: int
) -> None:
    config = TrainConfig(workers=workers, gpus_per_worker=gpus)

    assert keep_lanes(opened(tmp_path, None), config, cpus) == expected


def test_resumed_run_keeps_its_lanes_and_workers_share_them(tmp_path: Path) -> None:
    run = opened(tmp_path, 4)

    assert [keep_lanes(run, TrainConfig(workers=workers), 1, 8) for workers in (1, 2, 3, 4, "1:4")] == [4] * 5
    for workers in (5, "1:5"):
        with pytest.raises(UserError, match=rf"^workers: found {workers}, expected at most 4, the number of the run's"):
            keep_lanes(run, TrainConfig(workers=workers), 1)


def test_new_run_has_the_lanes_of_its_setting_or_of_its_most_workers(tmp_path: Path) -> None:
    run = opened(tmp_path, None)

    assert keep_lanes(run, TrainConfig(workers=2), 1, 8) == 8
    assert keep_lanes(run, TrainConfig(workers="2:6"), 1) == 6
    with pytest.raises(UserError, match=r"^workers: found 2, expected at most 1, the number of the run's lanes"):
        keep_lanes(run, TrainConfig(workers=2), 1, 1)


@pytest.mark.parametrize("workers", ["2:1", "0:2", "1:", "1:2:3", "all"])
def test_what_is_no_range_of_workers_is_refused(workers: str) -> None:
    with pytest.raises(UserError, match=rf"^workers: found {workers}, expected .*a range such as 1:8"):
        TrainConfig(workers=workers)


def test_range_of_workers_takes_what_a_cluster_that_cannot_grow_has_room_for() -> None:
    def now(workers: int | str, *, cpus: float, gpus: float = 0, started_here: bool = True) -> int | str:
        resources = Resources(4, 2, 1, 4, started_here)
        return workers_now(resources, workers, cpus, gpus)

    assert [now("1:8", cpus=1), now("1:3", cpus=1), now("1:8", cpus=1, gpus=1), now(2, cpus=1)] == [4, 3, 2, 2]
    assert [now("1:8", cpus=1, started_here=False), now("2:2", cpus=1)] == ["1:8", 2]
    assert cpus_per_worker(Resources(4, 0, 2, 2, False), "1:8", "auto", 0) == 2


@pytest.mark.parametrize("job", JOBS)
def test_resumed_run_may_change_only_what_changes_no_number(job: str) -> None:
    settings = JOBS[job].Config

    assert {field.name for field in fields(settings)} - settings.fixed_settings() <= CHANGEABLE
