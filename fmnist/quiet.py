"""Keeping a terminal free of what native libraries say to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silences file descriptor 2 for the block.

    For imports of TensorFlow, whose libraries write several lines while they are loaded, before any log level applies.
    Python's own errors are not lost: they are raised, and printed after the block.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silence, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(silence)
