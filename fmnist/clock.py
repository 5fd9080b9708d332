"""The time of a process: a system clock that is set back while a job runs gives no negative seconds."""

from __future__ import annotations

import time

_EPOCH = time.time() - time.monotonic()


def now() -> float:
    """Returns seconds since the epoch, which only grow within a process."""
    return _EPOCH + time.monotonic()
