"""Killing the processes of Ray's tasks at the moments that a test chooses."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from fmnist.runs import RunFolder
from jobs import Job, leaving_ray


def task_processes(name: str) -> list[psutil.Process]:
    """The processes of a task or an actor of this name on the cluster of RAY_ADDRESS; the machine may have others."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if f"ray::{name}" in str(process.info):
            # Another cluster's may end while they are looked at.
            try:
                parent = process.parent()
                if parent and os.environ["RAY_ADDRESS"] in str(parent.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
    return found


def kill_driver(job: Job, name: str) -> None:
    """SIGKILL to a job's driver, which has joined the cluster of RAY_ADDRESS; the cluster ends its tasks or actors.

    Args:
        job: the job.
        name: of its tasks or actors.
    """
    job.process.kill()
    job.wait()
    psutil.wait_procs(task_processes(name), timeout=60)


@dataclass(frozen=True)
class Resumed:
    """A finished run whose driver was killed on the way.

    Attributes:
        run: its folder.
        before: the rows of each trial or fold that were stored when its driver was killed, by number.
        lines: what it printed after that.
    """

    run: RunFolder
    before: dict[int, list[dict[str, Any]]]
    lines: list[str]


def kill_and_resume(
    run: RunFolder, job: str, arguments: list[str], *, after: str, task: str, stored_in: str, more: Sequence[str] = ()
) -> Resumed:
    """Starts a job, kills its driver, and ends its run by the same command.

    Args:
        run: of the job.
        job, arguments: name of the job, and its command line.
        after: matches the line after which the driver is killed.
        task: name of the job's tasks or actors.
        stored_in: name of the file that a trial or fold keeps its rows in.
        more: arguments of the second process only.
    """
    with Job(sys.executable, f"jobs/{job}.py", *arguments) as killed:
        killed.wait_for(after)
        kill_driver(killed, task)
    assert run.state() == "unfinished"
    paths = filter(None, (re.fullmatch(rf"\w+/\D*(\d+)/{re.escape(stored_in)}", path) for path in run.files()))
    before = {int(found[1]): json.loads(run.get_bytes(found[0]))["rows"] for found in paths}
    with leaving_ray(job, *arguments, *more) as resumed:
        assert resumed.wait() == 0, resumed.output
    return Resumed(run, before, resumed.lines)


class Killer:
    """Kills a process of a task while the block runs, again and again as a test's job comes on.

    Attributes:
        killed: how many processes it has killed.
    """

    def __init__(self, name: str, kills: int, due: Callable[[int], bool]) -> None:
        """Takes what to kill.

        Args:
            name: of the task.
            kills: how many of its processes, at most.
            due: whether the job has come to where the next one is killed, told how many were before.
        """
        self.killed = 0
        self._name, self._kills, self._due = name, kills, due
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._kill)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _kill(self) -> None:
        while self.killed < self._kills and not self._over.wait(0.005):
            if self._due(self.killed) and (processes := task_processes(self._name)):
                process = processes[0]
                try:
                    process.kill()
                    self.killed += 1
                    # Else it might be found again. Ray may leave it a zombie for a while.
                    while process.status() != psutil.STATUS_ZOMBIE:
                        time.sleep(0.005)
                except psutil.NoSuchProcess:
                    continue
