"""The page of a cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmnist.console import duration
from fmnist.report.page import command_again, interval, model_title, number, percent, render_page, shared_values
from fmnist.study import STUDY_FIRST_FOLD, STUDY_LAST_FOLD
from fmnist.workflows.crossval.records import FoldRecord


@dataclass(frozen=True)
class CrossvalReport:
    """What the page of a cross-validation shows.

    Attributes:
        run_id: the run's id.
        metrics: the content of ``metrics.json``.
        data: the content of ``data.json``.
        config: the content of ``config.yaml``.
        environment: the content of ``environment.json``.
        records: all folds; those with carried weights, if any, beside the others.
        plots: PNG bytes by name, as :func:`fmnist.workflows.crossval.plots.crossval_plots` returns them, and those
            of the data.
    """

    run_id: str
    metrics: Mapping[str, Any]
    data: Mapping[str, Any]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    records: Sequence[FoldRecord]
    plots: Mapping[str, bytes]


def render_crossval(report: CrossvalReport) -> str:
    """Returns the page of a cross-validation as HTML, complete in itself."""
    fresh = [record for record in report.records if record.weights == "fresh"]
    carried = [record for record in report.records if record.weights == "carried"]
    return render_page(
        "crossval/page.html",
        title=f"Cross-validation of {model_title(report.metrics)}",
        headline=crossval_headline(report.metrics),
        study=(percent(STUDY_FIRST_FOLD, 2), percent(STUDY_LAST_FOLD, 2)),
        fold_columns=FOLD_COLUMNS,
        fold_rows=[*fold_rows(fresh), mean_row(report.metrics)],
        both_columns=["fold", "fresh weights", "weights carried over"],
        both_rows=[
            (one.fold, percent(one.held_out_accuracy, 2), percent(other.held_out_accuracy, 2))
            for one, other in zip(fresh, carried, strict=False)
        ],
        first=fresh[0],
        command_again=command_again("crossval", report.run_id),
        **shared_values(report, report.metrics["held_out"]["per_class"]),
    )


FOLD_COLUMNS = (
    "fold", "held-out accuracy", "held-out loss", "epochs", "kept", "train accuracy", "train loss", "val accuracy",
    "val loss", "time",
)  # fmt: skip


def fold_rows(records: Sequence[FoldRecord]) -> list[tuple[Any, ...]]:
    """Returns the rows of the table of folds, under ``FOLD_COLUMNS``."""
    return [
        (
            record.fold,
            percent(record.held_out_accuracy, 2),
            record.held_out_loss,
            len(record.rows),
            record.kept_epoch,
            percent(record.kept["accuracy"], 2),
            record.kept["loss"],
            percent(record.kept["val_accuracy"], 2),
            record.kept["val_loss"],
            duration(record.seconds),
        )
        for record in records
    ]


def mean_row(metrics: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns the last row of that table."""
    train, val, held_out = metrics["train"], metrics["val"], metrics["held_out"]
    return (
        "mean ± sd",
        f"{percent(held_out['accuracy'], 2)} ± {100 * held_out['accuracy_sd']:.2f}",
        f"{number(held_out['loss'])} ± {number(held_out['loss_sd'])}",
        metrics["epochs"] / metrics["folds"],
        None,
        percent(train["accuracy"], 2),
        train["loss"],
        percent(val["accuracy"], 2),
        val["loss"],
        None,
    )


def crossval_headline(metrics: Mapping[str, Any]) -> str:
    """Says a cross-validation's result in one sentence."""
    held_out = metrics["held_out"]
    return (
        f"{model_title(metrics)} reaches {percent(held_out['accuracy'])} on images held out, the mean of "
        f"{metrics['folds']} folds (95\N{NO-BREAK SPACE}% interval {interval(held_out)})"
    )
