"""Names of runs."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime

from fmnist.errors import RunError
from fmnist.storage.store import PART_SUFFIX

# Folder of the features of images, which transfer runs compute once and share.
FEATURES = "features"
# Folder of TensorBoard's event files of runs.
TENSORBOARD = "tensorboard"
RESERVED = (FEATURES, TENSORBOARD)


def new_run_id(job: str) -> str:
    """Returns an id that no other run has, such as ``train-20261123-184500-a1b2`` (UTC)."""
    return check_run_id(f"{job}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")


def check_run_id(run_id: str) -> str:
    """Returns ``run_id`` if it can name a run.

    Raises:
        RunError: unless it has 1 to 100 letters, digits, ``.``, ``_`` or ``-``, the first a letter or digit; or if it
            is, or ends like, a name that a store needs for itself.
    """
    if run_id in RESERVED:
        raise RunError(f"run id {run_id}: found the name of a folder that all runs of a store share, expected another")
    if run_id.endswith(PART_SUFFIX):
        raise RunError(f"run id {run_id[:120]!r}: found the ending of files that are being written, expected another")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", run_id):
        expected = "1 to 100 letters, digits, '.', '_' or '-', the first a letter or digit"
        raise RunError(f"run id {run_id[:120]!r}: expected {expected}")
    return run_id
