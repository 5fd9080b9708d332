"""The figures of a training run. Each function returns a Matplotlib figure; ``drawn`` makes it bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from fmnist.console import plural
from fmnist.data import Images
from fmnist.report import style
from fmnist.training.evaluation import Evaluation, worst_mistakes

MISTAKES = 12
MISTAKE_COLUMNS = 4


def train_plots(
    history: pd.DataFrame,
    best_epoch: int,
    evaluation: Evaluation,
    test: Images,
    probabilities: npt.NDArray[np.floating],
) -> dict[str, bytes]:
    """Draws the figures of a training's result, in the order of the report; `data_plots` draws those of its data.

    Args:
        history: one row per epoch, with the columns of ``history.csv``.
        best_epoch: the epoch (from 1) whose weights were kept.
        evaluation: of those weights on ``test``.
        probabilities: floats [n, 10], the model's for ``test``.

    Returns:
        PNG bytes by name, the file's name in ``plots/`` without ``.png``.
    """
    return style.drawn(
        {
            "learning_curves": lambda: learning_curves(history, best_epoch),
            "confusion_matrix": lambda: confusion_matrix(evaluation),
            "per_class": lambda: per_class(evaluation),
            "worst_mistakes": lambda: worst_mistakes_grid(test, probabilities),
        }
    )


@style.styled
def learning_curves(history: pd.DataFrame, best_epoch: int) -> Figure:
    """Draws loss and accuracy by epoch for train and val, with the kept epoch marked; arguments as in `train_plots`."""
    figure = style.new_figure(5.8)
    panels = figure.subplots(2, 1, sharex=True)
    for axes, quantity in zip(panels, ("loss", "accuracy"), strict=True):
        for column, name, colour in ((quantity, "train", style.TRAIN), (f"val_{quantity}", "val", style.VAL)):
            axes.plot(
                history["epoch"], history[column], color=colour, marker="o", markersize=4, linewidth=2, label=name
            )
        axes.axvline(best_epoch, color=style.QUIET, linestyle=style.DASHED, linewidth=1.2, zorder=0, label="best epoch")
        best = history.loc[history["epoch"] == best_epoch, f"val_{quantity}"].iloc[0]
        axes.plot(
            best_epoch, best, "o", markersize=10, fillstyle="none", color=style.VAL, markeredgewidth=2, label="best"
        )
        text = f"{best:.1%}".replace("%", " %") if quantity == "accuracy" else f"{best:.3f}"
        late = best_epoch > history["epoch"].median()
        axes.annotate(
            f"epoch {best_epoch}: {text}",
            (best_epoch, best),
            xytext=(-9 if late else 9, 12 if quantity == "loss" else -12),
            textcoords="offset points",
            ha="right" if late else "left",
            va="bottom" if quantity == "loss" else "top",
            color=style.VAL,
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
        )
    _mark_workers(panels[0], history)
    style.epoch_axes(panels, history["epoch"])
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles[:3], names[:3], loc="outside upper center", ncols=3)
    return figure


def _mark_workers(axes: Axes, history: pd.DataFrame) -> None:
    """Marks the epochs from which on another number of workers trained; no marks if it never changed."""
    if "workers" not in history or history["workers"].nunique() < 2:
        return
    # Epochs of earlier versions do not say.
    known = history.dropna(subset="workers")
    for epoch, workers in known.loc[known["workers"].ne(known["workers"].shift()), ["epoch", "workers"]].values:
        axes.axvline(epoch - 0.5, color=style.QUIET, linewidth=0.8, zorder=0)
        axes.annotate(
            plural(workers, "worker"),
            (epoch - 0.5, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -3),
            textcoords="offset points",
            va="top",
            rotation=90,
            fontsize="small",
            color=style.QUIET,
        )


@style.styled
def confusion_matrix(evaluation: Evaluation) -> Figure:
    """Draws the number of images by true and predicted class, coloured by the share of the true class."""
    counts = np.array(evaluation.confusion_matrix)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    figure, axes = style.new_axes(5.3)
    # On a linear scale mistakes of a few per cent would all be white.
    axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.3 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=9.5)
    names = [score.name for score in evaluation.per_class]
    axes.set_xticks(range(len(names)), names, rotation=50, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    style.without_frame(axes)
    return figure


@style.styled
def per_class(evaluation: Evaluation) -> Figure:
    """Draws precision and recall of each class as bars."""
    figure, axes = style.new_axes(5.4)
    scores = evaluation.per_class
    for offset, name, colour in ((-0.2, "precision", style.TRAIN), (0.2, "recall", style.VAL)):
        values = [getattr(score, name) for score in scores]
        bars = axes.barh(np.arange(len(scores)) + offset, values, 0.36, color=colour, label=name)
        axes.bar_label(bars, labels=[f"{100 * value:.1f}" for value in values], padding=3, fontsize=9)
    style.name_rows(axes, [score.name for score in scores])
    style.share_axis(axes, 1.12)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@style.styled
def worst_mistakes_grid(images: Images, probabilities: npt.NDArray[np.floating], n: int = MISTAKES) -> Figure:
    """Draws the n wrong predictions of the highest probability; ``probabilities`` are floats [images, 10]."""
    worst = worst_mistakes(images.labels, probabilities, n)
    rows = max(1, -(-len(worst) // MISTAKE_COLUMNS))
    figure, axes = style.new_axes(1.95 * rows)
    for place, index in enumerate(worst):
        top, left = 1.55 * (place // MISTAKE_COLUMNS), place % MISTAKE_COLUMNS
        axes.imshow(
            images.pixels[index], cmap="gray", vmin=0, vmax=255, extent=(left + 0.06, left + 0.94, top + 0.88, top)
        )
        predicted = int(probabilities[index].argmax())
        certainty = f"{100 * probabilities[index, predicted]:.1f} %"
        caption = f"{images.class_names[images.labels[index]]}\n→ {images.class_names[predicted]}\n{certainty}"
        axes.text(left + 0.5, top + 0.92, caption, ha="center", va="top", fontsize=9.5, linespacing=1.25)
    if len(worst) == 0:
        axes.text(MISTAKE_COLUMNS / 2, 0.7, "no mistakes", ha="center", fontsize=14)
    axes.set_xlim(0, MISTAKE_COLUMNS)
    axes.set_ylim(1.55 * rows - 0.03, -0.03)
    axes.set_aspect("equal")
    axes.set_axis_off()
    return figure
