"""The page of a search."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fmnist.console import duration, plural
from fmnist.report.page import (
    Report,
    command_again,
    compared_with_study,
    percent,
    render_page,
    spared_page,
    test_accuracy,
)
from fmnist.study import STUDY_SPACE, STUDY_TUNED_VAL_ACCURACY
from fmnist.workflows.tune.records import TrialRecord, parameter_names, ranked

if TYPE_CHECKING:
    import pandas as pd

    from fmnist.workflows.tune.results import TuneMetrics

SCHEDULER_TITLES = {"hyperband": "Hyperband", "asha": "ASHA"}
ENDS = {
    "finished": "finished",
    "stopped": "dropped",
    "stopped early": "stopped early",
    "out of time": "out of time",
    "failed": "failed",
}


@spared_page
def render_tune(report: Report[TuneMetrics], history: pd.DataFrame, records: Sequence[TrialRecord]) -> str:
    """Returns the page of a search and all its trials as one HTML file; ``history`` is that of the retraining."""
    metrics, search = report.metrics, report.metrics.search
    columns, rows = _trial_rows(records, search.winner)
    return render_page(
        "tune/page.html",
        headline=tune_headline(metrics),
        comparison=tune_comparison(metrics),
        scheduler=SCHEDULER_TITLES[search.scheduler],
        winner=next(record for record in records if record.trial == search.winner),
        trial_columns=columns,
        trial_rows=rows,
        errors={f"trial {record.trial}": record.error for record in records if record.status == "failed"},
        command_winner=shlex.join(["fmnist", "train", "--config", f"{report.run_id}/best.yaml"]),
        command_again=command_again("tune", report.run_id),
        history=history,
        **report.shared_values(metrics.test.per_class),
    )


def tune_headline(metrics: TuneMetrics) -> str:
    """Returns a search's result and cost in one sentence."""
    search = metrics.search
    budget = f"{plural(search.trials, 'trial')} ({plural(search.epochs, 'epoch')} in all)"
    return f"The best of {budget}, retrained, reaches {test_accuracy(metrics.test)}"


def tune_comparison(metrics: TuneMetrics) -> str:
    """Compares the retrained winner's validation accuracy with that of the study's search, in one sentence."""
    study = "what the best of the study's own Hyperband search reached once retrained,"
    compared = compared_with_study(metrics, study, STUDY_TUNED_VAL_ACCURACY)
    space = metrics.search.space
    return compared if space == STUDY_SPACE else f"{compared} The space {space} is not the one that the study searched."


def _trial_rows(records: Sequence[TrialRecord], winner: int) -> tuple[list[str], list[list[Any]]]:
    names = parameter_names(records)
    counted = any(record.model_parameters for record in records)
    rows = [
        [
            f"{record.trial} (winner)" if record.trial == winner else record.trial,
            percent(record.best["val_accuracy"], 2) if record.best else None,
            f"{ENDS.get(record.status, 'not ended,')} after {plural(record.epochs, 'epoch')}",
            record.bracket,
            int(record.best["epoch"]) if record.best else None,
            record.best["val_loss"] if record.best else None,
            duration(record.seconds),
            *([record.model_parameters] if counted else []),
            *(record.parameters.get(name) for name in names),
        ]
        for record in ranked(records)
    ]
    columns = ["trial", "val_accuracy", "status", "bracket", "best epoch", "val_loss", "time"]
    return [*columns, *(["parameters"] if counted else []), *names], rows
