"""Where exceptions of other libraries become a line, and where what a result does not need is spared.

Types are compared by name: nothing here imports the library that an exception is of.
"""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from fmnist.errors import FmnistError, StoreError, UserError, first_line, one_line, printable

_MEMORY = "not enough memory"

# Of a disk or its rights, which the same work meets again.
_LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}

# Beside TensorFlow's errors of this list, all are errors of a model or of this program: their traceback says more.
_TENSORFLOW = {
    "ResourceExhaustedError": f"{_MEMORY} for TensorFlow; a smaller batch_size needs less",
    "UnavailableError": "TensorFlow lost the connection with another worker",
    "AbortedError": "TensorFlow's exchange of gradients was aborted",
    "DeadlineExceededError": "TensorFlow waited too long for another worker",
}

# In TensorFlow's error of the exchange between workers, which is a function in Python.
_EXCHANGE = re.compile(r"^(?:ConnectionError|TimeoutError): (worker \d+ .*)", re.MULTILINE)


def explained(error: BaseException | None) -> FmnistError | None:
    """Returns the error that says in one line what another library's exception means to the user.

    None for an exception that nobody can explain in a line, such as a `TypeError`: it is a bug, here or in a model of
    the user's own, and its traceback shows where.

    Example:
        >>> print(explained(OSError(28, "No space left on device", "/runs/a")))
        /runs/a: No space left on device
        >>> explained(TypeError("a bug"))
    """
    if error is None:
        return None
    kinds = _kinds(error)
    # First: Ray's error of a task is also one of the class of what it wraps.
    if nested := _nested(error, kinds):
        return next(filter(None, map(explained, nested)), None)
    if isinstance(error, FmnistError):
        return error
    if isinstance(error, MemoryError):
        return FmnistError(_MEMORY)
    if "argparse.ArgumentError" in kinds:
        return UserError(one_line(error))
    if kinds & {"botocore.BotoCoreError", "botocore.ClientError", "boto3.Boto3Error"}:
        # Not the library's own text: it quotes addresses and proxies, which may carry passwords.
        response: dict[str, Any] = getattr(error, "response", None) or {}
        return StoreError(f"S3: {response.get('Error', {}).get('Code') or type(error).__name__}")
    if getattr(error, "actor_init_failed", False):
        # Of the error in an actor's constructor, Ray keeps nothing but the text of its traceback.
        kind, _, text = str(error).strip().splitlines()[-1].partition(": ")
        return FmnistError(text) if kind.startswith("fmnist.") else None
    if kinds & {"ray.RayError", "ray.TuneError"}:
        return FmnistError(f"Ray: {first_line(error)}")
    if "mlflow.MlflowException" in kinds:
        return FmnistError(f"MLflow: {first_line(error)}")
    if "grpc.RpcError" in kinds:
        return FmnistError(f"Ray: {error.code().name}")  # type: ignore[attr-defined]
    if "tensorflow.UnknownError" in kinds and (found := _EXCHANGE.search(str(error))):
        return FmnistError(found[1])
    if "tensorflow.OpError" in kinds:
        return next((FmnistError(text) for name, text in _TENSORFLOW.items() if f"tensorflow.{name}" in kinds), None)
    if isinstance(error, OSError) and not isinstance(error, io.UnsupportedOperation):
        where = f"{error.filename}: " if error.filename else ""
        return FmnistError(f"{where}{error.strerror or first_line(error)}")
    return None


def lasting(error: BaseException | None) -> FmnistError | None:
    """Returns the error that would come again if the same work were started again; None for any other.

    These are this program's own errors, wherever Ray has wrapped them, and those of a full or read-only disk.
    """
    if error is None:
        return None
    if nested := _nested(error, _kinds(error)):
        return next(filter(None, map(lasting, nested)), None)
    if isinstance(error, FmnistError):
        return error
    return explained(error) if isinstance(error, OSError) and error.errno in _LASTING else None


def _kinds(error: BaseException) -> set[str]:
    """Returns the classes of an error, each as its package and name, such as ``ray.RayError``."""
    return {f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}" for kind in type(error).__mro__}


def _nested(error: BaseException, kinds: set[str]) -> list[BaseException | None]:
    """Returns the errors of a task, of workers, or of Ray Train's controller that an error of Ray's wraps."""
    if "ray.RayTaskError" in kinds:
        return [getattr(error, "cause", None)]
    if "ray.UserExceptionWithTraceback" in kinds:
        return [getattr(error, "_base_exc", None)]
    if "ray.TrainingFailedError" in kinds:
        return [*getattr(error, "worker_failures", {}).values(), getattr(error, "controller_failure", None)]
    return []


@contextmanager
def spared(what: str) -> Iterator[None]:
    """Runs what a job does not need for its result: an error in the block is one line, and the job goes on.

    Args:
        what: the block does, such as ``the last epoch's weights were not removed``.
    """
    try:
        yield
    except Exception as error:
        say(f"{what}: {explained(error) or first_line(error)}")


def say(line: str) -> None:
    """Prints a line to standard error, without secrets, if somebody can still read it."""
    with suppress(OSError, ValueError):
        print(f"fmnist: {printable(line)}", file=sys.stderr, flush=True)


@contextmanager
def lasting_output() -> Iterator[list[OSError]]:
    """Makes standard output and standard error streams of which a write never fails.

    A log's disk may be full, and the reader of a pipe may be gone: a job's result does not depend on either. Yields the
    failures of standard output, in a list that fills.
    """
    before = sys.stdout, sys.stderr
    failures: list[OSError] = []
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        try:
            stream.flush()
            raw = _Lasting(stream.fileno(), failures if name == "stdout" else [])
        except (AttributeError, OSError, ValueError):
            # Closed, as in a service; or a notebook's, which has no descriptor.
            continue
        buffer = io.BufferedWriter(raw)
        setattr(sys, name, io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=True))
    try:
        yield failures
    finally:
        for stream in {sys.stdout, sys.stderr} - {*before, None}:
            stream.flush()
        sys.stdout, sys.stderr = before


class _Lasting(io.RawIOBase):
    """Writes to a file descriptor that is not its own, notes what fails, and takes every write for a success."""

    def __init__(self, descriptor: int, failures: list[OSError]) -> None:
        self._descriptor, self._failures = descriptor, failures

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        try:
            return os.write(self._descriptor, data)
        except OSError as error:
            self._failures.append(error)
            return len(data)


@contextmanager
def signals_as_interrupts() -> Iterator[list[int]]:
    """Makes SIGTERM and SIGHUP interrupt the block as Control-C does, so that it keeps and removes the same things.

    Yields the signals that came, in a list that fills. Only the main thread can do that; in another one nothing
    changes. A signal that the process was started to ignore, as by ``nohup``, stays ignored.
    """
    received: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        received.append(number)
        if len(received) == 1:
            # Ray's core lets no other exception of a handler through.
            raise KeyboardInterrupt

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM.value, signal.SIGHUP.value):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, interrupt)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
