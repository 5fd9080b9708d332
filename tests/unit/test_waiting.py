"""Waits: what they say and when, and how they end."""

from __future__ import annotations

import re
import threading
import time
from types import SimpleNamespace

import pytest
from clock import Clock
from hypothesis import given
from hypothesis import strategies as st

from fmnist import waiting
from fmnist.errors import TrainingError
from fmnist.waiting import Wait, told


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


def test_wait_that_cannot_look_itself_is_told() -> None:
    notes: list[str] = []
    with told(Wait(notes.append, lambda: "a process", first=0.1)):
        deadline = time.monotonic() + 60
        while not notes and time.monotonic() < deadline:
            time.sleep(0.01)
    threads = {thread.name for thread in threading.enumerate()}

    assert re.fullmatch(r"still waiting after \d+ s: a process", notes[0]) and "wait" not in threads
