"""The outcome of one part of a job, a fold or a phase, as it is kept in the run folder until the run is finished."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
from pydantic import InstanceOf

from fmnist.runs.documents import to_record
from fmnist.runs.folder import RunFolder
from fmnist.storage import MissingKeyError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

OUTCOME = "outcome.json"
PROBABILITIES = "probabilities.npy"

# The type of an outcome's field ``probabilities``.
Probabilities = Annotated[np.ndarray, InstanceOf()]

Outcome = TypeVar("Outcome", bound="DataclassInstance")


def write_outcome(run: RunFolder, folder: str, outcome: DataclassInstance) -> None:
    """Writes an outcome: its field ``probabilities`` as an array, then the others as JSON, which completes it."""
    values = asdict(outcome)
    array = io.BytesIO()
    np.save(array, values.pop("probabilities"), allow_pickle=False)
    run.put_bytes(f"{folder}/{PROBABILITIES}", array.getvalue())
    run.put_json(f"{folder}/{OUTCOME}", values)


def read_outcome(run: RunFolder, folder: str, record: type[Outcome]) -> Outcome | None:
    """Returns an outcome of a class, or None if the run folder has none there.

    Raises:
        IntegrityError: if the outcome is damaged.
    """
    try:
        values: dict[str, Any] = run.get_record(f"{folder}/{OUTCOME}", dict[str, Any])
    except MissingKeyError:
        return None
    probabilities = np.load(io.BytesIO(run.get_bytes(f"{folder}/{PROBABILITIES}")), allow_pickle=False)
    return to_record({**values, "probabilities": probabilities}, record, f"{run.location}/{folder}/{OUTCOME}")
