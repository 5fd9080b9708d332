"""Waits: what they say and when, and how they end."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from clock import Clock
from hypothesis import given
from hypothesis import strategies as st

from fmnist.distributed import waiting
from fmnist.distributed.waiting import Wait, reason_in_logs
from fmnist.errors import TrainingError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=clock))
    return clock


def look_each_second(wait: Wait, clock: Clock, seconds: int) -> None:
    for _ in range(seconds):
        clock.now += 1
        wait.look()


def test_line_comes_after_ten_seconds_and_then_each_minute_with_the_time(clock: Clock) -> None:
    notes: list[str] = []
    look_each_second(Wait(notes.append, lambda: "2 workers to start; 0 of 1 CPUs free"), clock, 135)

    assert notes == [
        f"still waiting after {time}: 2 workers to start; 0 of 1 CPUs free"
        for time in ("10 s", "1 min 10 s", "2 min 10 s")
    ]


def test_progress_begins_the_wait_anew(clock: Clock) -> None:
    notes: list[str] = []
    wait = Wait(notes.append, lambda: "a fold to start", limit=lambda: 15)
    for _ in range(20):
        look_each_second(wait, clock, 9)
        wait.progressed()

    assert notes == []


@given(limit=st.floats(1, 10_000))
def test_wait_ends_with_its_reason_within_a_minute_of_its_limit(limit: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(waiting, "time", SimpleNamespace(monotonic=clock))
        wait = Wait(
            lambda line: None, lambda: "workers", limit=lambda: limit, reason=lambda: "raylet.out says: no python"
        )
        with pytest.raises(TrainingError, match=r"gave up after .*: workers; raylet.out says: no python"):
            look_each_second(wait, clock, 20_000)

    assert limit <= clock.now - Clock().now <= max(limit, 10) + waiting.NEXT_SECONDS + 1


@pytest.mark.parametrize(
    ("cpus", "gpus", "limit"),
    [(1, 0, math.inf), (2, 1, math.inf), (4, 0, waiting.ROOM_SECONDS), (1, 2, waiting.ROOM_SECONDS)],
)
def test_only_what_no_node_has_room_for_has_a_limit(
    cpus: float, gpus: float, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0, "GPU": 1.0})

    assert waiting.room_limit(cpus, gpus) == limit


def test_reason_is_the_last_line_about_an_error_in_rays_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = SimpleNamespace(get_logs_dir_path=lambda: str(tmp_path))
    monkeypatch.setattr(ray._private.worker, "_global_node", node)
    assert reason_in_logs() == ""

    (tmp_path / "raylet.out").write_text(
        "[2026-11-28 (raylet) worker_pool.cc:577: failed to start a worker\nall well\n"
    )
    assert reason_in_logs().startswith("Ray's raylet.out says: [2026-11-28")

    (tmp_path / "worker-1.err").write_text("bash: line 1: /my: No such file or directory\n")
    assert reason_in_logs() == "Ray's worker-1.err says: bash: line 1: /my: No such file or directory"
