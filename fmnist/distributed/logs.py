"""The logs of a job in its run folder: what its driver and its workers print, which is gone when their cluster is.

The driver gets the workers' lines while they work, as Ray shows them to a driver, so those of a pod that dies are kept.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from fmnist import clock
from fmnist.boundary import explained, spared
from fmnist.console import heard
from fmnist.errors import LeaseError, StoreError, escaped, redacted
from fmnist.runs import LOGS, MANIFEST, RunFolder, utc

# Bytes of a log, and characters of a line.
LARGEST = 1 << 20
LONGEST_LINE = 4096
# Seconds between two looks whether there is something new to store; a driver that is killed loses the lines since.
INTERVAL = 30.0
# Seconds that the last lines of workers are on their way.
UNDER_WAY = 1.0


class Log:
    """Lines with their time, without secrets. Of a long log the first and the last are kept, `LARGEST` bytes in all."""

    def __init__(self) -> None:
        self._first: list[bytes] = []
        self._last: deque[bytes] = deque()
        # Bytes that each may still take, but for the line between them.
        self._room_first = self._room_last = LARGEST // 2 - 64
        self._left_out = 0
        self._lock = threading.Lock()

    def add(self, text: str) -> None:
        """Adds the lines of a text."""
        # Once for all lines: it looks through the environment.
        for one in redacted(text).splitlines():
            line = f"{utc(clock.now())} {escaped(one)[:LONGEST_LINE]}\n".encode()
            with self._lock:
                self._add(line)

    def _add(self, line: bytes) -> None:
        if not self._last and len(line) <= self._room_first:
            self._first.append(line)
            self._room_first -= len(line)
            return
        self._last.append(line)
        self._room_last -= len(line)
        while self._room_last < 0:
            self._room_last += len(self._last.popleft())
            self._left_out += 1

    def content(self) -> bytes:
        """Returns the log as a file has it."""
        with self._lock:
            between = [f"({self._left_out:,} lines are left out here)\n".encode()] if self._left_out else []
            return b"".join([*self._first, *between, *self._last])


class Logs:
    """The logs of one attempt at a run, in a folder of their own, ``logs/<start of the attempt>/``.

    They are stored under the run's lease, first after `begin`, and never beside a manifest: a finished run's has them.
    That they cannot be stored is a line, and never the job's failure.

    Attributes:
        driver, workers: what they have printed.
    """

    def __init__(self, run: RunFolder, started: float) -> None:
        """``started`` is the start of the attempt, in seconds since the epoch."""
        self.driver, self.workers = Log(), Log()
        self._run = run
        self._folder = f"{LOGS}/{utc(started).replace(':', '-')}"
        self._stored: dict[str, bytes] = {}
        self._begun = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._subscriber: Any = None

    def begin(self) -> None:
        """Has the logs stored from now on, since there is a run to explain."""
        self._begun = True

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Keeps what the driver prints in the block."""
        with heard(self.driver.add):
            yield

    @contextmanager
    def stored(self) -> Iterator[None]:
        """Gets the workers' lines and stores the logs while the block runs, which is connected to Ray.

        An error that ends the block is the last line of the driver's log.
        """
        with spared("what the workers print is not kept"):
            self._subscriber = ray._raylet.GcsLogSubscriber(address=ray.get_runtime_context().gcs_address)
            self._subscriber.subscribe()
        self._thread = threading.Thread(target=self._work, name="logs", daemon=True)
        self._thread.start()
        try:
            yield
        except BaseException as error:
            # Neither leaves a place for logs; a store that is away would be waited for once more.
            if self._begun and not isinstance(error, (LeaseError, StoreError)):
                interrupted = "interrupted" if isinstance(error, KeyboardInterrupt) else None
                self.driver.add(str(explained(error) or interrupted or "".join(traceback.format_exception(error))))
                self._ended.wait(UNDER_WAY)
                self.end()
            raise
        finally:
            self._stop()

    def end(self) -> None:
        """Stores the logs for the last time, before the manifest."""
        self._stop()
        self._store()

    def _stop(self) -> None:
        """Ends the thread, before Ray is left."""
        self._ended.set()
        if self._subscriber is not None:
            # Ends its poll, too.
            self._subscriber.close()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        due = time.monotonic() + INTERVAL
        while not self._ended.is_set():
            message = None
            with spared("what the workers print is not kept now"):
                message = self._subscriber.poll(timeout=INTERVAL / 10) if self._subscriber is not None else None
            if message is None:
                # Ray's server of messages is away.
                self._ended.wait(INTERVAL / 10)
            elif message["job"] == ray.get_runtime_context().get_job_id():
                who = message["actor_name"] or message["task_name"] or "worker"
                prefix = f"({who} pid={message['pid']}, ip={message['ip']})"
                self.workers.add("\n".join(f"{prefix} {line}" for line in message["lines"]))
            if time.monotonic() >= due:
                self._store()
                due = time.monotonic() + INTERVAL

    def _store(self) -> None:
        """Stores what is new."""
        if not self._begun:
            return
        try:
            self._run.ensure_lease()
        except LeaseError:
            # The job ends by it, too.
            return
        with spared(f"the logs of run {self._run.run_id} were not stored"):
            # That of a run to be replaced; or an error after the end.
            if self._run.exists(MANIFEST):
                return
            for name, log in (("driver.log", self.driver), ("workers.log", self.workers)):
                content = log.content()
                if content != self._stored.get(name, b""):
                    self._run.put_bytes(f"{self._folder}/{name}", content)
                    self._stored[name] = content
