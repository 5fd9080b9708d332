"""The figures of a search: learning curves by bracket, and the hyper-parameters against the objective."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from fmnist.errors import printable
from fmnist.report.style import TRAIN, VAL, drawn, new_axes, new_figure, styled
from fmnist.workflows.tune.records import TrialRecord, parameter_names, pareto_front, standard_error

# Accuracies further than this below the best are at the lower edge of the axis: a trial that learnt nothing has 0.10,
# and an axis down to it would leave no room between the others.
SHOWN_BELOW_BEST = 0.15
LOG_RATIO = 30  # a hyper-parameter has a logarithmic axis if its largest value is this many times its smallest one
PALE, FAILED = "#8c9bab", "#000000"
LONGEST_LABEL = 22
# How a trial ended: marker at the end of its curve, and legend.
ENDS = {
    "finished": ("o", "all epochs"),
    "stopped": (".", "dropped"),
    "stopped early": ("s", "stopped early"),
    "out of time": ("|", "out of time"),
    "failed": ("x", "failed"),
}
LEGEND: Any = {"loc": "outside upper center", "ncols": 3, "fontsize": 10, "columnspacing": 1.2, "handletextpad": 0.5}


def tune_plots(records: Sequence[TrialRecord], winner: int, images: int | None = None) -> dict[str, bytes]:
    """Draws the figures of a search with ``winner`` as the best trial's number; returns PNG by name.

    ``images``, those of the validation, are for the Pareto front.
    """
    figures = {"trial_curves": lambda: trial_curves(records, winner), "parameters": lambda: parameters(records, winner)}
    if images:
        figures["pareto_front"] = lambda: front_figure(records, winner, images)
    return drawn(figures)


@styled
def trial_curves(records: Sequence[TrialRecord], winner: int) -> Figure:
    """Draws validation accuracy by epoch: one line per trial, one panel per bracket."""
    brackets = sorted({record.bracket for record in records}, reverse=True)
    figure = new_figure(0.9 + max(2.9, 1.95 * len(brackets)))
    panels = figure.subplots(len(brackets), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    limits = accuracy_limits(row["val_accuracy"] for record in records for row in record.rows)
    for axes, bracket in zip(panels, brackets, strict=True):
        members = [record for record in records if record.bracket == bracket]
        for record in members:
            _curve(axes, record, limits[0], own=record.trial == winner)
        axes.set_title(f"{f'Bracket {bracket}: ' if len(brackets) > 1 else ''}{_survivors(members)}")
        axes.grid()
    panels[0].set_ylim(limits)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1))
    panels[0].set_xlim(0.7, max(1, *(record.epochs for record in records)) + 0.3)
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.supylabel("val_accuracy", fontsize=11)
    handles = [Line2D([], [], color=VAL, linewidth=3, label=f"trial {winner}, the winner")]
    for status, (marker, label) in ENDS.items():
        if any(record.status == status and record.rows for record in records):
            colour = FAILED if status == "failed" else PALE
            handles.append(Line2D([], [], color=colour, linewidth=1.2, marker=marker, label=label))
    figure.legend(handles=handles, **LEGEND)
    return figure


def _curve(axes: Axes, record: TrialRecord, low: float, *, own: bool) -> None:
    if not record.rows:
        return
    epochs = [row["epoch"] for row in record.rows]
    # A curve below the axis runs along its lower edge.
    accuracies = [max(row["val_accuracy"], low) for row in record.rows]
    failed = record.status == "failed"
    colour = VAL if own else FAILED if failed else PALE
    style: dict[str, Any] = {"linewidth": 3 if own else 1.2, "zorder": 4 if own else 2, "clip_on": False}
    marker = ENDS.get(record.status, (".", ""))[0]
    axes.plot(epochs, accuracies, "--" if failed else "-", color=colour, marker=marker, markevery=[-1], **style)


def _survivors(members: Sequence[TrialRecord]) -> str:
    """Returns the number of trials that trained up to each rung, such as ``9 → 3 → 1 trials, 1 failed``."""
    rungs = sorted({record.epochs for record in members if record.status == "stopped"})
    counts = [len(members), *(sum(record.epochs > rung for record in members) for rung in rungs)]
    failed = sum(record.status == "failed" for record in members)
    trials = f"{' → '.join(map(str, counts))} trial{'' if counts == [1] else 's'}"
    return trials + (f", {failed} failed" if failed else "")


@styled
def parameters(records: Sequence[TrialRecord], winner: int) -> Figure:
    """Draws each hyper-parameter against the best validation accuracy: one panel each, one point per trial.

    Points are darker the more epochs a trial trained. Trials without an epoch are left out.
    """
    names = parameter_names(records)
    # Those of few epochs are drawn first, because they are many.
    trained = sorted((record for record in records if record.best), key=lambda record: record.epochs)
    limits = accuracy_limits(_accuracy(record) for record in trained)
    columns = min(2, len(names))
    lines = -(-len(names) // columns)
    figure = new_figure(1.1 + 1.85 * lines)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    longest = max(2, *(record.epochs for record in records))
    for axes, name in zip(panels.flat, names, strict=False):
        members = [record for record in trained if name in record.parameters]
        axes.margins(x=0.1)
        values = _axis_values(axes, [record.parameters[name] for record in members])
        points = axes.scatter(
            values,
            [max(_accuracy(record), limits[0]) for record in members],
            c=[record.epochs for record in members],
            cmap="Blues",
            vmin=-longest / 3,  # the fewest epochs are pale, not white
            vmax=longest,
            edgecolors=TRAIN,
            linewidths=0.8,
            clip_on=False,
            zorder=3,
        )
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": VAL, "linewidths": 2.2, "s": 130}
        for value, record in zip(values, members, strict=True):
            if record.trial == winner:
                axes.scatter([value], [_accuracy(record)], zorder=4, clip_on=False, **ring)
        axes.set_title(_shortened(name, LONGEST_LABEL * (3 - columns)), fontsize=10)
        axes.set_ylim(limits)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.tick_params(labelsize=9)
        axes.grid()
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    figure.supylabel("best val_accuracy", fontsize=11)
    cells = [epochs + 0.5 for epochs in range(longest + 1)]
    inch = 1 / figure.get_figheight()
    sizes: dict[str, Any] = {"fraction": 0.3 * inch, "pad": 0.1 * inch, "aspect": 40}
    bar = figure.colorbar(
        points, ax=panels, location="top", boundaries=cells, ticks=MaxNLocator(5, integer=True), **sizes
    )
    bar.set_label(f"epochs of the trial; ringed: trial {winner}, the winner", fontsize=10)
    return figure


@styled
def front_figure(records: Sequence[TrialRecord], winner: int, images: int) -> Figure:
    """Draws validation accuracy by the model's parameters, and the Pareto front."""
    front = pareto_front(records)
    trained = [record for record in records if record.best and record.model_parameters and record.status != "failed"]
    limits = accuracy_limits(map(_accuracy, trained))
    figure, axes = new_axes(3.2)
    best = _accuracy(front[-1])
    axes.axhspan(best - standard_error(best, images), best, color=TRAIN, alpha=0.12, linewidth=0)
    axes.step(*_sizes_and_accuracies(front), where="post", color=TRAIN, linewidth=1.5)
    sizes, accuracies = _sizes_and_accuracies(trained)
    axes.scatter(
        _axis_values(axes, sizes), [max(it, limits[0]) for it in accuracies], color=TRAIN, clip_on=False, zorder=3
    )
    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": VAL, "linewidths": 2.2, "s": 130}
    won = [record for record in trained if record.trial == winner]
    axes.scatter(*_sizes_and_accuracies(won), zorder=4, clip_on=False, **ring)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(limits)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("parameters of the model")
    axes.set_ylabel("best val_accuracy")
    axes.grid()
    return figure


def _sizes_and_accuracies(records: Sequence[TrialRecord]) -> tuple[list[int], list[float]]:
    return [record.model_parameters or 0 for record in records], [_accuracy(record) for record in records]


def _axis_values(axes: Axes, values: Sequence[Any]) -> list[Any]:
    """Sets the horizontal axis for the values of a hyper-parameter, and returns where they are on it."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        categories = sorted({str(value) for value in values})
        width = max(4, LONGEST_LABEL // len(categories))
        axes.set_xticks(range(len(categories)), [_shortened(category, width) for category in categories])
        axes.set_xlim(-0.5, len(categories) - 0.5)
        return [categories.index(str(value)) for value in values]
    if values and min(values) > 0 and max(values) / min(values) >= LOG_RATIO:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10, numticks=5))
        # Matplotlib's own are formulas.
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif len(set(values)) <= 4:
        axes.set_xticks(sorted(set(values)))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=all(isinstance(value, int) for value in values)))
    return list(values)


def accuracy_limits(values: Iterable[float]) -> tuple[float, float]:
    """Returns the limits of an axis for accuracies that are at most `SHOWN_BELOW_BEST` below the best one."""
    known = list(values)
    if not known:
        return 0.0, 1.0
    high = max(known)
    low = min(value for value in known if value >= high - SHOWN_BELOW_BEST)
    margin = max(0.05 * (high - low), 0.002)
    return low - margin, high + margin


def _accuracy(record: TrialRecord) -> float:
    assert record.best
    return record.best["val_accuracy"]


def _shortened(text: str, width: int) -> str:
    """Leaves out the middle of a text longer than ``width``, because names often differ at their ends."""
    text = printable(text)
    return text if len(text) <= width else f"{text[: width // 2]}…{text[len(text) - (width - 1) // 2 :]}"
