"""The outcome of one part of a job, a fold or a phase, as it is kept in the run folder until the run is finished."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
from pydantic import InstanceOf

from fmnist.runs.documents import parse_json, to_record
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
    """Writes an outcome: its field ``probabilities`` as an array, then the others as JSON, which completes it.

    Raises:
        StoreError: if the store cannot be written.
    """
    values = asdict(outcome)
    array = io.BytesIO()
    np.save(array, values.pop("probabilities"), allow_pickle=False)
    run.put_bytes(f"{folder}/{PROBABILITIES}", array.getvalue())
    run.put_json(f"{folder}/{OUTCOME}", values)


def read_outcome(run: RunFolder, folder: str, record: type[Outcome]) -> Outcome | None:
    """Returns an outcome, or None if the run folder has none there.

    Args:
        record: the outcome's class.

    Raises:
        StoreError: if the store cannot be read.
        IntegrityError: if the outcome is damaged.
    """
    where = f"{run.location}/{folder}/{OUTCOME}"
    try:
        content = run.get_bytes(f"{folder}/{OUTCOME}")
    except MissingKeyError:
        return None
    values: dict[str, Any] = parse_json(content, dict[str, Any], where)
    probabilities = np.load(io.BytesIO(run.get_bytes(f"{folder}/{PROBABILITIES}")), allow_pickle=False)
    return to_record({**values, "probabilities": probabilities}, record, where)
