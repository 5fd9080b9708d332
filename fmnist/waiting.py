"""Waits that say what they wait for, and end."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fmnist.console import duration
from fmnist.errors import TrainingError

# After these seconds without progress, a line says what is waited for; the same line follows at the second interval.
FIRST_SECONDS = 10.0
NEXT_SECONDS = 60.0


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


@contextmanager
def told(wait: Wait) -> Iterator[None]:
    """Looks at a wait, one without a limit, from a thread while the block runs, which cannot look itself."""

    def look(ended: threading.Event) -> None:
        while not ended.wait(0.5):
            wait.look()

    with threaded("wait", look):
        yield


@contextmanager
def threaded(name: str, work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Runs ``work`` in a thread beside the block, which ends after it: the event is set when the block has."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
