"""The figures of a hyper-parameter search. Each function returns a Matplotlib figure; ``to_png`` makes it bytes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from fmnist.report.style import TRAIN, VAL, new_figure, styled, to_png, without_frame
from fmnist.workflows.tune.records import TrialRecord

# Accuracies further than this below the best stand at the lower edge: a trial that learned nothing sits at 0.10, and an
# axis down to it would press all the good ones into a line.
SHOWN_BELOW_BEST = 0.15
LOG_FROM = 30  # a hyper-parameter whose largest value is so many times its smallest gets a logarithmic axis
OFF = "off"  # where a trial stands on the axis of a hyper-parameter that it does not have
LOWER = "lower"  # where one stands whose accuracy the axis does not reach
OFF_WIDTH = 0.14  # share of an axis that keeps such a place apart from the values
PALE, FAILED = "#8c9bab", "#000000"
ENDS = {  # how a trial's curve ends: marker and whether it is filled
    "finished": ("o", True),
    "stopped": ("o", False),
    "stopped early": ("s", False),
    "failed": ("x", True),
}
LEGEND = {
    "finished": "trained to the end",
    "stopped": "dropped",
    "stopped early": "stopped early",
    "failed": "failed",
}
PANEL_COLUMNS = 2
COMPACT: Any = {"fontsize": 10, "columnspacing": 1.2, "handletextpad": 0.5, "handlelength": 1.6}  # three in a row fit


def tune_plots(records: Sequence[TrialRecord], winner: int) -> dict[str, bytes]:
    """Draws the figures of a search; those of the winner's training are `fmnist.report.plots.train_plots`.

    Args:
        records: every trial of the search, 1 or more.
        winner: number of the best trial.

    Returns:
        PNG bytes by name (the file's name in ``plots/`` without ``.png``), in the order of the report.
    """
    return {
        "trial_curves": to_png(trial_curves(records, winner)),
        "parallel_coordinates": to_png(parallel_coordinates(records, winner)),
        "parameters": to_png(parameters(records, winner)),
    }


@styled
def trial_curves(records: Sequence[TrialRecord], winner: int) -> Figure:
    """Draws validation accuracy by epoch, a line a trial and a panel a bracket.

    A dotted line stands where the scheduler dropped trials; the panel's title counts those that went on past each.
    """
    brackets = sorted({record.bracket for record in records}, reverse=True)
    figure = new_figure(0.9 + max(2.9, 1.95 * len(brackets)))
    panels = figure.subplots(len(brackets), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    low, high = accuracy_limits([row["val_accuracy"] for record in records for row in record.rows])
    for axes, bracket in zip(panels, brackets, strict=True):
        members = [record for record in records if record.bracket == bracket]
        _curves(axes, members, winner, low)
        axes.set_title(f"{f'Bracket {bracket}: ' if len(brackets) > 1 else ''}{_survivors(members)}")
        axes.grid()
    longest = max(record.epochs for record in records)
    panels[0].set_ylim(_padded(low, high))
    panels[0].set_xlim(0.7, max(longest, 1) + 0.3)
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in panels:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _percent(value)))
        axes.yaxis.set_major_locator(_accuracy_ticks())
    figure.supylabel("val_accuracy", fontsize=11)
    shown = [status for status in ENDS if any(record.status == status and record.rows for record in records)]
    handles = [Line2D([], [], color=VAL, linewidth=3, label=f"trial {winner}, the winner")]
    handles += [_end_marker(status, FAILED if status == "failed" else PALE) for status in shown]
    if any(record.rows and record.rows[-1]["val_accuracy"] < low for record in records):
        handles.append(_marker("v", PALE, "below the axis"))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(3, len(handles)), **COMPACT)
    return figure


@styled
def parallel_coordinates(records: Sequence[TrialRecord], winner: int) -> Figure:
    """Draws each trial as a line over one horizontal axis a hyper-parameter, down to its best validation accuracy.

    The axes lie one below the other, so that any number of them, and their names, fit a narrow page. Better trials are
    darker; a trial without an epoch is dashed and ends above the last axis.
    """
    scales = parameter_scales(records)
    accuracy = accuracy_scale(records)
    rows = [*scales, accuracy]
    figure = new_figure(0.8 + 0.62 * len(rows))
    axes = figure.add_subplot()
    axes.hlines(range(len(rows)), 0, 1, color="#555555", linewidth=1, zorder=1)
    shades = matplotlib.colormaps["Blues"]
    # The best are drawn last, over the others.
    order = sorted(range(len(records)), key=lambda place: (records[place].trial == winner, _best(records[place])))
    for place in order:
        xs = [scale.positions[place] for scale in rows]
        own = records[place].trial == winner
        look: dict[str, Any] = {"color": VAL, "linewidth": 3, "zorder": 4}
        if not own:
            good = accuracy.positions[place]
            colour = PALE if math.isnan(good) else shades(0.25 + 0.75 * good)
            look = {"color": colour, "linewidth": 1.3, "zorder": 2, "linestyle": "--" if math.isnan(good) else "-"}
        axes.plot(xs, range(len(rows)), marker="o", markersize=6 if own else 3, **look)
    for height, scale in enumerate(rows):
        for position, label in thinned(scale.ticks, 44):
            axes.plot([position] * 2, [height, height + 0.09], color="#555555", linewidth=1, zorder=3)
            box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.6}
            axes.text(position, height + 0.14, label, ha="center", va="top", fontsize=9, bbox=box, zorder=5)
    axes.set_yticks(range(len(rows)), [_wrapped(scale.name) for scale in rows])
    axes.tick_params(axis="y", labelsize=9.5)
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set_xticks([])
    axes.set_xlim(-0.06, 1.06)
    axes.set_ylim(len(rows) - 0.45, -0.25)
    without_frame(axes)
    handles = [
        Line2D([], [], color=VAL, linewidth=3, marker="o", label=f"trial {winner}, the winner"),
        Line2D([], [], color=shades(1.0), linewidth=1.5, label="a good trial"),
        Line2D([], [], color=shades(0.3), linewidth=1.5, label="a poor one"),
    ]
    if not all(record.rows for record in records):
        handles.append(Line2D([], [], color=PALE, linewidth=1.3, linestyle="--", label="without an epoch"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3, **COMPACT)
    return figure


@styled
def parameters(records: Sequence[TrialRecord], winner: int) -> Figure:
    """Draws each hyper-parameter against the best validation accuracy, a panel a hyper-parameter, a point a trial.

    Points are larger and darker the more epochs a trial trained; trials without an epoch are left out.
    """
    scales = parameter_scales(records)
    accuracy = accuracy_scale(records)
    columns = min(PANEL_COLUMNS, len(scales))
    lines = -(-len(scales) // columns)
    figure = new_figure(0.9 + 1.85 * lines)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    longest = max(1, *(record.epochs for record in records))
    trained = [place for place, record in enumerate(records) if record.rows]
    # Those of few epochs last: they are small, and would vanish behind the others.
    trained.sort(key=lambda place: -records[place].epochs)
    for axes, scale in zip(panels.flat, scales, strict=False):
        for place in trained:
            x, y = scale.positions[place], accuracy.positions[place]
            axes.plot(x, y, **_point(records[place].epochs, longest, below=accuracy.below[place]))
            if records[place].trial == winner:
                axes.plot(x, y, "o", markersize=12, fillstyle="none", color=VAL, markeredgewidth=2.2, zorder=4)
        ticks = thinned(scale.ticks, 26 if columns > 1 else 56)
        axes.set_xticks([position for position, _ in ticks], [label for _, label in ticks])
        axes.set_yticks([position for position, _ in accuracy.ticks], [label for _, label in accuracy.ticks])
        axes.tick_params(labelsize=9)
        axes.set_xlim(-0.08, 1.08)
        axes.set_ylim(-0.1, 1.12)
        axes.set_title(_wrapped(scale.name, 26 if columns > 1 else 50), fontsize=10)
        axes.grid()
    for axes in panels.flat[len(scales) :]:
        axes.set_axis_off()
    figure.supylabel("best val_accuracy", fontsize=11)
    handles = [
        Line2D([], [], linestyle="", label=_epochs(count), **_point(count, longest))
        for count in _some({records[place].epochs for place in trained})
    ]
    ring: dict[str, Any] = {"fillstyle": "none", "markersize": 12, "markeredgewidth": 2.2}
    handles.append(Line2D([], [], linestyle="", marker="o", color=VAL, label=f"trial {winner}, the winner", **ring))
    figure.legend(handles=handles, loc="outside upper center", ncols=3, **COMPACT)
    return figure


@dataclass(frozen=True)
class Scale:
    """An axis from 0 to 1 and where the trials stand on it.

    Attributes:
        name: of what it measures.
        positions: of each trial, [trials], 0 to 1; not a number where it has none.
        ticks: positions and their labels, from left to right.
        below: whether the trial's value is lower than the axis reaches, [trials].
    """

    name: str
    positions: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]
    below: tuple[bool, ...]


def parameter_scales(records: Sequence[TrialRecord]) -> list[Scale]:
    """Returns the axis of each hyper-parameter, in the order in which trials first have them.

    Numbers lie on a linear axis, or a logarithmic one if they are positive and their ratio is `LOG_FROM` or more; texts
    and truth values have a place each. Trials that lack a hyper-parameter stand left of its values, on a place of their
    own.
    """
    names = dict.fromkeys(name for record in records for name in record.parameters)
    return [_parameter_scale(name, records) for name in names]


def _parameter_scale(name: str, records: Sequence[TrialRecord]) -> Scale:
    values = [record.parameters[name] for record in records if name in record.parameters]
    begin = OFF_WIDTH if len(values) < len(records) else 0.0
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    places, ticks = _number_places(values) if numeric else _category_places(values)
    positions = tuple(
        begin + (1 - begin) * places[record.parameters[name]] if name in record.parameters else 0.0
        for record in records
    )
    labelled = [(begin + (1 - begin) * position, label) for position, label in ticks]
    return Scale(name, positions, (*([(0.0, OFF)] if begin else []), *labelled), (False,) * len(records))


def _number_places(values: Sequence[float]) -> tuple[dict[Any, float], list[tuple[float, str]]]:
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low >= LOG_FROM

    def place(value: float) -> float:
        if low == high:
            return 0.5
        if logarithmic:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    distinct = sorted(set(values))
    if len(distinct) > 4:
        whole = all(isinstance(value, int) for value in values)
        locator = LogLocator(10, subs=(1, 3), numticks=8) if logarithmic else MaxNLocator(5, integer=whole)
        distinct = [value for value in locator.tick_values(low, high) if low <= value <= high]
    return {value: place(value) for value in values}, [(place(value), _label(value)) for value in distinct]


def _category_places(values: Sequence[Any]) -> tuple[dict[Any, float], list[tuple[float, str]]]:
    categories = sorted(set(values), key=str)
    places = {category: (index + 0.5) / len(categories) for index, category in enumerate(categories)}
    width = max(4, 40 // len(categories))
    return places, [(position, _shortened(_label(category), width)) for category, position in places.items()]


def accuracy_scale(records: Sequence[TrialRecord]) -> Scale:
    """Returns the axis of best validation accuracy; what lies below it stands at its lower end."""
    best = [_best(record) for record in records]
    low, high = _padded(*accuracy_limits([value for value in best if not math.isinf(value)]))
    below = tuple(math.isfinite(value) and value < low for value in best)
    positions = tuple(max(0.0, (value - low) / (high - low)) if math.isfinite(value) else math.nan for value in best)
    marks = [value for value in _accuracy_ticks().tick_values(low, high) if low <= value <= high]
    ticks = [((value - low) / (high - low), _percent(value)) for value in marks]
    if any(below):
        ticks = [(0.0, LOWER), *((position, label) for position, label in ticks if position > OFF_WIDTH)]
    return Scale("val_accuracy", positions, tuple(ticks), below)


def accuracy_limits(values: Sequence[float]) -> tuple[float, float]:
    """Returns the lowest and highest of the accuracies at most `SHOWN_BELOW_BEST` below the best; 0 and 1 of none."""
    if not values:
        return 0.0, 1.0
    high = max(values)
    return min(value for value in values if value >= high - SHOWN_BELOW_BEST), high


def thinned(ticks: Sequence[tuple[float, str]], characters: int) -> list[tuple[float, str]]:
    """Leaves out ticks whose labels would touch the one before.

    Args:
        ticks: positions of 0 to 1 with their labels, from left to right.
        characters: how many fit along the axis.
    """
    kept: list[tuple[float, str]] = []
    free = -math.inf
    for position, label in ticks:
        if position * characters - len(label) / 2 >= free:
            kept.append((position, label))
            free = position * characters + len(label) / 2 + 1
    return kept


def _accuracy_ticks() -> MaxNLocator:
    return MaxNLocator(7, steps=[1, 2, 5, 10])


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"


def _padded(low: float, high: float) -> tuple[float, float]:
    """Limits with some air, even around values that are all equal."""
    air = max(0.05 * (high - low), 0.002)
    return low - air, high + air


def _curves(axes: Axes, members: Sequence[TrialRecord], winner: int, low: float) -> None:
    """Draws a bracket's trials; ``low`` is the lowest accuracy that the axis shows."""
    for milestone in _milestones(members):
        axes.axvline(milestone, color="#555555", linestyle=(0, (1, 2)), linewidth=1.2, zorder=1)
    for record in members:
        if not record.rows:
            continue
        epochs = [row["epoch"] for row in record.rows]
        accuracies = [row["val_accuracy"] for row in record.rows]
        own, failed = record.trial == winner, record.status == "failed"
        colour = VAL if own else FAILED if failed else PALE
        axes.plot(
            epochs,
            accuracies,
            color=colour,
            linewidth=3 if own else 1.2,
            linestyle="--" if failed else "-",
            zorder=4 if own else 2,
        )
        # A line that ends below the axis would not be seen at all.
        end = _marker("v", colour, "") if accuracies[-1] < low else _end_marker(record.status, colour)
        end.set_data([epochs[-1]], [max(accuracies[-1], low)])
        end.set(zorder=6 if own else 5, clip_on=False)
        axes.add_line(end)


def _milestones(members: Sequence[TrialRecord]) -> list[int]:
    """The epochs after which the scheduler dropped trials."""
    return sorted({record.epochs for record in members if record.status == "stopped"})


def _survivors(members: Sequence[TrialRecord]) -> str:
    """Such as ``9 → 3 → 1 trials, 1 failed``: how many began, and how many went on past each milestone."""
    counts = [len(members), *(sum(record.epochs > m for record in members) for m in _milestones(members))]
    failed = sum(record.status == "failed" for record in members)
    trials = f"{' → '.join(map(str, counts))} trial{'' if counts == [1] else 's'}"
    return trials + (f", {failed} failed" if failed else "")


def _end_marker(status: str, colour: str) -> Line2D:
    marker, filled = ENDS.get(status, (".", True))
    return _marker(marker, colour, LEGEND.get(status, ""), filled=filled)


def _marker(marker: str, colour: str, label: str, *, filled: bool = True) -> Line2D:
    face = colour if filled else "white"
    look: dict[str, Any] = {"markerfacecolor": face, "markeredgecolor": colour, "markeredgewidth": 1.5}
    return Line2D([], [], linestyle="", marker=marker, markersize=5.5, label=label, **look)


def _point(epochs: int, longest: int, *, below: bool = False) -> dict[str, Any]:
    share = epochs / longest
    return {
        "marker": "v" if below else "o",
        "markersize": 3.5 + 4.5 * math.sqrt(share),
        "markerfacecolor": matplotlib.colormaps["Blues"](0.15 + 0.75 * share),
        "markeredgecolor": TRAIN,
        "markeredgewidth": 0.8,
        "zorder": 3,
    }


def _some(epochs: set[int]) -> list[int]:
    """Up to four of the numbers, lowest and highest among them."""
    ordered = sorted(epochs)
    places = np.linspace(0, len(ordered) - 1, min(4, len(ordered))).round().astype(int)
    return [ordered[place] for place in places]


def _best(record: TrialRecord) -> float:
    return record.best["val_accuracy"] if record.best else -math.inf


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"


def _label(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _wrapped(name: str, width: int = 18) -> str:
    """The name on up to three lines, broken behind underscores where it has some."""
    lines = textwrap.wrap(name.replace("_", "_\N{ZERO WIDTH SPACE} "), width + 2, max_lines=3, placeholder="…")
    return "\n".join(line.replace("_\N{ZERO WIDTH SPACE} ", "_").replace("\N{ZERO WIDTH SPACE}", "") for line in lines)


def _shortened(text: str, width: int) -> str:
    """The text with its middle left out if it is longer than ``width``, for names often differ at their ends."""
    if len(text) <= width:
        return text
    return f"{text[: width // 2]}…{text[len(text) - (width - 1) // 2 :]}"
