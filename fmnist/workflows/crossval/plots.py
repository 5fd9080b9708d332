"""The figures of a cross-validation. Each function returns a Matplotlib figure; ``drawn`` makes it bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fmnist.data import Images
from fmnist.report.plots import confusion_matrix, per_class, worst_mistakes_grid
from fmnist.report.style import TRAIN, VAL, drawn, new_figure, styled
from fmnist.training.evaluation import Evaluation
from fmnist.workflows.crossval.records import FoldRecord, Weights

COLOURS: dict[Weights, str] = {"fresh": TRAIN, "carried": VAL}
TITLES: dict[Weights, str] = {
    "fresh": "fresh weights in every fold",
    "carried": "weights carried over, as in the study",
}


def crossval_plots(
    records: Sequence[FoldRecord], pooled: Evaluation, images: Images, probabilities: npt.NDArray[np.floating]
) -> dict[str, bytes]:
    """Draws the figures of a cross-validation's result, as PNG by name, in the order of the report.

    Args:
        records: all folds.
        pooled: of all images, each predicted by the fold that held it out.
        images: all images.
        probabilities: floats [n, 10], of ``images``, each from the fold that held it out.
    """
    fresh = [record for record in records if record.weights == "fresh"]
    figures: dict[str, Callable[[], Figure]] = {
        "fold_accuracy": lambda: fold_accuracy(records),
        "fold_curves": lambda: fold_curves(fresh),
    }
    if len(fresh) < len(records):
        figures["leak"] = lambda: leak(records)
    figures |= {
        "confusion_matrix": lambda: confusion_matrix(pooled),
        "per_class": lambda: per_class(pooled),
        "worst_mistakes": lambda: worst_mistakes_grid(images, probabilities),
    }
    return drawn(figures)


@styled
def fold_accuracy(records: Sequence[FoldRecord]) -> Figure:
    """Draws the held-out accuracies of the folds as a box with a point a fold; a second box for carried weights."""
    kinds = _kinds(records)
    figure = new_figure(0.9 + 1.0 * len(kinds))
    axes = figure.add_subplot()
    groups = [[record.held_out_accuracy for record in records if record.weights == kind] for kind in kinds]
    places = list(range(len(kinds), 0, -1))
    boxes = axes.boxplot(
        groups, positions=places, orientation="horizontal", widths=0.5, showfliers=False, patch_artist=True
    )
    random = np.random.default_rng(0)
    for kind, group, place, box, middle in zip(kinds, groups, places, boxes["boxes"], boxes["medians"], strict=True):
        box.set(facecolor=COLOURS[kind], alpha=0.25, edgecolor=COLOURS[kind])
        middle.set(color=COLOURS[kind], linewidth=2)
        # Moved up and down a little, so that equal accuracies can be told apart.
        axes.plot(group, place + random.uniform(-0.13, 0.13, len(group)), "o", color=COLOURS[kind], markersize=5)
        axes.text(
            0.0, place + 0.33, TITLES[kind], transform=axes.get_yaxis_transform(), color=COLOURS[kind], va="bottom"
        )
    axes.set_ylim(0.5, len(kinds) + 0.75)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("accuracy on the held-out images")
    axes.grid(axis="x")
    return figure


@styled
def fold_curves(records: Sequence[FoldRecord]) -> Figure:
    """Draws loss and accuracy by epoch, for the training images and for those to stop by, two lines a fold."""
    figure = new_figure(5.8)
    panels = figure.subplots(2, 1, sharex=True)
    for axes, quantity in zip(panels, ("loss", "accuracy"), strict=True):
        for record in records:
            epochs = [row["epoch"] for row in record.rows]
            for column, colour in ((quantity, TRAIN), (f"val_{quantity}", VAL)):
                axes.plot(epochs, [row[column] for row in record.rows], color=colour, linewidth=1.1, alpha=0.75)
            if record.kept:
                axes.plot(record.kept_epoch, record.kept[f"val_{quantity}"], "o", color=VAL, markersize=4.5)
        axes.set_title(quantity.capitalize())
        axes.grid()
    panels[1].yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    panels[1].set_xlabel("epoch")
    panels[1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    handles = [Line2D([], [], color=TRAIN, label="train"), Line2D([], [], color=VAL, label="val")]
    handles.append(Line2D([], [], color=VAL, marker="o", linestyle="", label="kept epoch"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


@styled
def leak(records: Sequence[FoldRecord]) -> Figure:
    """Draws the held-out accuracy by fold, with fresh and with carried weights."""
    figure = new_figure(3.4)
    axes = figure.add_subplot()
    for kind in _kinds(records):
        of_kind = [record for record in records if record.weights == kind]
        folds, accuracies = [record.fold for record in of_kind], [record.held_out_accuracy for record in of_kind]
        axes.plot(folds, accuracies, color=COLOURS[kind], marker="o", markersize=5, linewidth=2, label=TITLES[kind])
        # Below the end of a line that rises, which would run through it.
        below = kind == "carried" and accuracies[-1] > mean(accuracies)
        axes.annotate(
            f"{accuracies[-1]:.1%}".replace("%", " %"),
            (folds[-1], accuracies[-1]),
            xytext=(0, -14 if below else 8),
            textcoords="offset points",
            ha="right",
            va="top" if below else "bottom",
            color=COLOURS[kind],
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("fold")
    axes.set_title("Accuracy on the held-out images")
    axes.grid()
    figure.legend(loc="outside upper center", ncols=1)
    return figure


def _kinds(records: Sequence[FoldRecord]) -> list[Weights]:
    present = {record.weights for record in records}
    return [kind for kind in COLOURS if kind in present]
