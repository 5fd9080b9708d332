"""The page of a search."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmnist.console import duration
from fmnist.report.page import (
    command_again,
    compared_with_study,
    percent,
    plural,
    render_page,
    shared_values,
    test_accuracy,
)
from fmnist.study import STUDY_SPACE, STUDY_TUNED_VAL_ACCURACY
from fmnist.workflows.train.page import TrainReport
from fmnist.workflows.tune.records import TrialRecord

SCHEDULER_TITLES = {"hyperband": "Hyperband", "asha": "ASHA"}


@dataclass(frozen=True, kw_only=True)
class TuneReport(TrainReport):
    """What the page of a search shows: that of the retrained winner's training, and the trials.

    ``metrics`` holds under ``search`` the search's settings, its result and the winner's number; ``plots`` also those
    of :func:`fmnist.workflows.tune.plots.tune_plots`.

    Attributes:
        records: every trial.
    """

    records: Sequence[TrialRecord]


def render_tune(report: TuneReport) -> str:
    """Returns the page of a search as HTML, complete in itself."""
    search = report.metrics["search"]
    columns, rows = trial_rows(report.records, search["winner"])
    return render_page(
        "tune/page.html",
        headline=tune_headline(report.metrics),
        comparison=tune_comparison(report.metrics),
        scheduler=SCHEDULER_TITLES[search["scheduler"]],
        winner=next(record for record in report.records if record.trial == search["winner"]),
        trial_columns=columns,
        trial_rows=rows,
        conditional=len({tuple(sorted(record.parameters)) for record in report.records}) > 1,
        errors={f"trial {record.trial}": record.error for record in report.records if record.status == "failed"},
        command_winner=shlex.join(["fmnist", "train", "--config", f"{report.run_id}/best.yaml"]),
        command_again=command_again("tune", report.run_id),
        title=report.title,
        **shared_values(report, report.metrics["test"]["per_class"]),
    )


def tune_headline(metrics: Mapping[str, Any]) -> str:
    """Says a search's result, and what it cost, in one sentence."""
    search = metrics["search"]
    budget = f"{plural(search['trials'], 'trial')} ({plural(search['epochs'], 'epoch')} in all)"
    return f"The best of {budget}, retrained, reaches {test_accuracy(metrics)}"


def tune_comparison(metrics: Mapping[str, Any]) -> str:
    """Says in one sentence how the retrained winner's validation accuracy compares with that of the study's search."""
    study = "what the best of the study's own Hyperband search reached once retrained,"
    compared = compared_with_study(metrics, study, STUDY_TUNED_VAL_ACCURACY)
    space = metrics["search"]["space"]
    return compared if space == STUDY_SPACE else f"{compared} The space {space} is not the one that the study searched."


def trial_rows(records: Sequence[TrialRecord], winner: int) -> tuple[list[str], list[list[Any]]]:
    """Returns the head and the rows of the table of trials, the best first and those without an epoch last.

    A hyper-parameter that a trial does not have is None.
    """
    names = list(dict.fromkeys(name for record in records for name in record.parameters))
    ranked = sorted(records, key=lambda record: (-record.best["val_accuracy"] if record.best else 1.0, record.trial))
    rows = [
        [
            f"{record.trial} (winner)" if record.trial == winner else record.trial,
            percent(record.best["val_accuracy"], 2) if record.best else None,
            status_in_words(record),
            record.bracket,
            int(record.best["epoch"]) if record.best else None,
            record.best["val_loss"] if record.best else None,
            duration(record.seconds),
            *(record.parameters.get(name) for name in names),
        ]
        for record in ranked
    ]
    return ["trial", "val_accuracy", "status", "bracket", "best epoch", "val_loss", "time", *names], rows


def status_in_words(record: TrialRecord) -> str:
    """Says what became of a trial, such as ``dropped after 2 epochs``."""
    words = {
        "finished": "finished",
        "stopped": "dropped",
        "stopped early": "stopped early",
        "failed": "failed",
    }.get(record.status, "not ended,")
    return f"{words} after {plural(record.epochs, 'epoch')}"
