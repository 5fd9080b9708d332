"""A Ray cluster of one machine that outlives the jobs that join it, started as on a head node."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import ray

RAY = str(Path(sys.executable).parent / "ray")


@dataclass(frozen=True)
class Head:
    """A running head.

    Attributes:
        address: for RAY_ADDRESS.
        dashboard: where ``ray job submit`` finds it.
    """

    address: str
    dashboard: str


@contextmanager
def running_head(environment: dict[str, str] | None = None) -> Iterator[Head]:
    """Runs ``ray start --head`` with two CPUs for the block.

    Args:
        environment: more variables for the head and all its processes.
    """
    port, dashboard_port, agent_port = free_port(), free_port(), free_port()
    address = f"{ray.util.get_node_ip_address()}:{port}"
    # Its processes must know it: else they ask the machine's latest head for theirs, hear there that a run's controller
    # is unknown, and end the run's workers.
    environment = {**os.environ, **(environment or {}), "RAY_ADDRESS": address}
    head = subprocess.Popen(
        [
            *(RAY, "start", "--head", "--block", f"--port={port}", "--num-cpus=2", "--disable-usage-stats"),
            # Without a dashboard Ray Train waits 12 s for it at the end of each of its runs.
            *("--include-dashboard=true", f"--dashboard-port={dashboard_port}", "--object-store-memory=800000000"),
            # The default is the same for all; a head whose agent finds it taken accepts no job.
            f"--dashboard-agent-listen-port={agent_port}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        _wait_for_start(head)
        yield Head(address, f"http://127.0.0.1:{dashboard_port}")
    finally:
        # Not by SIGTERM: a head drains for half a minute, and nothing here is worth the wait.
        family = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
        for process in family:
            if process.is_running():
                process.kill()
        psutil.wait_procs(family, timeout=20)
        head.wait(20)


@contextmanager
def joined_head(environment: dict[str, str] | None = None) -> Iterator[str]:
    """As `running_head`, and the jobs that are started within the block join it; yields its address."""
    with running_head(environment) as head, pytest.MonkeyPatch.context() as own:
        # As in a job given to ``ray job submit``.
        own.setenv("RAY_ADDRESS", head.address)
        yield head.address


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_for_start(head: subprocess.Popen[str]) -> None:
    assert head.stdout
    output = []
    deadline = time.monotonic() + 90
    for line in head.stdout:
        output.append(line)
        if "Ray runtime started" in line:
            return
        assert time.monotonic() < deadline, "".join(output)
    raise AssertionError("".join(output))
