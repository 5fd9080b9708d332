"""A run's report: one HTML file that needs nothing else, neither a network nor a script.

Each kind of job has its template; all extend ``base.html``, which holds the look and the blocks ``lead`` and ``body``,
and call ``parts.html`` for figures and tables and ``sections.html`` for what jobs have in common.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd

from fmnist.data import CLASS_NAMES
from fmnist.durations import duration
from fmnist.evaluation import CONFIDENCE
from fmnist.recipes import FACTS
from fmnist.study import STUDY_SPACE, STUDY_TRAIN_IMAGES, STUDY_TUNED_VAL_ACCURACY, STUDY_VAL_ACCURACY
from fmnist.trials import TrialRecord

EN_DASH = "\N{EN DASH}"
MODEL_TITLES = {"lenet5": "LeNet-5", "lenet5-1998": "LeNet-5 of 1998"} | {
    name: facts.title for name, facts in FACTS.items()
}
SCHEDULER_TITLES = {"hyperband": "Hyperband", "asha": "ASHA"}


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


@dataclass(frozen=True, kw_only=True)
class TuneReport(TrainReport):
    """What the page of a search shows: that of the retrained winner's training, and the trials.

    ``metrics`` holds under ``search`` the search's settings, its result and the winner's number; ``plots`` also those
    of :func:`fmnist.report.tune_plots.tune_plots`.

    Attributes:
        records: every trial.
    """

    records: Sequence[TrialRecord]


def render(report: TrainReport) -> str:
    """Returns the page of a training run as HTML, complete in itself."""
    return render_page(
        "train.html",
        headline=headline(report.metrics),
        comparison=comparison(report.metrics),
        command_again=command_again("train", report.run_id),
        title=report.title,
        **shared_values(report, report.metrics["test"]["per_class"]),
    )


def render_tune(report: TuneReport) -> str:
    """Returns the page of a search as HTML, complete in itself."""
    search = report.metrics["search"]
    columns, rows = trial_rows(report.records, search["winner"])
    return render_page(
        "tune.html",
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
        loader=jinja2.PackageLoader("fmnist.report"),
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


def headline(metrics: Mapping[str, Any]) -> str:
    """Says a training run's result in one sentence."""
    return f"{model_title(metrics)} reaches {_test_accuracy(metrics)}"


def tune_headline(metrics: Mapping[str, Any]) -> str:
    """Says a search's result, and what it cost, in one sentence."""
    search = metrics["search"]
    budget = f"{plural(search['trials'], 'trial')} ({plural(search['epochs'], 'epoch')} in all)"
    return f"The best of {budget}, retrained, reaches {_test_accuracy(metrics)}"


def _test_accuracy(metrics: Mapping[str, Any]) -> str:
    test = metrics["test"]
    images = f"{test['images']:,} test images"
    return f"{percent(test['accuracy'])} on the {images} ({percent(CONFIDENCE, 0)} interval {interval(test)})"


def comparison(metrics: Mapping[str, Any]) -> str:
    """Says in one sentence how a training run's validation accuracy compares with the study's."""
    study = "the study's" if metrics["model"] == "lenet5" else "what the study's notebook reached with its own LeNet-5,"
    return _compared(metrics, study, STUDY_VAL_ACCURACY)


def tune_comparison(metrics: Mapping[str, Any]) -> str:
    """Says in one sentence how the retrained winner's validation accuracy compares with that of the study's search."""
    study = "what the best of the study's own Hyperband search reached once retrained,"
    compared = _compared(metrics, study, STUDY_TUNED_VAL_ACCURACY)
    space = metrics["search"]["space"]
    return compared if space == STUDY_SPACE else f"{compared} The space {space} is not the one that the study searched."


def _compared(metrics: Mapping[str, Any], study: str, reached: float) -> str:
    val, images = metrics["val"]["accuracy"], metrics["train"]["images"]
    points = 100 * (val - reached)
    than = "above" if points >= 0 else "below"
    return (
        f"Validation accuracy is {percent(val, 2)}, {abs(points):.2f} points {than} {study} "
        f"{percent(reached, 2)} ({images:,} training images here, {STUDY_TRAIN_IMAGES:,} there)."
    )


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
