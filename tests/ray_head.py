"""A Ray cluster of one machine that outlives the jobs that join it, started as on a head node."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from ports import free_ports

ATTEMPTS = 5
AGENT_PORTS = ("dashboard-agent-listen", "dashboard-agent-grpc", "metrics-export", "runtime-env-agent")
RAY = str(Path(sys.executable).parent / "ray")
TESTS = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Head:
    """A running head.

    Attributes:
        address: for RAY_ADDRESS.
        dashboard: where ``ray job submit`` finds it, if it has one.
        agent_port: where its dashboard's agent listens.
        folder: of its session and its output.
    """

    address: str
    dashboard: str
    agent_port: int
    folder: Path


@contextmanager
def running_head(environment: dict[str, str], *, dashboard: bool = False) -> Iterator[Head]:
    """Runs ``ray start --head`` with two CPUs for the block. Its workers can import the modules of ``tests/``.

    Args:
        environment: more variables for the head and all its processes.
        dashboard: whether jobs can be submitted to it; this costs 15 processes.
    """
    for _ in range(ATTEMPTS):
        # Short: Ray's sockets lie below it, and their paths have at most 107 characters.
        with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
            log = Path(folder, "head.log")
            head, found = _start(environment, Path(folder), log, dashboard)
            try:
                if _has_started(head, log, found.agent_port):
                    yield found
                    return
            finally:
                _kill(head)
            output = log.read_text()
    raise AssertionError(f"no head after {ATTEMPTS} attempts:\n{output}")


def _start(environment: dict[str, str], folder: Path, log: Path, dashboard: bool) -> tuple[subprocess.Popen[str], Head]:
    # Ray reads RAY_AUTH_MODE at its import, and conftest.py, which imports this module, sets it.
    import ray

    port, dashboard_port, client_port, *agent_ports = free_ports(7)
    address = f"{ray.util.get_node_ip_address()}:{port}"
    # Its processes must know it: else they ask the machine's latest head for theirs, hear there that a run's controller
    # is unknown, and end the run's workers.
    environment = {**os.environ, **environment, "RAY_ADDRESS": address}
    # On a busy machine they take longer to start than Ray gives them.
    environment |= {"RAY_agent_register_timeout_ms": "300000", "RAY_worker_register_timeout_seconds": "300"}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    head = subprocess.Popen(
        [
            *((RAY,) if dashboard else (sys.executable, str(TESTS / "head.py"))),
            *("start", "--head", "--block", f"--port={port}", "--num-cpus=2", "--disable-usage-stats"),
            *(f"--include-dashboard={str(dashboard).lower()}", f"--dashboard-port={dashboard_port}"),
            "--object-store-memory=800000000",
            # Else the raylet reads them from files, and ends where an agent takes longer than 15 s to start.
            *(f"--{name}-port={number}" for name, number in zip(AGENT_PORTS, agent_ports, strict=True)),
            *("--min-worker-port=0", "--max-worker-port=0"),
            *(f"--ray-client-server-port={client_port}", "--no-monitor"),
            # A submitted job joins the latest cluster of its head's folder, whichever machine-wide cluster that is.
            f"--temp-dir={folder}",
        ],
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    return head, Head(address, f"http://127.0.0.1:{dashboard_port}", agent_ports[0], folder)


def _has_started(head: subprocess.Popen[str], log: Path, agent_port: int) -> bool:
    """Waits until the head runs, and returns True; or False, if it has ended, as when another took a port of its."""
    deadline = time.monotonic() + 240
    while head.poll() is None:
        if "Ray runtime started" in (output := log.read_text()):
            return True
        # The one port that Ray does not tell the raylet, which starts after the process that wrote the other file.
        for written in log.parent.glob("session_*/gcs_server_port_*"):
            file = written.with_name(written.name.replace("gcs_server_port", "dashboard_agent_listen_port"))
            if not written.parent.is_symlink() and not file.exists():
                file.write_text(str(agent_port))
        assert time.monotonic() < deadline, output
        time.sleep(0.1)
    return False


def _kill(head: subprocess.Popen[str]) -> None:
    # Not by SIGTERM: a head drains for half a minute, and nothing here is worth the wait.
    if head.poll() is None:
        family = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=60)
        head.wait(60)
