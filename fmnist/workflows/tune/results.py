"""What a search brings back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fmnist.workflows.tune.config import TuneConfig
from fmnist.workflows.tune.records import TrialRecord


@dataclass(frozen=True)
class SearchOutcome:
    """What a search brings back.

    Attributes:
        config: of the tune job.
        records: every trial, in the order of the numbers.
        winner: the trial whose hyper-parameters were trained.
        seconds: from the job's start to the search's end.
    """

    config: TuneConfig
    records: Sequence[TrialRecord]
    winner: TrialRecord
    seconds: float

    def metrics(self) -> dict[str, Any]:
        """The content of ``metrics.json`` under ``search``."""
        assert self.winner.best
        return {
            "space": self.config.space,
            "scheduler": self.config.scheduler,
            "max_epochs": self.config.max_epochs,
            "factor": self.config.factor,
            "iterations": self.config.iterations,
            "trials": len(self.records),
            "failed": sum(record.status == "failed" for record in self.records),
            "epochs": sum(record.epochs for record in self.records),
            "winner": self.winner.trial,
            "val_accuracy": self.winner.best["val_accuracy"],
            "seconds": self.seconds,
        }
