"""What a part of a job, a fold or a phase, leaves in the run folder when it has ended."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from fmnist.runs import RunFolder
from fmnist.storage import MissingKeyError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

OUTCOME = "outcome.json"
PROBABILITIES = "probabilities.npy"


def write_outcome(run: RunFolder, folder: str, outcome: DataclassInstance) -> None:
    """Writes an outcome's field ``probabilities`` as an array, the others as JSON; it counts from the last file on.

    Raises:
        StoreError: if the store can't be written.
    """
    values = asdict(outcome)
    array = io.BytesIO()
    np.save(array, values.pop("probabilities"), allow_pickle=False)
    run.put_bytes(f"{folder}/{PROBABILITIES}", array.getvalue())
    run.put_json(f"{folder}/{OUTCOME}", values)


def read_outcome(run: RunFolder, folder: str) -> dict[str, Any] | None:
    """Returns an outcome's fields, with lists as tuples, or None if it is not there.

    Raises:
        StoreError: if the store can't be read.
    """
    try:
        values = run.get_json(f"{folder}/{OUTCOME}")
    except MissingKeyError:
        return None
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    probabilities = np.load(io.BytesIO(run.get_bytes(f"{folder}/{PROBABILITIES}")), allow_pickle=False)
    return {**values, "probabilities": probabilities}
