"""A run's report: one HTML file that needs nothing else, neither a network nor a script.

Each kind of job has its template; all extend ``base.html``, which holds the look and the blocks ``lead`` and ``body``,
and call ``parts.html`` for figures and tables and ``sections.html`` for what jobs have in common.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from fmnist.console import duration
from fmnist.data import CLASS_NAMES
from fmnist.study import BACKBONE_ROWS, STUDY_TRAIN_IMAGES
from fmnist.training.evaluation import CONFIDENCE

EN_DASH = "\N{EN DASH}"
MODEL_TITLES = {"lenet5": "LeNet-5", "lenet5-1998": "LeNet-5 of 1998"} | {
    row.key: row.title.removesuffix(", frozen") for row in BACKBONE_ROWS
}


def shared_values(report: Any, per_class: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the templates of all jobs need, from a job's report and the scores of its classes."""
    return {
        "report": report,
        "scores": [
            (
                score["name"],
                percent(score["precision"]),
                percent(score["recall"]),
                percent(score["f1"]),
                score["support"],
            )
            for score in per_class
        ],
        "class_counts": list(zip(CLASS_NAMES, *report.data["class_counts"].values(), strict=True)),
        "config": flatten(report.config),
        "environment": flatten(report.environment),
    }


def command_again(job: str, run_id: str) -> str:
    """Returns the command that repeats a run whose folder is at hand."""
    return shlex.join(["fmnist", job, "--config", f"{run_id}/config.yaml", "--run-id", f"{run_id}-again"])


def render_page(template: str, **values: Any) -> str:
    """Renders one of this package's templates; a missing value is an error.

    Every value is escaped, but for templates of Markdown, which escapes in other ways.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader("fmnist.workflows", "."), jinja2.PackageLoader("fmnist.report")]
        ),
        autoescape=jinja2.select_autoescape(disabled_extensions=("md",), default=True),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "number": number,
        "duration": duration,
        "data_uri": data_uri,
    }
    return environment.get_template(template).render(**values)


def test_accuracy(metrics: Mapping[str, Any]) -> str:
    test = metrics["test"]
    images = f"{test['images']:,} test images"
    return f"{percent(test['accuracy'])} on the {images} ({percent(CONFIDENCE, 0)} interval {interval(test)})"


def compared_with_study(metrics: Mapping[str, Any], study: str, reached: float) -> str:
    val, images = metrics["val"]["accuracy"], metrics["train"]["images"]
    points = 100 * (val - reached)
    than = "above" if points >= 0 else "below"
    return (
        f"Validation accuracy is {percent(val, 2)}, {abs(points):.2f} points {than} {study} "
        f"{percent(reached, 2)} ({images:,} training images here, {STUDY_TRAIN_IMAGES:,} there)."
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


def interval(scores: Mapping[str, Any]) -> str:
    """Writes the interval of an accuracy, from its lower to its upper end in per cent."""
    return f"{100 * scores['accuracy_low']:.1f}{EN_DASH}{percent(scores['accuracy_high'])}"


def with_interval(scores: Mapping[str, Any]) -> str:
    """Writes an accuracy and, in parentheses, its interval."""
    return f"{percent(scores['accuracy'], 2)} ({interval(scores)})"


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


def plural(count: int, noun: str) -> str:
    """Writes a count of things, such as ``1 trial`` or ``1,000 trials``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def data_uri(png: bytes) -> str:
    """Returns a picture as an address that holds it, for the page to need no other file."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def model_title(metrics: Mapping[str, Any]) -> str:
    """Returns what people call the model of a run."""
    return MODEL_TITLES.get(metrics["model"], str(metrics["model"]))
