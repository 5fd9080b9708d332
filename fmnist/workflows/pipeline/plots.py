"""The figures of a pipeline. Each function returns a Matplotlib figure; ``drawn`` makes it bytes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fmnist.console import duration
from fmnist.report.page import percent
from fmnist.report.style import DASHED, QUIET, TEST, TRAIN, VAL, drawn, name_rows, new_axes, new_figure, styled
from fmnist.study import ROWS
from fmnist.training.evaluation import CHANCE
from fmnist.workflows.pipeline.records import PipelineMetrics, Stages
from fmnist.workflows.pipeline.rows import reproduced_accuracy, sound_scores

BAND = "#f3f5f7"
# Most accuracies are above this one: two thirds of the width are for them.
COARSE_UNTIL = 0.85


def pipeline_plots(metrics: PipelineMetrics, stages: Stages) -> dict[str, bytes]:
    """Returns the figures of a pipeline's result as PNG by name; ``cost`` only if a stage is finished."""
    figures = {"results": lambda: results(stages)}
    return drawn(figures | ({"cost": lambda: cost(metrics, stages)} if stages else {}))


@styled
def results(stages: Stages) -> Figure:
    """Draws one line per row of the study: its accuracy, ours in its protocol, and ours in a sound one."""
    figure = new_figure(1.2 + 0.62 * len(ROWS))
    coarse, fine = figure.subplots(1, 2, sharey=True, width_ratios=(1, 2))
    name_rows(coarse, [row.title.replace(", ", ",\n").replace(" as ", "\nas ") for row in ROWS])
    # Fine: a little beyond 1, so that a point there is whole.
    for axes, low, high, ticks in (
        (coarse, 0.0, COARSE_UNTIL, [0.1, 0.5]),
        (fine, COARSE_UNTIL, 1.005, [0.85, 0.9, 0.95, 1]),
    ):
        _draw_results(axes, stages, low, high)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlim(low, high)
        axes.set_xticks(ticks)
    # Marks the change of scale.
    fine.axvline(COARSE_UNTIL, color=QUIET, linewidth=1.2)
    coarse.axvline(CHANCE, color=QUIET, linestyle=DASHED, linewidth=1.2, zorder=0.5)
    figure.supxlabel("accuracy (dashed: chance)", fontsize=11)
    figure.legend(*fine.get_legend_handles_labels(), loc="outside upper right", ncols=1)
    return figure


def _draw_results(axes: Axes, stages: Stages, low: float, high: float) -> None:
    """Draws the points of one panel, from ``low`` to below ``high``: no point is cut in two."""
    study, reproduced, sound = [], [], []
    for place, row in enumerate(ROWS):
        accuracy, scores = reproduced_accuracy(row, stages), sound_scores(row, stages)
        if row.val_accuracy is not None and low <= row.val_accuracy < high:
            study.append((row.val_accuracy, place - 0.26))
        if accuracy is not None and low <= accuracy < high:
            reproduced.append((accuracy, place))
        if scores and low <= scores.accuracy < high:
            # Intervals at the ends of the scale may not hold their own accuracy to the last digit.
            below, above = scores.accuracy - scores.accuracy_low, scores.accuracy_high - scores.accuracy
            sound.append((scores.accuracy, place + 0.26, max(0.0, below), max(0.0, above)))
    for place in range(0, len(ROWS), 2):
        axes.axhspan(place - 0.5, place + 0.5, color=BAND, zorder=0, linewidth=0)
    axes.plot(
        *np.reshape(study, (-1, 2)).T, "D", color=VAL, fillstyle="none", markersize=7, markeredgewidth=1.8,
        linestyle="", label="the study (validation)",
    )  # fmt: skip
    axes.plot(
        *np.reshape(reproduced, (-1, 2)).T, "s", color=TRAIN, markersize=5.5, linestyle="",
        label="ours, the study's protocol (validation)",
    )  # fmt: skip
    accuracies, places, *errors = np.reshape(sound, (-1, 4)).T
    axes.errorbar(
        accuracies, places, xerr=errors, fmt="o", color=TEST, markersize=5.5, capsize=4,
        label="ours, sound (test, folds: held-out)",
    )  # fmt: skip


@styled
def cost(metrics: PipelineMetrics, stages: Stages) -> Figure:
    """Draws the time of every finished stage as a bar, labelled with its accuracy."""
    names = [stage.name for stage in metrics.stages if stage.name in stages]
    seconds = [stages[name].seconds["total"] for name in names]
    scores = [stages[name].held_out or stages[name].test_scores for name in names]
    labels = [
        f"{duration(taken)}  {percent(one.accuracy) if one else ''}" for taken, one in zip(seconds, scores, strict=True)
    ]
    figure, axes = new_axes(0.9 + 0.36 * len(names))
    bars = axes.barh(range(len(names)), seconds, 0.6, color=TRAIN)
    axes.bar_label(bars, labels=labels, padding=4, fontsize=9)
    # Room for the label of the longest bar.
    axes.set_xlim(0, 1.75 * max(seconds) or 1.0)
    name_rows(axes, names, fontsize=9.5)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    return figure
