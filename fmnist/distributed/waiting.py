"""Waits that say what they wait for, and end."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from fmnist.console import duration
from fmnist.errors import TrainingError

# After these seconds without progress, a line says what is waited for; the same line follows at the second interval.
FIRST_SECONDS = 10.0
NEXT_SECONDS = 60.0

# Of work that takes a while by itself, such as a shard of features.
SLOW_SECONDS = 60.0

# Ray starts a process within seconds, on a busy machine within a minute.
START_SECONDS = 300.0

# A cluster that has never had the room for a job may still grow; nodes with GPUs take ten minutes.
ROOM_SECONDS = 1800.0

# Workers import TensorFlow and connect with each other; a disk shared by many nodes takes minutes for that.
READY_SECONDS = 900.0


class Wait:
    """A wait for one thing.

    Args:
        note: shows a line.
        what: returns what is waited for, and what there is.
        first: seconds until the first line.
        limit: seconds until the wait ends with an error.
        reason: returns why, as far as known; empty if nothing is.
    """

    def __init__(
        self,
        note: Callable[[str], None],
        what: Callable[[], str],
        *,
        first: float | None = None,
        limit: Callable[[], float] = lambda: math.inf,
        reason: Callable[[], str] = str,
    ) -> None:
        self._note, self._what, self._limit, self._reason = note, what, limit, reason
        self._first = FIRST_SECONDS if first is None else first
        self.progressed()

    def progressed(self) -> None:
        """Begins to wait anew."""
        self._began = time.monotonic()
        self._next = self._first

    def look(self) -> None:
        """Shows a line if it is time.

        Raises:
            TrainingError: if the limit is over.
        """
        waited = time.monotonic() - self._began
        if waited < self._next:
            return
        self._next = waited + NEXT_SECONDS
        if waited >= self._limit():
            reason = self._reason()
            raise TrainingError(f"gave up after {duration(waited)}: {self._what()}" + (f"; {reason}" if reason else ""))
        self._note(f"still waiting after {duration(waited)}: {self._what()}")


def get(reference: ray.ObjectRef, wait: Wait) -> Any:
    """Returns the value of a reference, as `ray.get` does."""
    until_ready(reference, wait)
    return ray.get(reference)


def until_ready(reference: ray.ObjectRef | ray.ObjectRefGenerator, wait: Wait) -> None:
    """Returns when there is a value, or a generator's next one."""
    while not ray.wait([reference], timeout=1)[0]:
        wait.look()


def free() -> str:
    """Says what the cluster has free now."""
    total, available = ray.cluster_resources(), ray.available_resources()
    units = [("CPU", "CPUs"), *([("GPU", "GPUs")] if total.get("GPU") else [])]
    return ", ".join(f"{available.get(unit, 0):g} of {total.get(unit, 0):g} {name}" for unit, name in units) + " free"


def room_limit(cpus: float, gpus: float) -> float:
    """Returns how long to wait for room: for ever where other jobs use it, `ROOM_SECONDS` where no node has it."""
    total = ray.cluster_resources()
    return math.inf if total.get("CPU", 0) >= cpus and total.get("GPU", 0) >= gpus else ROOM_SECONDS


def reason_in_logs() -> str:
    """Returns the last line about an error in the logs of this node's Ray; empty if there is none."""
    node = ray._private.worker._global_node
    logs = Path(node.get_logs_dir_path()) if node is not None else Path("nowhere")
    # From what knows most about a process that does not start to what knows least.
    for pattern in ("worker-*.err", "runtime_env_setup-*.log", "runtime_env_agent.log", "raylet.err", "raylet.out"):
        for path in sorted(logs.glob(pattern), reverse=True):
            text = path.read_text(errors="replace")
            if found := [line for line in text.splitlines() if _ERROR_LINE.search(line)]:
                return f"Ray's {path.name} says: {found[-1].strip()[:300]}"
    return ""


_ERROR_LINE = re.compile(r"\bERROR\b|\] \(?\w*\)? ?E |Error\b|No such file|not found|[Pp]ermission denied|failed to")
