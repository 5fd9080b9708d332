"""A Ray cluster of one machine that outlives the jobs that join it, started as on a head node."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

RAY = str(Path(sys.executable).parent / "ray")


@contextmanager
def running_head(*options: str, environment: dict[str, str] | None = None) -> Iterator[str]:
    """Runs ``ray start --head`` with two CPUs for the block and yields its address.

    Args:
        options: more options of ``ray start``.
        environment: more variables for the head and all its processes.
    """
    environment = {**os.environ, "RAY_ADDRESS": "", **(environment or {})}
    port = free_port()
    head = subprocess.Popen(
        [
            *(RAY, "start", "--head", "--block", f"--port={port}", "--num-cpus=2", "--disable-usage-stats"),
            *("--object-store-memory=300000000", *(options or ("--include-dashboard=false",))),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        yield _announced_address(head, port)
    finally:
        # Not by SIGTERM: a head drains for half a minute, and nothing here is worth the wait.
        family = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
        for process in family:
            if process.is_running():
                process.kill()
        psutil.wait_procs(family, timeout=20)
        head.wait(20)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _announced_address(head: subprocess.Popen[str], port: int) -> str:
    assert head.stdout
    output = []
    deadline = time.monotonic() + 90
    for line in head.stdout:
        output.append(line)
        if found := re.search(r"Local node IP.*?(\d+\.\d+\.\d+\.\d+)", line):
            address = f"{found[1]}:{port}"
        if "Ray runtime started" in line:
            return address
        assert time.monotonic() < deadline, "".join(output)
    raise AssertionError("".join(output))
