"""A run's report: one HTML file without scripts and without references to other files.

Each job has its template, which extends ``base.html`` with the blocks ``lead`` and ``body``. ``parts.html`` has the
macros of figures and tables, ``sections.html`` the sections that several jobs share.
"""

from __future__ import annotations

import base64
import html
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Generic, ParamSpec, Protocol

import jinja2

from fmnist.boundary import say
from fmnist.console import duration
from fmnist.data import CLASS_NAMES
from fmnist.errors import first_line, printable
from fmnist.runs.results import AnyMetrics, ModelMetrics
from fmnist.study import BACKBONE_ROWS, STUDY_TRAIN_IMAGES
from fmnist.training.evaluation import CONFIDENCE, ClassScore, Evaluation

Arguments = ParamSpec("Arguments")

EN_DASH = "\N{EN DASH}"
MODEL_TITLES = {"lenet5": "LeNet-5", "lenet5-1998": "LeNet-5 of 1998"} | {
    row.key: row.title.removesuffix(", frozen") for row in BACKBONE_ROWS
}


@dataclass(frozen=True, kw_only=True)
class Report(Generic[AnyMetrics]):
    """The content of every job's page.

    Attributes:
        metrics, data, config, environment: the content of the run's files.
        plots: PNG by name. The page ends with those that its template does not place.
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
        """Returns the values that the templates of all jobs need; ``per_class`` are the scores of each class."""
        return {
            "title": self.title,
            "report": self,
            "scores": [
                (score.name, percent(score.precision), percent(score.recall), percent(score.f1), score.support)
                for score in per_class
            ],
            "class_counts": list(
                zip(self.data.get("class_names", CLASS_NAMES), *self.data["class_counts"].values(), strict=True)
            ),
            "config": flatten(self.config),
            "environment": flatten(self.environment),
        }


def command_again(job: str, run_id: str) -> str:
    """Returns the command that repeats a run whose folder is in the working directory."""
    return shlex.join(["fmnist", job, "--config", f"{run_id}/config.yaml", "--run-id", f"{run_id}-again"])


def render_page(template: str, **values: Any) -> str:
    """Renders a template of a job or of this package.

    Values are escaped in HTML, not in Markdown.

    Raises:
        jinja2.UndefinedError: if a value is missing.
    """
    templates = [jinja2.PackageLoader("fmnist.workflows", "."), jinja2.PackageLoader("fmnist.report")]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(templates),
        autoescape=jinja2.select_autoescape(disabled_extensions=("md",), default=True),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"percent": percent, "number": number, "duration": duration, "data_uri": data_uri, "escaped": escaped}
    environment.filters |= filters
    return environment.get_template(template).render(**values)


def spared_page(render: Callable[Arguments, str]) -> Callable[Arguments, str]:
    """Decorates a function that renders a page: an error in it is a line, and a page that says so, but no run lost."""

    @wraps(render)
    def rendered(*arguments: Arguments.args, **options: Arguments.kwargs) -> str:
        try:
            return render(*arguments, **options)
        except Exception as error:
            reason = f"the page was not written: {type(error).__name__}: {first_line(error)}"
            say(reason)
            return f"<!doctype html><html><meta charset='utf-8'><body>{html.escape(printable(reason))}</body></html>"

    return rendered


class Interval(Protocol):
    """An accuracy with its 95 % interval, such as an `Evaluation`."""

    @property
    def accuracy(self) -> float: ...
    @property
    def accuracy_low(self) -> float: ...
    @property
    def accuracy_high(self) -> float: ...


def test_accuracy(test: Evaluation) -> str:
    """Returns the test accuracy with its interval as part of a sentence."""
    images = f"{test.images:,} test images"
    return f"{percent(test.accuracy)} on the {images} ({percent(CONFIDENCE, 0)} interval {interval(test)})"


def compared_with_study(metrics: ModelMetrics, study: str, reached: float) -> str:
    """Compares a validation accuracy with the one that a model of the study reached, 0 to 1, in a sentence."""
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
    """Formats a share of 0 to 1 as ``91.2 %``, with a no-break space."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def interval(scores: Interval) -> str:
    """Formats the interval of an accuracy in per cent, such as ``91.2-92.4 %``."""
    return f"{100 * scores.accuracy_low:.1f}{EN_DASH}{percent(scores.accuracy_high)}"


def with_interval(scores: Interval) -> str:
    """Formats an accuracy and, in parentheses, its interval."""
    return f"{percent(scores.accuracy, 2)} ({interval(scores)})"


def number(value: Any) -> str:
    """Formats a value: commas for thousands and in lists, four digits of a fraction, a dash for an empty value."""
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


def escaped(text: str) -> str:
    """Returns text that GitHub's Markdown shows as it is, in one line: no markup, no HTML, no end of a cell."""
    one_line = html.escape(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text), quote=False)
    return re.sub(r"([\\`*_~|$\[\]]|^[#>+-])", r"\\\1", one_line)


def data_uri(png: bytes) -> str:
    """Returns a PNG as a ``data:`` address."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def model_title(model: str) -> str:
    """Returns the name of a model in titles."""
    return MODEL_TITLES.get(model, model)
