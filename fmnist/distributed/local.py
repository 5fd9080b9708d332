"""A local Ray of a job's own: reached from this machine only, in a folder that is gone when the job is."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import parameter, ray_constants, services
from ray._private.node import Node
from ray._private.parameter import RayParams

from fmnist.training.devices import usable_cpus

# A socket's path has 107 characters at most, and this follows the folder's own in Ray's.
_LONGEST_FOLDER = 107 - len("/session_2026-01-01_00-00-00_123456_1234567/sockets/plasma_store")

_start_ray_process = services.start_ray_process

# Waits for the end of the job, whatever ends it. A process that Ray was just starting makes its folders again, so
# it goes on for a while.
_REMOVE = 'read _; n=0; while [ $n -lt 20 ]; do rm -rf -- "$0"; n=$((n+1)); sleep 1; done'


@contextmanager
def own_folder() -> Iterator[Path]:
    """Yields an empty folder, which only this user may open and which is removed when the block or the process ends.

    It is in RAY_TMPDIR or the folder for temporary files, or in ``/tmp`` where the path of that is too long for Ray.
    """
    parent = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if len(parent) + len("/fmnist-12345678") > _LONGEST_FOLDER:
        parent = "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="fmnist-", dir=parent))
    # A process of its own: this one may be killed. It is in another session, where no Control-C reaches it.
    remover = subprocess.Popen(
        ["sh", "-c", _REMOVE, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        assert remover.stdin
        remover.stdin.close()


def own_address() -> dict[str, str]:
    """Returns variables that tell the processes of a local Ray its address.

    Without them they guess, and take another cluster on the machine for theirs, or wait for one that is gone.
    """
    [port] = _free_ports(1)
    return {"RAY_GCS_SERVER_PORT": str(port), "RAY_ADDRESS": f"127.0.0.1:{port}"}


def around_proxies() -> dict[str, str]:
    """Returns variables by which nothing on this machine is reached through a proxy."""
    return {
        name: ",".join(filter(None, (os.environ.get(name), "127.0.0.1,localhost"))) for name in ("no_proxy", "NO_PROXY")
    }


def start(folder: Path) -> None:
    """Starts a local Ray in a folder. All its servers listen on the loopback address.

    Args:
        folder: an empty one, with a short path.
    """
    executable = shlex.quote(sys.executable)
    # Ray hands the path to a shell as it is, which cuts it at a blank.
    environment = {"py_executable": executable} if executable != sys.executable else None
    with (
        # Ray takes the loopback address for the node's only where it believes that there can be no other nodes.
        _replaced(ray_constants, "ENABLE_RAY_CLUSTER", False),
        _replaced(parameter, "RayParams", _parameters),
        _replaced(Node, "start_api_server", _announce_agent),
        _replaced(services, "start_ray_process", _start_without_agent),
    ):
        connect(
            address="local",
            # Ray counts the machine's, and of less than one makes none.
            num_cpus=usable_cpus(),
            _node_ip_address="127.0.0.1",
            _temp_dir=str(folder),
            include_dashboard=False,
            runtime_env=environment,
        )


def connect(**options: Any) -> None:
    """Calls `ray.init` without what it does to the process beside.

    Ray's handlers of SIGTERM, one of Python's and one of its core, end by an abort or print the core's stack. Under
    ``uv run``, Ray starts its processes in a new environment, which is empty.
    """
    handler = signal.getsignal(signal.SIGTERM)
    with _replaced(ray_constants, "RAY_ENABLE_UV_RUN_RUNTIME_ENV", False):
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    # None of a handler that is not Python's, which cannot be set again.
    if threading.current_thread() is threading.main_thread() and handler is not None:
        signal.signal(signal.SIGTERM, handler)


def _parameters(**parameters: Any) -> parameter.RayParams:
    """Returns what Ray starts a node by, with what `ray.init` has no arguments for.

    The node's agents have given ports: a raylet that has to read them from files ends if an agent takes longer than
    15 s to start (https://github.com/ray-project/ray/issues/65983). A cluster that cannot grow has no autoscaler, and
    `Logs` reads what workers print in place of Ray's log monitor.
    """
    agents = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    ports = dict(zip(agents, _free_ports(len(agents)), strict=True))
    return RayParams(**{**parameters, **ports, "no_monitor": True, "include_log_monitor": False})


def _start_without_agent(command: list[str], *arguments: Any, **options: Any) -> Any:
    """Starts a process of Ray's; in place of a raylet's dashboard agent, one that sleeps as long as the raylet lives.

    The raylet insists on one. The agent serves dashboard and metrics, and takes 3 s of a processor while the first
    worker starts.
    """
    agent, sleeps = "--dashboard_agent_command=", "sh -c 'while kill -0 $PPID; do sleep 2; done'"
    command = [agent + sleeps if one.startswith(agent) else one for one in command]
    return _start_ray_process(command, *arguments, **options)


def _announce_agent(node: Node, **options: Any) -> None:
    """Writes the file of the one port that Ray does not tell the raylet, before it starts.

    This takes the place of starting the server of a dashboard that nobody looks at.
    """
    session, name = node.get_session_dir_path(), ray._raylet.DASHBOARD_AGENT_LISTEN_PORT_NAME
    ray._raylet.persist_port(session, node.node_id, name, node.dashboard_agent_listen_port)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


@contextmanager
def _replaced(owner: object, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
