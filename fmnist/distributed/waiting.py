"""Waits for Ray: for values, for room, and the reasons why something does not start."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import ray

from fmnist.console import plural
from fmnist.waiting import Wait

# Of work that takes a while by itself, such as a shard of features.
SLOW_SECONDS = 60.0

# Ray starts a process within seconds, on a busy machine within a minute.
START_SECONDS = 300.0

# A cluster that has never had the room for a job may still grow; nodes with GPUs take ten minutes.
ROOM_SECONDS = 1800.0

# Workers import TensorFlow and connect with each other; a disk shared by many nodes takes minutes for that.
READY_SECONDS = 900.0


def get(reference: ray.ObjectRef, wait: Wait) -> Any:
    """Returns the value of a reference, as `ray.get` does."""
    while not ray.wait([reference], timeout=1)[0]:
        wait.look()
    return ray.get(reference)


def to_start(count: int, kind: str, cpus: float, gpus: float) -> str:
    """Says what waits for room, and what the cluster has free now."""
    each = plural(cpus, "CPU") + (f" and {plural(gpus, 'GPU')}" if gpus else "")
    return f"{plural(count, kind)} of {each} to start; {free()}"


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
