"""The trials of a search: their hyper-parameters, their epochs, their status, and which is best."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from fmnist.training.history import History, Row

# "finished" trained all epochs, "stopped" was dropped by the scheduler, "stopped early" ran out of patience.
Status = Literal["pending", "running", "paused", "finished", "stopped", "stopped early", "failed"]


@dataclass(frozen=True)
class TrialRecord:
    """The state of one trial."""

    trial: int  # its number, from 1
    bracket: int  # rungs below the maximum in its bracket; 0 is plain random search, and every trial of ASHA
    parameters: dict[str, Any]  # the active hyper-parameters by name
    status: Status = "pending"
    rows: tuple[Row, ...] = ()  # one per epoch, as in history.csv
    error: str | None = None  # why it failed

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


def parameter_names(records: Iterable[TrialRecord]) -> list[str]:
    """Returns the names of all hyper-parameters that a trial has, in the order of their first use."""
    return list(dict.fromkeys(name for record in records for name in record.parameters))


def trials_table(records: Iterable[TrialRecord]) -> pd.DataFrame:
    """Returns the content of ``trials.csv``: one row per trial, with fixed columns and one per hyper-parameter."""
    rows = []
    for record in records:
        best = record.best
        row = {
            **{name: getattr(record, name) for name in ("trial", "bracket", "status", "epochs")},
            "best_epoch": int(best["epoch"]) if best else None,
            "best_val_accuracy": best["val_accuracy"] if best else None,
            "val_loss": best["val_loss"] if best else None,
            **{name: getattr(record, name) for name in ("seconds", "error")},
        }
        # A hyper-parameter may have the name of a fixed column.
        own = {f"{name} (hyper-parameter)" if name in row else name: it for name, it in record.parameters.items()}
        rows.append(row | own)
    return pd.DataFrame(rows)
