"""A run's report: one HTML file that needs nothing else, neither a network nor a script.

Each kind of job has its template; all extend ``base.html``, which holds the look and the blocks ``lead`` and ``body``,
and call ``parts.html`` for figures and tables and ``sections.html`` for what jobs have in common.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import jinja2

from fmnist.console import duration
from fmnist.data import CLASS_NAMES
from fmnist.runs.results import Metrics, ModelMetrics
from fmnist.study import BACKBONE_ROWS, STUDY_TRAIN_IMAGES
from fmnist.training.evaluation import CONFIDENCE, ClassScore, Evaluation

EN_DASH = "\N{EN DASH}"
MODEL_TITLES = {"lenet5": "LeNet-5", "lenet5-1998": "LeNet-5 of 1998"} | {
    row.key: row.title.removesuffix(", frozen") for row in BACKBONE_ROWS
}


AnyMetrics = TypeVar("AnyMetrics", bound=Metrics)


@dataclass(frozen=True, kw_only=True)
class Report(Generic[AnyMetrics]):
    """What the page of every job shows.

    Attributes:
        title: names the page in the browser and below the result.
        metrics: the content of ``metrics.json``.
        data: the content of ``data.json``.
        config: the content of ``config.yaml``.
        environment: the content of ``environment.json``.
        plots: PNG by name. Those that the page has no place for stand at its end.
    """

    title: str
    metrics: AnyMetrics
    data: Mapping[str, Any]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    plots: Mapping[str, bytes]

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.metrics.run_id

    def shared_values(self, per_class: Sequence[ClassScore]) -> dict[str, Any]:
        """Returns what the templates of all jobs need.

        Args:
            per_class: the scores of each class.
        """
        return {
            "title": self.title,
            "report": self,
            "scores": [
                (score.name, percent(score.precision), percent(score.recall), percent(score.f1), score.support)
                for score in per_class
            ],
            "class_counts": list(zip(CLASS_NAMES, *self.data["class_counts"].values(), strict=True)),
            "config": flatten(self.config),
            "environment": flatten(self.environment),
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


class Interval(Protocol):
    """An accuracy with its 95 % interval, as an `Evaluation` has it."""

    @property
    def accuracy(self) -> float: ...
    @property
    def accuracy_low(self) -> float: ...
    @property
    def accuracy_high(self) -> float: ...


def test_accuracy(test: Evaluation) -> str:
    """Says what a model reaches on the test images, within a sentence."""
    images = f"{test.images:,} test images"
    return f"{percent(test.accuracy)} on the {images} ({percent(CONFIDENCE, 0)} interval {interval(test)})"


def compared_with_study(metrics: ModelMetrics, study: str, reached: float) -> str:
    """Says in one sentence how a validation accuracy compares with one of the study.

    Args:
        metrics: of our run.
        study: what the study's figure is of.
        reached: the study's figure, 0 to 1.
    """
    val, images = metrics.val.accuracy, metrics.train.images
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


def interval(scores: Interval) -> str:
    """Writes the interval of an accuracy, from its lower to its upper end in per cent."""
    return f"{100 * scores.accuracy_low:.1f}{EN_DASH}{percent(scores.accuracy_high)}"


def with_interval(scores: Interval) -> str:
    """Writes an accuracy and, in parentheses, its interval."""
    return f"{percent(scores.accuracy, 2)} ({interval(scores)})"


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


def model_title(model: str) -> str:
    """Returns what people call a model."""
    return MODEL_TITLES.get(model, model)
