"""The figures of a pipeline. Each function returns a Matplotlib figure; ``to_png`` makes it bytes."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fmnist.console import duration
from fmnist.report.page import percent
from fmnist.report.style import QUIET, TEST, TRAIN, VAL, new_figure, styled, to_png
from fmnist.study import ROWS
from fmnist.training.evaluation import CHANCE
from fmnist.workflows.pipeline.records import PipelineMetrics, Scores, Stages
from fmnist.workflows.pipeline.rows import reproduced_accuracy, sound_scores

BAND = "#f3f5f7"
# Most accuracies are above this one: two thirds of the width are for them.
COARSE_UNTIL = 0.85
# Places of a row's three points, one below the other.
STUDY_PLACE, REPRODUCED_PLACE, SOUND_PLACE = -0.26, 0.0, 0.26


def pipeline_plots(metrics: PipelineMetrics, stages: Stages) -> dict[str, bytes]:
    """Draws the figures of a pipeline's result.

    Returns:
        PNG bytes by name (the file's name in ``plots/`` without ``.png``), in the order of the report; ``cost`` only
        if a stage is finished.
    """
    plots = {"results": to_png(results(stages))}
    if stages:
        plots["cost"] = to_png(cost(metrics, stages))
    return plots


@styled
def results(stages: Stages) -> Figure:
    """Draws one line per row of the study: its accuracy, ours in its protocol, and ours in a sound one."""
    figure = new_figure(1.2 + 0.62 * len(ROWS))
    coarse, fine = figure.subplots(1, 2, sharey=True, width_ratios=(1, 2))
    for axes, low, high in ((coarse, 0.0, COARSE_UNTIL), (fine, COARSE_UNTIL, 1.01)):
        _draw_results(axes, stages, low, high)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
    coarse.set_xlim(0, COARSE_UNTIL)
    coarse.set_xticks([0.1, 0.5])
    # A little beyond 1, so that a point there is whole.
    fine.set_xlim(COARSE_UNTIL, 1.005)
    fine.set_xticks([0.85, 0.9, 0.95, 1])
    # Marks the change of scale.
    fine.axvline(COARSE_UNTIL, color=QUIET, linewidth=1.2)
    coarse.axvline(CHANCE, color=QUIET, linestyle=(0, (4, 3)), linewidth=1.2, zorder=0.5)
    coarse.set_yticks(range(len(ROWS)), [row.title.replace(", ", ",\n").replace(" as ", "\nas ") for row in ROWS])
    coarse.set_ylim(len(ROWS) - 0.5, -0.5)
    figure.supxlabel("accuracy (dashed: chance)", fontsize=11)
    handles, names = fine.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=1)
    return figure


def _draw_results(axes: Axes, stages: Stages, low: float, high: float) -> None:
    """Draws the points of one panel, from ``low`` to below ``high``: no point is cut in two."""
    study: list[tuple[float, float]] = []
    reproduced: list[tuple[float, float]] = []
    sound: list[tuple[Scores, float]] = []
    for place, row in enumerate(ROWS):
        if row.val_accuracy is not None and low <= row.val_accuracy < high:
            study.append((row.val_accuracy, place + STUDY_PLACE))
        accuracy = reproduced_accuracy(row, stages)
        if accuracy is not None and low <= accuracy < high:
            reproduced.append((accuracy, place + REPRODUCED_PLACE))
        scores = sound_scores(row, stages)
        if scores is not None and low <= scores.accuracy < high:
            sound.append((scores, place + SOUND_PLACE))
    for place in range(0, len(ROWS), 2):
        axes.axhspan(place - 0.5, place + 0.5, color=BAND, zorder=0, linewidth=0)
    axes.plot(
        [accuracy for accuracy, _ in study], [place for _, place in study], "D", color=VAL, fillstyle="none",
        markersize=7, markeredgewidth=1.8, linestyle="", label="the study (validation)",
    )  # fmt: skip
    axes.plot(
        [accuracy for accuracy, _ in reproduced], [place for _, place in reproduced], "s", color=TRAIN, markersize=5.5,
        linestyle="", label="ours, the study's protocol (validation)",
    )  # fmt: skip
    axes.errorbar(
        [scores.accuracy for scores, _ in sound],
        [place for _, place in sound],
        xerr=[
            # Intervals at the ends of the scale may not hold their own accuracy to the last digit.
            [max(0.0, scores.accuracy - scores.accuracy_low) for scores, _ in sound],
            [max(0.0, scores.accuracy_high - scores.accuracy) for scores, _ in sound],
        ],
        fmt="o", color=TEST, markersize=5.5, capsize=4, label="ours, sound (test, folds: held-out)",
    )  # fmt: skip


@styled
def cost(metrics: PipelineMetrics, stages: Stages) -> Figure:
    """Draws the time of every finished stage as a bar, labelled with its accuracy."""
    names = [stage.name for stage in metrics.stages if stage.name in stages]
    seconds = [stages[name].seconds["total"] for name in names]
    labels = []
    for name in names:
        scores = stages[name].held_out or stages[name].test_scores
        labels.append(f"{duration(stages[name].seconds['total'])}  {percent(scores.accuracy) if scores else ''}")
    figure = new_figure(0.9 + 0.36 * len(names))
    axes = figure.add_subplot()
    bars = axes.barh(range(len(names)), seconds, 0.6, color=TRAIN)
    axes.bar_label(bars, labels=labels, padding=4, fontsize=9)
    # Room for the label of the longest bar.
    axes.set_xlim(0, 1.75 * max(seconds) or 1.0)
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names], fontsize=9.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    return figure
