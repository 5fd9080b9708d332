"""The outcome of one part of a job, a fold or a phase, as it is kept in the run folder until the run is finished."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
from pydantic import InstanceOf

from fmnist.errors import IntegrityError, first_line
from fmnist.runs.documents import to_record
from fmnist.runs.files import OUTCOME
from fmnist.runs.folder import RunFolder
from fmnist.storage import MissingKeyError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PROBABILITIES = "probabilities.npy"
SUMS = "sums"

# The type of an outcome's field ``probabilities``.
Probabilities = Annotated[np.ndarray, InstanceOf()]

Outcome = TypeVar("Outcome", bound="DataclassInstance")


def write_outcome(run: RunFolder, folder: str, outcome: DataclassInstance) -> None:
    """Writes an outcome: its field ``probabilities`` as an array, then the others as JSON, which completes it.

    The sums of both are in the JSON.
    """
    values = asdict(outcome)
    array = io.BytesIO()
    np.save(array, values.pop("probabilities"), allow_pickle=False)
    run.put_bytes(f"{folder}/{PROBABILITIES}", array.getvalue())
    run.put_json(f"{folder}/{OUTCOME}", {**values, SUMS: _sums(values, array.getvalue())})


def read_outcome(run: RunFolder, folder: str, record: type[Outcome]) -> Outcome | None:
    """Returns an outcome of a class, or None if the run folder has none there.

    Raises:
        IntegrityError: if the outcome is damaged.
    """
    where = f"{run.location}/{folder}"
    try:
        values: dict[str, Any] = run.get_record(f"{folder}/{OUTCOME}", dict[str, Any])
    except MissingKeyError:
        return None
    # Earlier versions wrote no sums.
    sums = values.pop(SUMS, None)
    try:
        content = run.get_bytes(f"{folder}/{PROBABILITIES}")
        probabilities = np.load(io.BytesIO(content), allow_pickle=False)
    except (MissingKeyError, ValueError, EOFError) as error:
        raise IntegrityError(f"{where}/{PROBABILITIES}: damaged: {first_line(error)}") from error
    outcome = to_record({**values, "probabilities": probabilities}, record, f"{where}/{OUTCOME}")
    if sums not in (None, _sums(values, content)):
        raise IntegrityError(f"{where}: damaged, not what was written")
    return outcome


def read_sound(
    run: RunFolder, folder: str, record: type[Outcome], note: Callable[[str], None] | None = None
) -> Outcome | None:
    """Returns an outcome as `read_outcome`; for a damaged one None, after a line by ``note``."""
    try:
        return read_outcome(run, folder, record)
    except IntegrityError as error:
        if note:
            note(f"{error}; computed again")
        return None


def _sums(values: dict[str, Any], array: bytes) -> dict[str, str]:
    content = json.dumps(values, sort_keys=True).encode()
    return {OUTCOME: hashlib.sha256(content).hexdigest(), PROBABILITIES: hashlib.sha256(array).hexdigest()}
