"""The figures of transfer learning. Each function returns a Matplotlib figure; ``to_png`` makes it bytes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from fmnist.console import duration
from fmnist.data import Images
from fmnist.report import style
from fmnist.report.page import interval, model_title, percent
from fmnist.report.plots import confusion_matrix, per_class, worst_mistakes_grid
from fmnist.report.style import DASHED, QUIET, TEST, TRAIN, VAL, name_rows, new_axes, styled, to_png
from fmnist.runs.results import ModelMetrics
from fmnist.study import STUDY_TRANSFER_ACCURACIES
from fmnist.training.evaluation import CHANCE, Evaluation
from fmnist.workflows.transfer.page import CHANCE_LOSS
from fmnist.workflows.transfer.recipes import FACTS
from fmnist.workflows.transfer.records import CandidateMetrics, winner

# Okabe and Ito's colours without their yellow, which is too pale for a line on white.
COLOURS = (TRAIN, VAL, TEST, "#CC79A7", "#E69F00", "#56B4E9")
# The axis of losses is logarithmic if the largest is so many times the smallest.
LOG_RATIO = 8.0
SHORT_DASHES = (0, (3, 1.5))


def transfer_plots(
    candidates: Sequence[CandidateMetrics],
    history: pd.DataFrame,
    comparison: ModelMetrics | None,
    test: Images,
    probabilities: npt.NDArray[np.floating],
) -> dict[str, bytes]:
    """Draws the figures of a transfer job's result; those of its data are `fmnist.report.data_plots.data_plots`.

    Args:
        history: one row an epoch of a candidate, with the columns of ``history.csv``.
        comparison: metrics of a train run that the candidates are compared with.
        probabilities: floats [test images, 10] of the winner.

    Returns:
        PNG bytes by name (the file's name in ``plots/`` without ``.png``), in the order of the report.
    """
    evaluation = winner(candidates).test
    return {
        "candidates": to_png(accuracies(candidates, comparison)),
        "candidate_curves": to_png(candidate_curves(candidates, history)),
        "cost": to_png(cost(candidates, comparison)),
        "confusion_matrix": to_png(confusion_matrix(evaluation)),
        "per_class": to_png(per_class(evaluation)),
        "worst_mistakes": to_png(worst_mistakes_grid(test, probabilities)),
    }


@styled
def accuracies(candidates: Sequence[CandidateMetrics], comparison: ModelMetrics | None) -> Figure:
    """Draws the test accuracy of every candidate with its 95 % interval, and the study's accuracy of every backbone."""
    rows: list[tuple[str, Evaluation | None, str]] = []
    study: list[tuple[float, int]] = []
    for backbone, facts in FACTS.items():
        study.append((STUDY_TRANSFER_ACCURACIES[backbone], len(rows)))
        of_backbone = [(label(one), one.test, TRAIN) for one in candidates if one.backbone == backbone]
        rows += of_backbone or [(f"{facts.title}\nnot in this run", None, TRAIN)]
    if comparison:
        rows.append((_comparison_label(comparison), comparison.test, TEST))

    figure, axes = new_axes(1.25 + 0.48 * len(rows))
    chance = axes.axvline(CHANCE, color=QUIET, linestyle=DASHED, linewidth=1.2, zorder=0, label="chance")
    for place, (_, test, colour) in enumerate(rows):
        if test:
            # Rounding may put an accuracy of 0 or 1 outside its interval.
            low, high = max(0.0, test.accuracy - test.accuracy_low), max(0.0, test.accuracy_high - test.accuracy)
            axes.errorbar(test.accuracy, place, xerr=[[low], [high]], fmt="o", color=colour, markersize=5, capsize=4)
    (diamonds,) = axes.plot(
        *zip(*study, strict=True), "D", color=VAL, fillstyle="none", markersize=9, markeredgewidth=1.8, label="study"
    )
    name_rows(axes, [name for name, _, _ in rows])
    style.share_axis(axes, 1)
    axes.set_xlabel("accuracy on the test images")
    # Intervals are narrower than the points: only the numbers tell near ones apart.
    numbers = axes.secondary_yaxis("right")
    with_interval = [f"{percent(test.accuracy)}\n({interval(test).split()[0]})" if test else "" for _, test, _ in rows]
    numbers.set_yticks(range(len(rows)), with_interval)
    numbers.tick_params(length=0, labelsize=9.5)
    numbers.spines["right"].set_visible(False)
    here = Line2D([], [], color=TRAIN, marker="o", linestyle="", label="here")
    figure.legend(handles=[here, diamonds, chance], loc="outside upper center", ncols=3)
    return figure


@styled
def candidate_curves(candidates: Sequence[CandidateMetrics], history: pd.DataFrame) -> Figure:
    """Draws loss and accuracy of every candidate by epoch, with a dot at the best epoch."""
    figure = style.new_figure(6.0 + 0.26 * math.ceil(len(candidates) / 2))
    panels = figure.subplots(2, 1, sharex=True)
    handles = []
    for colour, one in zip(itertools.cycle(COLOURS), candidates, strict=False):
        handles.append(Line2D([], [], color=colour, linewidth=2, label=label(one).replace("\n", ", ")))
        rows = history[(history["backbone"] == one.backbone) & (history["phase"] == one.phase)]
        for axes, quantity, best in zip(panels, ("loss", "accuracy"), (one.val_loss, one.val_accuracy), strict=True):
            axes.plot(rows["epoch"], rows[quantity], color=colour, linestyle=SHORT_DASHES, linewidth=1.2)
            axes.plot(rows["epoch"], rows[f"val_{quantity}"], color=colour, linewidth=2)
            # The line below the dot shows the epoch among several curves.
            axes.axvline(one.best_epoch, color=colour, linestyle=":", linewidth=1.2, zorder=0)
            axes.plot(one.best_epoch, best, "o", color=colour, markersize=6)
    style.epoch_axes(panels, history["epoch"])
    _scale_losses(panels[0], candidates, history)
    if history[["accuracy", "val_accuracy"]].to_numpy().min() < 2 * CHANCE:
        _level(panels[1], CHANCE, "chance", above=True)
    handles += [
        Line2D([], [], color=QUIET, linewidth=2, label="val"),
        Line2D([], [], color=QUIET, linewidth=1.2, linestyle=SHORT_DASHES, label="train"),
        Line2D([], [], color=QUIET, marker="o", linestyle=":", linewidth=1.2, label="best epoch"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=10)
    return figure


@styled
def cost(candidates: Sequence[CandidateMetrics], comparison: ModelMetrics | None) -> Figure:
    """Draws the time of features and of training of every candidate as bars."""
    rows = [(label(one), one.feature_seconds, _feature_time(one), one.training_seconds) for one in candidates]
    if comparison:
        rows.append((_comparison_label(comparison), 0.0, "", comparison.seconds["training"]))
    names, features, written, training = zip(*rows, strict=True)
    figure, axes = new_axes(1.1 + 0.6 * len(rows))
    places = np.arange(len(rows))
    bars = axes.barh(places - 0.19, features, 0.34, color=TRAIN, label="features (processor time)")
    axes.bar_label(bars, labels=written, padding=3, fontsize=9)
    bars = axes.barh(places + 0.19, training, 0.34, color=VAL, label="training (wall time)")
    axes.bar_label(bars, labels=[duration(seconds) for seconds in training], padding=3, fontsize=9)
    # Room for the label of the longest bar.
    axes.set_xlim(0, 1.3 * max([*features, *training]) or 1.0)
    name_rows(axes, names)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:,.10g}"))
    axes.set_xlabel("seconds")
    axes.grid(axis="x")
    figure.legend(loc="outside upper center", ncols=1)
    return figure


def label(candidate: CandidateMetrics) -> str:
    """Returns a candidate's name in two lines: the backbone, then phase and, if it is the study's, recipe."""
    recipe = "" if candidate.recipe == "sound" else f", {candidate.recipe}"
    return f"{model_title(candidate.backbone)}\n{candidate.phase}{recipe}"


def _comparison_label(comparison: ModelMetrics) -> str:
    return f"{model_title(comparison.model)}\nall layers trained"


def _feature_time(candidate: CandidateMetrics) -> str:
    if not candidate.shards_computed:
        return "from the store" if candidate.shards_found else ""
    return duration(candidate.feature_seconds) + (" + store" if candidate.shards_found else "")


def _scale_losses(axes: Axes, candidates: Sequence[CandidateMetrics], history: pd.DataFrame) -> None:
    """Makes the axis logarithmic if losses are far apart, and shows the loss of chance if one comes near it."""
    losses = history[["loss", "val_loss"]].to_numpy()
    low, high = losses.min(), losses.max()
    if max(one.val_loss for one in candidates) > 0.8 * CHANCE_LOSS:
        _level(axes, CHANCE_LOSS, "ln 10", above=False)
        high = max(high, CHANCE_LOSS)
    if low > 0 and high > LOG_RATIO * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(LogLocator(subs=()))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))


def _level(axes: Axes, height: float, name: str, above: bool) -> None:
    axes.axhline(height, color=QUIET, linestyle=DASHED, linewidth=1.2, zorder=0)
    axes.annotate(
        name, (1.0, height), xycoords=axes.get_yaxis_transform(), xytext=(0, 3 if above else -3),
        textcoords="offset points", color=QUIET, ha="right", va="bottom" if above else "top", fontsize=9.5,
    )  # fmt: skip
