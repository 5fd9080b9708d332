"""A run's report: one HTML file that needs nothing else, neither a network nor a script.

Each kind of job has its template; all extend ``base.html``, which holds the look and the blocks ``lead`` and ``body``,
and call ``parts.html`` for figures and tables.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd

from fmnist.data import CLASS_NAMES
from fmnist.evaluation import CONFIDENCE

# The study's own result with its notebook's LeNet-5, and the images it trained on.
STUDY_VAL_ACCURACY = 0.8982
STUDY_TRAIN_IMAGES = 47_965
EN_DASH = "\N{EN DASH}"
MODEL_TITLES = {"lenet5": "LeNet-5", "lenet5-1998": "LeNet-5 of 1998"}


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
    again = shlex.join(
        ["fmnist", "train", "--config", f"{report.run_id}/config.yaml", "--run-id", f"{report.run_id}-again"]
    )
    return render_page(
        "train.html",
        report=report,
        title=report.title,
        headline=headline(report.metrics),
        comparison=comparison(report.metrics),
        scores=[
            (
                score["name"],
                percent(score["precision"]),
                percent(score["recall"]),
                percent(score["f1"]),
                score["support"],
            )
            for score in report.metrics["test"]["per_class"]
        ],
        class_counts=list(zip(CLASS_NAMES, *report.data["class_counts"].values(), strict=True)),
        config=flatten(report.config),
        environment=flatten(report.environment),
        command_again=again,
    )


def render_page(template: str, **values: Any) -> str:
    """Renders one of this package's templates; every value is escaped, and a missing one is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fmnist.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "number": number, "data_uri": data_uri}
    return environment.get_template(template).render(**values)


def headline(metrics: Mapping[str, Any]) -> str:
    """Says a training run's result in one sentence."""
    test = metrics["test"]
    result = f"{_model(metrics)} reaches {percent(test['accuracy'])} on the {test['images']:,} test images"
    interval = f"{100 * test['accuracy_low']:.1f}{EN_DASH}{percent(test['accuracy_high'])}"
    return f"{result} ({percent(CONFIDENCE, 0)} interval {interval})"


def comparison(metrics: Mapping[str, Any]) -> str:
    """Says in one sentence how a training run's validation accuracy compares with the study's."""
    val, images = metrics["val"]["accuracy"], metrics["train"]["images"]
    points = 100 * (val - STUDY_VAL_ACCURACY)
    than = "above" if points >= 0 else "below"
    study = "the study's" if metrics["model"] == "lenet5" else "what the study's notebook reached with its own LeNet-5,"
    return (
        f"Validation accuracy is {percent(val, 2)}, {abs(points):.2f} points {than} {study} "
        f"{percent(STUDY_VAL_ACCURACY, 2)} ({images:,} training images here, {STUDY_TRAIN_IMAGES:,} there)."
    )


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the values of nested mappings by dotted name, such as ``{"train.epochs": 30}``."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def percent(share: float, digits: int = 1) -> str:
    """Writes a share of 0 to 1 as ``91.2 %``, with a space that does not break."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def number(value: Any) -> str:
    """Writes a value for people: commas for thousands and in lists, four digits of a fraction, a dash for nothing."""
    if value is None or value == [] or value == "":
        return EN_DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return str(value)


def data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _model(metrics: Mapping[str, Any]) -> str:
    return MODEL_TITLES.get(metrics["model"], metrics["model"])
