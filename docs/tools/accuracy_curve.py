"""Draws accuracy over time from figures of benchmarks/time_to_accuracy.py: `accuracy_curve.py FILE.json FILE.svg`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fmnist.report import style

TITLES = {"lenet5-keras": "LeNet-5, Keras fit", "lenet5-keras-no-xla": "LeNet-5, Keras fit, without XLA"}
COLOURS = (style.VAL, style.TRAIN, style.TEST, "#CC79A7", "#E69F00", "#56B4E9")


def main(source: str, picture: str) -> None:
    figures = json.loads(Path(source).read_text())
    with style.house_style():
        # The same file from the same figures.
        matplotlib.rcParams["svg.hashsalt"] = "fmnist"
        draw(figures).savefig(picture, format="svg", metadata={"Date": None})


def draw(figures: dict[str, Any]) -> Figure:
    """Returns a figure of the mean test accuracy after each epoch, over the seconds of training in units of K."""
    figure, axes = style.new_axes(3.6)
    # LeNet-5 that was trained on fewer images, for K only, is no peer.
    whole = figures["unit_images"] == figures["images"]
    rows = [row for row in figures["rows"] if whole or row["way"] not in TITLES]
    for row, colour in zip(rows, COLOURS, strict=False):
        trainings, epochs = row["trainings"], row["epochs"]
        each = sum(one["seconds"] for one in trainings) / len(trainings) / epochs / figures["unit_seconds"]
        accuracies = [sum(of_epoch) / len(trainings) for of_epoch in zip(*(t["curve"] for t in trainings), strict=True)]
        peer = row["way"].endswith(("-keras", "-no-xla"))
        axes.plot(
            [each * epoch for epoch in range(1, epochs + 1)],
            accuracies,
            marker="o",
            markersize=3.5,
            color=colour,
            linestyle=style.DASHED if peer else "-",
            label=TITLES.get(row["way"], row["way"].replace("-keras", ", Keras fit")),
        )
    axes.set_xlabel("training time in K, one epoch of LeNet-5 in Keras fit")
    axes.set_title("Accuracy on the test images")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlim(left=0)
    axes.grid()
    figure.legend(loc="outside lower center", ncols=3)
    return figure


if __name__ == "__main__":
    main(*sys.argv[1:])
