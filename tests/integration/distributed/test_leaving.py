"""The one place that leaves Ray: nothing refers to objects on the cluster then, and no other thread can release any."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from pathlib import Path

import pytest
import ray

from fmnist.distributed import cluster
from fmnist.distributed.events import listen, open_events
from fmnist.distributed.session import Session, run_on_ray
from fmnist.errors import TrainingError
from fmnist.runs import RunFolder
from fmnist.runs.lifecycle import OpenedRun
from fmnist.storage import FolderStore
from fmnist.workflows.train.config import TrainConfig

pytestmark = pytest.mark.usefixtures("ray_cluster")


class Holder:
    """Holds an object reference, in a cycle, which only the collector finds, or in a frame."""

    made: list[weakref.ref[Holder]]

    def __init__(self, *, cycle: bool) -> None:
        self.reference = ray.put(0)
        self.itself = self if cycle else None
        self.made.append(weakref.ref(self))


class NoImages:
    def __init__(self) -> None:
        self.summary: dict[str, object] = {}


@pytest.fixture
def at_the_end(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, set[str]]]:
    """What there was when Ray was left: holders, objects that no collector sees, and names of threads."""
    seen: list[tuple[int, int, set[str]]] = []
    shutdown = ray.shutdown

    def look_and_shut_down() -> None:
        holders = sum(holder() is not None for holder in Holder.made)
        seen.append((holders, gc.get_freeze_count(), {thread.name for thread in threading.enumerate()}))
        shutdown()

    monkeypatch.setattr(Holder, "made", [], raising=False)
    monkeypatch.setattr(ray, "shutdown", look_and_shut_down)
    return seen


def test_references_in_cycles_are_released_before_ray_is_left(at_the_end: list[tuple[int, int, set[str]]]) -> None:
    with cluster.connected():
        gc.disable()
        try:
            Holder(cycle=True)
        finally:
            gc.enable()

    [(holders, frozen, _)] = at_the_end
    assert len(Holder.made) == 1 and holders == 0
    # No collection in whatever thread finds anything while Ray ends; afterwards they do again.
    assert frozen > 0 and gc.get_freeze_count() == 0


def test_references_in_the_frames_of_an_error_and_its_cause_are_released_before_ray_is_left(
    at_the_end: list[tuple[int, int, set[str]]],
) -> None:
    def fail() -> None:
        held = Holder(cycle=False)
        raise ValueError(held.reference.hex())

    def fail_for_a_reason() -> None:
        held = Holder(cycle=False)
        try:
            fail()
        except ValueError as error:
            raise TrainingError(f"{len(held.reference.hex())} digits") from error

    with pytest.raises(TrainingError, match="digits"), cluster.connected():
        fail_for_a_reason()

    assert len(Holder.made) == 2 and at_the_end[0][0] == 0


def test_ray_that_a_notebook_has_connected_is_used_without_others_settings_and_left_alone(
    ray_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_RESULT_DIR", "/no")
    ray.init(address=ray_cluster, log_to_driver=False)
    try:
        with cluster.connected() as resources:
            assert "TUNE_RESULT_DIR" not in os.environ and os.environ["TUNE_DISABLE_SIGINT_HANDLER"] == "1"
            assert not resources.started_here

        assert os.environ["TUNE_RESULT_DIR"] == "/no"
        assert ray.get(ray.put(1)) == 1
    finally:
        ray.shutdown()


@pytest.mark.parametrize("fails", [False, True])
def test_threads_of_a_job_have_ended_before_ray_is_left(
    fails: bool, at_the_end: list[tuple[int, int, set[str]]], tmp_path: Path
) -> None:
    def draw(images: NoImages) -> dict[str, bytes]:
        time.sleep(0.5)
        return {}

    def work(session: Session[TrainConfig, NoImages]) -> None:
        session.begin(draw)
        with listen(open_events(), print):
            if fails:
                raise TrainingError("loss is nan")

    before = {thread.name for thread in threading.enumerate()}
    run = RunFolder(FolderStore(tmp_path), "run")
    try:
        run_on_ray(OpenedRun(run, "new"), TrainConfig(), lambda config, note: NoImages(), work)
    except TrainingError:
        assert fails

    [(_, _, threads)] = at_the_end
    assert {name for name in threads - before if not name.startswith(("ray_", "PythonGC"))} == set()


@pytest.mark.parametrize("fails", [False, True])
def test_failing_end_of_ray_is_one_line_and_changes_no_result(
    fails: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutdown = ray.shutdown

    def shut_down_and_fail() -> None:
        shutdown()
        raise RuntimeError("no raylet\nat all")

    monkeypatch.setattr(ray, "shutdown", shut_down_and_fail)
    try:
        with cluster.connected():
            if fails:
                raise TrainingError("loss is nan")
    except TrainingError as error:
        assert fails and str(error) == "loss is nan"

    assert capsys.readouterr().err == "fmnist: Ray did not end cleanly: no raylet\n"
