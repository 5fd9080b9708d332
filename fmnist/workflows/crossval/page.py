"""The page of a cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fmnist.console import duration
from fmnist.report.page import Report, command_again, interval, model_title, number, percent, render_page, spared_page
from fmnist.study import STUDY_FIRST_FOLD, STUDY_LAST_FOLD
from fmnist.workflows.crossval.records import FoldRecord

if TYPE_CHECKING:
    from fmnist.workflows.crossval.results import CrossvalMetrics


@spared_page
def render_crossval(report: Report[CrossvalMetrics], records: Sequence[FoldRecord]) -> str:
    """Returns the page of a cross-validation and all its folds as one HTML file."""
    metrics = report.metrics
    fresh = [record for record in records if record.weights == "fresh"]
    carried = [record for record in records if record.weights == "carried"]
    return render_page(
        "crossval/page.html",
        headline=crossval_headline(metrics),
        study=(percent(STUDY_FIRST_FOLD, 2), percent(STUDY_LAST_FOLD, 2)),
        fold_columns=FOLD_COLUMNS,
        fold_rows=[*map(_fold_row, fresh), _mean_row(metrics)],
        both_columns=["fold", "fresh weights", "weights carried over"],
        both_rows=[
            (one.fold, percent(one.held_out_accuracy, 2), percent(other.held_out_accuracy, 2))
            for one, other in zip(fresh, carried, strict=False)
        ],
        first=fresh[0],
        command_again=command_again("crossval", report.run_id),
        **report.shared_values(metrics.held_out.per_class),
    )


FOLD_COLUMNS = (
    "fold", "held-out accuracy", "held-out loss", "epochs", "kept", "train accuracy", "train loss", "val accuracy",
    "val loss", "time",
)  # fmt: skip


def _fold_row(record: FoldRecord) -> tuple[Any, ...]:
    kept = record.kept
    return (
        *(record.fold, percent(record.held_out_accuracy, 2), record.held_out_loss, _epochs(record), record.kept_epoch),
        *((percent(kept["accuracy"], 2), kept["loss"]) if kept else (None, None)),
        *((percent(kept["val_accuracy"], 2), kept["val_loss"]) if kept else (None, None)),
        duration(record.seconds),
    )


def _epochs(record: FoldRecord) -> str:
    return f"{len(record.rows)}{', then diverged' if record.diverged else ''}"


def _mean_row(metrics: CrossvalMetrics) -> tuple[Any, ...]:
    train, val, held_out = metrics.train, metrics.val, metrics.held_out
    accuracy = f"{percent(held_out.accuracy, 2)} ± {100 * held_out.accuracy_sd:.2f}"
    loss = f"{number(held_out.loss)} ± {number(held_out.loss_sd)}"
    return (
        *("mean ± sd", accuracy, loss, metrics.epochs / metrics.folds, None),
        *(percent(train.accuracy, 2), train.loss, percent(val.accuracy, 2), val.loss, None),
    )


def crossval_headline(metrics: CrossvalMetrics) -> str:
    """Returns a cross-validation's result in one sentence."""
    return (
        f"{model_title(metrics.model)} reaches {percent(metrics.held_out.accuracy)} on images held out, the mean of "
        f"{metrics.folds} folds (95\N{NO-BREAK SPACE}% interval {interval(metrics.held_out)})"
    )
