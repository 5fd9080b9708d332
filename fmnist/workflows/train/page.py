"""The page of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmnist.report.page import (
    Report,
    command_again,
    compared_with_study,
    model_title,
    render_page,
    spared_page,
    test_accuracy,
)
from fmnist.study import STUDY_VAL_ACCURACY

if TYPE_CHECKING:
    import pandas as pd

    from fmnist.workflows.train.results import TrainMetrics


@spared_page
def render(report: Report[TrainMetrics], history: pd.DataFrame) -> str:
    """Returns the page of a training run as one HTML file; ``history`` has the columns of ``history.csv``."""
    return render_page(
        "train/page.html",
        headline=headline(report.metrics),
        comparison=comparison(report.metrics),
        command_again=command_again("train", report.run_id),
        history=history,
        **report.shared_values(report.metrics.test.per_class),
    )


def headline(metrics: TrainMetrics) -> str:
    """Returns a training run's result in one sentence."""
    return f"{model_title(metrics.model)} reaches {test_accuracy(metrics.test)}"


def comparison(metrics: TrainMetrics) -> str:
    """Compares a training run's validation accuracy with the study's, in one sentence."""
    study = "the study's" if metrics.model == "lenet5" else "what the study's notebook reached with its own LeNet-5,"
    return compared_with_study(metrics, study, STUDY_VAL_ACCURACY)
