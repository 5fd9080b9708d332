"""The figures of transfer learning. Each function returns a Matplotlib figure; ``to_png`` makes it bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, PercentFormatter

from fmnist.console import duration
from fmnist.data import Images
from fmnist.report.page import EN_DASH, MODEL_TITLES, model_title, percent
from fmnist.report.plots import confusion_matrix, per_class, worst_mistakes_grid
from fmnist.report.style import QUIET, TEST, TRAIN, VAL, new_figure, styled, to_png
from fmnist.study import STUDY_TRANSFER_ACCURACIES
from fmnist.training.evaluation import CHANCE, Evaluation
from fmnist.workflows.transfer.page import CHANCE_LOSS
from fmnist.workflows.transfer.recipes import FACTS
from fmnist.workflows.transfer.records import CandidateRecord

# Okabe and Ito's colours but for their yellow, which is too pale for a line on white.
COLOURS = (TRAIN, VAL, TEST, "#CC79A7", "#E69F00", "#56B4E9")
# Losses that far apart are drawn on a logarithmic axis, or the lower ones could not be told apart.
WIDE = 8.0


def transfer_plots(
    records: Sequence[CandidateRecord],
    lenet5: Mapping[str, Any] | None,
    evaluation: Evaluation,
    test: Images,
    probabilities: npt.NDArray[np.floating],
) -> dict[str, bytes]:
    """Draws the figures of a transfer job's result; those of its data are `fmnist.report.data_plots.data_plots`.

    Args:
        records: all candidates.
        lenet5: the content of ``metrics.json`` of the training that the candidates are compared with, if there is one.
        evaluation: of the winner on ``test``.
        test: the test images.
        probabilities: floats [n, 10], the winner's for ``test``.

    Returns:
        PNG bytes by name (the file's name in ``plots/`` without ``.png``), in the order of the report.
    """
    return {
        "candidates": to_png(candidates(records, lenet5)),
        "candidate_curves": to_png(candidate_curves(records)),
        "cost": to_png(cost(records, lenet5)),
        "confusion_matrix": to_png(confusion_matrix(evaluation)),
        "per_class": to_png(per_class(evaluation)),
        "worst_mistakes": to_png(worst_mistakes_grid(test, probabilities)),
    }


@styled
def candidates(records: Sequence[CandidateRecord], lenet5: Mapping[str, Any] | None) -> Figure:
    """Draws the test accuracy of every candidate with its 95 % interval, and the study's figure of every backbone."""
    names: list[str] = []
    written: list[str] = []
    points: list[tuple[int, Mapping[str, Any], str]] = []
    study: list[tuple[int, float]] = []
    for backbone, facts in FACTS.items():
        study.append((len(names), STUDY_TRANSFER_ACCURACIES[backbone]))
        of_backbone = [record for record in records if record.backbone == backbone]
        for record in of_backbone:
            points.append((len(names), record.test, TRAIN))
            names.append(label(record))
            written.append(_with_interval(record.test))
        if not of_backbone:
            names.append(f"{facts.title}\nnot in this run")
            written.append("")
    if lenet5:
        points.append((len(names), lenet5["test"], TEST))
        names.append(f"{_escaped(model_title(lenet5))}\ntrained whole")
        written.append(_with_interval(lenet5["test"]))

    figure = new_figure(1.25 + 0.48 * len(names))
    axes = figure.add_subplot()
    chance = axes.axvline(CHANCE, color=QUIET, linestyle=(0, (4, 3)), linewidth=1.2, zorder=0, label="chance")
    for place, scores, colour in points:
        # Intervals at the ends of the scale may not hold their own accuracy to the last digit.
        below = max(0.0, scores["accuracy"] - scores["accuracy_low"])
        above = max(0.0, scores["accuracy_high"] - scores["accuracy"])
        axes.errorbar(
            scores["accuracy"], place, xerr=[[below], [above]], fmt="o", color=colour, markersize=5, capsize=4
        )
    (diamonds,) = axes.plot(
        [accuracy for _, accuracy in study],
        [place for place, _ in study],
        "D",
        color=VAL,
        fillstyle="none",
        markersize=9,
        markeredgewidth=1.8,
        linestyle="",
        label="the study's",
    )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("accuracy on the test images")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    # The intervals are narrower than the points, so that the numbers themselves have to tell near ones apart.
    numbers = axes.secondary_yaxis("right")
    numbers.set_yticks(range(len(names)), written)
    numbers.tick_params(length=0, labelsize=9.5)
    numbers.spines["right"].set_visible(False)
    here = Line2D([], [], color=TRAIN, marker="o", linestyle="", label="here")
    figure.legend(handles=[here, diamonds, chance], loc="outside upper center", ncols=3)
    return figure


@styled
def candidate_curves(records: Sequence[CandidateRecord]) -> Figure:
    """Draws loss and accuracy of every candidate by epoch, with the epochs that were kept marked by dots."""
    figure = new_figure(6.0 + 0.26 * math.ceil(len(records) / 2))
    panels = figure.subplots(2, 1, sharex=True)
    for axes, quantity in zip(panels, ("loss", "accuracy"), strict=True):
        for place, record in enumerate(records):
            colour = COLOURS[place % len(COLOURS)]
            epochs = [row["epoch"] for row in record.rows]
            for column, line, width in ((quantity, (0, (3, 1.5)), 1.2), (f"val_{quantity}", "-", 2.0)):
                values = [row[column] for row in record.rows]
                axes.plot(epochs, values, color=colour, linestyle=line, linewidth=width)
            # An epoch's place on the axis is easily lost among several lines, hence the dotted line below the dot.
            axes.axvline(record.best_epoch, color=colour, linestyle=":", linewidth=1.2, zorder=0)
            axes.plot(record.best_epoch, record.best[f"val_{quantity}"], "o", color=colour, markersize=6)
        axes.set_title(quantity.capitalize())
        axes.grid()
    _scale_losses(panels[0], records)
    accuracies = [row[column] for record in records for row in record.rows for column in ("accuracy", "val_accuracy")]
    if min(accuracies) < 2 * CHANCE:
        _level(panels[1], CHANCE, "chance", above=True)
    panels[1].yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    panels[1].set_xlabel("epoch")
    panels[1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    last = max(row["epoch"] for record in records for row in record.rows)
    panels[1].set_xlim(0.5, last + 0.5)
    handles = [
        Line2D([], [], color=COLOURS[place % len(COLOURS)], linewidth=2, label=label(record).replace("\n", ", "))
        for place, record in enumerate(records)
    ]
    handles.append(Line2D([], [], color=QUIET, linewidth=2, label="val"))
    handles.append(Line2D([], [], color=QUIET, linewidth=1.2, linestyle=(0, (3, 1.5)), label="train"))
    handles.append(Line2D([], [], color=QUIET, marker="o", linestyle=":", linewidth=1.2, label="best epoch"))
    figure.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=10)
    return figure


@styled
def cost(records: Sequence[CandidateRecord], lenet5: Mapping[str, Any] | None) -> Figure:
    """Draws the time that each candidate's features and training took as bars."""
    names = [label(record) for record in records]
    features = [record.feature_seconds for record in records]
    training = [record.seconds for record in records]
    # A fine-tuned backbone has no features to compute, which is not the same as having computed them in no time.
    written = [_feature_time(record) for record in records]
    if lenet5:
        names.append(f"{_escaped(model_title(lenet5))}\ntrained whole")
        features.append(0.0)
        training.append(float(lenet5["seconds"]["training"]))
        written.append("")
    figure = new_figure(1.1 + 0.6 * len(names))
    axes = figure.add_subplot()
    places = np.arange(len(names))
    bars = axes.barh(places - 0.19, features, 0.34, color=TRAIN, label="features (processor time)")
    axes.bar_label(bars, labels=written, padding=3, fontsize=9)
    bars = axes.barh(places + 0.19, training, 0.34, color=VAL, label="training (wall time)")
    axes.bar_label(bars, labels=[duration(seconds) for seconds in training], padding=3, fontsize=9)
    longest = max([*features, *training])
    # Room for the time that stands beside the longest bar.
    axes.set_xlim(0, 1.3 * longest or 1.0)
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:,.10g}"))
    axes.set_xlabel("seconds")
    axes.grid(axis="x")
    figure.legend(loc="outside upper center", ncols=1)
    return figure


def label(record: CandidateRecord) -> str:
    """Names a candidate in two lines: the backbone, and phase and, where it is the study's, recipe."""
    recipe = "" if record.recipe == "sound" else f", {record.recipe}"
    return _escaped(f"{MODEL_TITLES.get(record.backbone, record.backbone)}\n{record.phase}{recipe}")


def _with_interval(scores: Mapping[str, Any]) -> str:
    low, high = 100 * scores["accuracy_low"], 100 * scores["accuracy_high"]
    return f"{percent(scores['accuracy'])}\n({low:.1f}{EN_DASH}{high:.1f})"


def _escaped(text: str) -> str:
    """Matplotlib takes what stands between two dollar signs for a formula."""
    return text.replace("$", r"\$")


def _feature_time(record: CandidateRecord) -> str:
    if record.phase == "fine-tuned":
        return ""
    if record.shards_found and not record.shards_computed:
        return "from the store"
    return duration(record.feature_seconds) + (" + store" if record.shards_found else "")


def _scale_losses(axes: Axes, records: Sequence[CandidateRecord]) -> None:
    """Makes the axis logarithmic if losses are far apart, and shows the loss of chance if one comes near it."""
    losses = [row[column] for record in records for row in record.rows for column in ("loss", "val_loss")]
    positive = [loss for loss in losses if loss > 0]
    if max(record.best["val_loss"] for record in records) > 0.8 * CHANCE_LOSS:
        _level(axes, CHANCE_LOSS, "ln 10", above=False)
        positive.append(CHANCE_LOSS)
    if len(positive) >= len(losses) and max(positive) > WIDE * min(positive):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(LogLocator(subs=()))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))


def _level(axes: Axes, height: float, name: str, above: bool) -> None:
    axes.axhline(height, color=QUIET, linestyle=(0, (4, 3)), linewidth=1.2, zorder=0)
    axes.annotate(
        name, (1.0, height), xycoords=axes.get_yaxis_transform(), xytext=(0, 3 if above else -3),
        textcoords="offset points", color=QUIET, ha="right", va="bottom" if above else "top", fontsize=9.5,
    )  # fmt: skip
