"""The page of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fmnist.report.page import (
    command_again,
    compared_with_study,
    model_title,
    render_page,
    shared_values,
    test_accuracy,
)
from fmnist.study import STUDY_VAL_ACCURACY


@dataclass(frozen=True)
class TrainReport:
    """What the page of a training run shows.

    Attributes:
        run_id: the run's id.
        title: names the page in the browser and above the result.
        metrics: the content of ``metrics.json``.
        data: the content of ``data.json``.
        config: the content of ``config.yaml``, nested as there.
        environment: the content of ``environment.json``.
        history: one row an epoch, with the columns of ``history.csv``.
        plots: PNG bytes by name, as :func:`fmnist.report.plots.train_plots` returns them. Names that the page has no
            place for stand at its end.
        command: how the run was started, if known.
    """

    run_id: str
    title: str
    metrics: Mapping[str, Any]
    data: Mapping[str, Any]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    history: pd.DataFrame
    plots: Mapping[str, bytes]
    command: str = ""


def render(report: TrainReport) -> str:
    """Returns the page of a training run as HTML, complete in itself."""
    return render_page(
        "train/page.html",
        headline=headline(report.metrics),
        comparison=comparison(report.metrics),
        command_again=command_again("train", report.run_id),
        title=report.title,
        **shared_values(report, report.metrics["test"]["per_class"]),
    )


def headline(metrics: Mapping[str, Any]) -> str:
    """Says a training run's result in one sentence."""
    return f"{model_title(metrics)} reaches {test_accuracy(metrics)}"


def comparison(metrics: Mapping[str, Any]) -> str:
    """Says in one sentence how a training run's validation accuracy compares with the study's."""
    study = "the study's" if metrics["model"] == "lenet5" else "what the study's notebook reached with its own LeNet-5,"
    return compared_with_study(metrics, study, STUDY_VAL_ACCURACY)
