"""Starting jobs as a user does, watching them, and killing them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
# Seconds that a job, or a line of it, is waited for. Long enough for a busy machine: what hangs is all that it ends.
LIMIT = 900
# Of a job that starts a local Ray as on a laptop, in a module whose others join one.
OWN_RAY = {"RAY_ADDRESS": ""}
# The least that each job can do.
LEAST = {
    "train": "--epochs 1",
    "tune": "--max-epochs 1 --retrain-epochs 1",
    "crossval": "--folds 2 --epochs 1",
    "transfer": "--backbone vgg16 --weights none --image-size 32 --epochs 1",
    "pipeline": "--profile smoke --stages crossval-lenet5",
}


def without_waits(lines: list[str]) -> list[str]:
    """Returns the lines but those that only a busy machine prints."""
    return [line for line in lines if not line.startswith("still waiting")]


class Job:
    """A command that runs in a process of its own, with its output read as it comes. Use it as a context manager."""

    def __init__(self, *command: str, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_heed_control_c,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill_with_cluster()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, timeout: float = LIMIT) -> None:
        """Returns once a line matches; fails with the whole output if none does."""
        deadline = time.monotonic() + timeout
        while not any(re.search(pattern, line) for line in self.lines):
            if self.process.poll() is not None:
                self._reader.join(timeout=60)
                assert any(re.search(pattern, line) for line in self.lines), f"no {pattern!r}:\n{self.output}"
            assert time.monotonic() < deadline, f"no {pattern!r} within {timeout} s:\n{self.output}"
            time.sleep(0.05)

    def wait(self, timeout: float = LIMIT) -> int:
        """Returns the exit code."""
        code = self.process.wait(timeout)
        self._reader.join(timeout=60)
        return code

    def kill_with_cluster(self) -> None:
        """SIGKILL to the driver and to every process of the local cluster it has started, as when a machine dies."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=60)
        self.process.wait(60)


def fmnist(*arguments: str, environment: dict[str, str] | None = None) -> Job:
    """Starts ``fmnist`` with the given arguments."""
    return Job(sys.executable, "-m", "fmnist", *arguments, environment=environment)


def leaving_ray(*arguments: str, environment: dict[str, str] | None = None) -> Job:
    """As `fmnist`, in a process that an object reference ends if it is released while Ray is left."""
    return Job(sys.executable, "tests/leaving_ray.py", *arguments, environment=environment)


def command(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs ``fmnist`` with the given arguments to its end, and returns what it wrote where."""
    return subprocess.run(
        [sys.executable, "-m", "fmnist", *arguments],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=LIMIT,
        env={**os.environ, **(environment or {})},
    )


def _heed_control_c() -> None:
    """Control-C reaches the job also where the tests were started to ignore it, as in a shell's background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
