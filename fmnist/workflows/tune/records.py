"""The trials of a search: their hyper-parameters, their epochs, their status, and which is best."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from fmnist.training.history import History, Row

# "finished" trained all epochs, "stopped" was dropped by the scheduler, "stopped early" ran out of patience, "out of
# time" would have gone on if the search had.
Status = Literal["pending", "running", "paused", "finished", "stopped", "stopped early", "out of time", "failed"]


@dataclass(frozen=True)
class TrialRecord:
    """The state of one trial."""

    trial: int  # its number, from 1
    bracket: int  # rungs below the maximum in its bracket; 0 is plain random search, and every trial of ASHA
    parameters: dict[str, Any]  # the active hyper-parameters by name
    status: Status = "pending"
    rows: tuple[Row, ...] = ()  # one per epoch, as in history.csv
    error: str | None = None  # why it failed
    model_parameters: int | None = None  # of its model, if they were counted

    @property
    def epochs(self) -> int:
        return len(self.rows)

    @property
    def best(self) -> Row | None:
        """The row of the best epoch, see `History.best`; None before the first epoch."""
        return History(self.rows).best if self.rows else None

    @property
    def seconds(self) -> float:
        """Wall time of training and validation."""
        return sum(row["seconds"] for row in self.rows)


def ranked(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Sorts trials by the validation accuracy of their best epoch, highest first; of equals the lower number first.

    Trials without an epoch are last.
    """
    return sorted(records, key=lambda record: (-record.best["val_accuracy"] if record.best else 1.0, record.trial))


def best_trial(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """Returns the first of the `ranked` trials that did not fail and has an epoch; None if there is none."""
    return next((record for record in ranked(records) if record.best and record.status != "failed"), None)


def smallest_trial(records: Iterable[TrialRecord], images: int) -> TrialRecord | None:
    """Returns the trial with the fewest model parameters of those nearly as good as the best; None if there is none.

    Nearly as good is a validation accuracy at most one binomial standard error below, the rule by which Breiman,
    Friedman, Olshen and Stone, "Classification and Regression Trees" (1984), choose the size of a tree.

    Args:
        records: with counted parameters.
        images: that the accuracies were measured on.
    """
    known = _measured(records)
    if not known:
        return None
    accuracy, *_ = accuracies = [_accuracy(record) for record in known]
    least = accuracy - standard_error(accuracy, images)
    return min((record for record, it in zip(known, accuracies, strict=True) if it >= least), key=_size)


def standard_error(accuracy: float, images: int) -> float:
    """Returns the binomial standard error of an accuracy that was measured on so many images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def pareto_front(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Returns the trials to which no other is equal or better in both, parameters and accuracy; smallest model first.

    Of equals the one of the lowest number.
    """
    front: list[TrialRecord] = []
    for record in sorted(_measured(records), key=_size):
        if not front or _accuracy(record) > _accuracy(front[-1]):
            front.append(record)
    return front


def _measured(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Returns the ranked trials that have a size and an accuracy, and have not failed."""
    return [
        record for record in ranked(records) if record.best and record.status != "failed" and record.model_parameters
    ]


def _accuracy(record: TrialRecord) -> float:
    assert record.best
    return record.best["val_accuracy"]


def _size(record: TrialRecord) -> int:
    assert record.model_parameters
    return record.model_parameters


def parameter_names(records: Iterable[TrialRecord]) -> list[str]:
    """Returns the names of all hyper-parameters that a trial has, in the order of their first use."""
    return list(dict.fromkeys(name for record in records for name in record.parameters))


def trials_table(records: Iterable[TrialRecord]) -> pd.DataFrame:
    """Returns the content of ``trials.csv``: one row per trial, with fixed columns and one per hyper-parameter.

    The column ``model_parameters`` is there if they were counted.
    """
    rows = []
    records = list(records)
    counted = ["model_parameters"] if any(record.model_parameters for record in records) else []
    for record in records:
        best = record.best
        row = {
            **{name: getattr(record, name) for name in ("trial", "bracket", "status", "epochs")},
            "best_epoch": int(best["epoch"]) if best else None,
            "best_val_accuracy": best["val_accuracy"] if best else None,
            "val_loss": best["val_loss"] if best else None,
            **{name: getattr(record, name) for name in ("seconds", "error", *counted)},
        }
        # A hyper-parameter may have the name of a fixed column.
        own = {f"{name} (hyper-parameter)" if name in row else name: it for name, it in record.parameters.items()}
        rows.append(row | own)
    return pd.DataFrame(rows)
