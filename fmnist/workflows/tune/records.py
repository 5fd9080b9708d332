"""Trials of a search: what each tried, how far it came, and which was best."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from fmnist.training.history import History, Row

Status = Literal["pending", "running", "paused", "finished", "stopped", "stopped early", "failed"]


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        trial: number of the trial, from 1.
        bracket: how many times its bracket is cut; 0 is plain random search, and every trial of ASHA.
        parameters: the active hyper-parameters by name.
        status: ``finished`` trained all epochs, ``stopped`` was dropped by the scheduler, ``stopped early`` had no
            lower validation loss for too long; the others say themselves.
        rows: one an epoch, as in ``history.csv``.
        error: why it failed.
    """

    trial: int
    bracket: int
    parameters: dict[str, Any]
    status: Status = "pending"
    rows: tuple[Row, ...] = ()
    error: str | None = None

    @property
    def epochs(self) -> int:
        """How many epochs it has trained."""
        return len(self.rows)

    @property
    def best(self) -> Row | None:
        """The epoch of the highest validation accuracy; None before the first."""
        return History(self.rows).best if self.rows else None

    @property
    def seconds(self) -> float:
        """Time in training and validation."""
        return sum(row["seconds"] for row in self.rows)


def best_trial(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """The trial of the highest validation accuracy in any of its epochs, of equals the first; None if none has one.

    A failed trial is none, however far it came.
    """
    good = [record for record in records if record.status != "failed"]
    reached = [(record.best["val_accuracy"], -record.trial, record) for record in good if record.best]
    return max(reached, key=lambda known: known[:2])[2] if reached else None


def trials_table(records: Iterable[TrialRecord]) -> pd.DataFrame:
    """The content of ``trials.csv``: a row a trial, with the columns of every search and one a hyper-parameter.

    A hyper-parameter that is called like one of the former has `` (hyper-parameter)`` behind its name.
    """
    return pd.DataFrame([_table_row(record) for record in records])


def _table_row(record: TrialRecord) -> dict[str, Any]:
    row = {
        "trial": record.trial,
        "bracket": record.bracket,
        "status": record.status,
        "epochs": record.epochs,
        "best_epoch": int(record.best["epoch"]) if record.best else None,
        "best_val_accuracy": record.best["val_accuracy"] if record.best else None,
        "val_loss": record.best["val_loss"] if record.best else None,
        "seconds": record.seconds,
        "error": record.error,
    }
    parameters = record.parameters.items()
    return row | {f"{name} (hyper-parameter)" if name in row else name: value for name, value in parameters}
