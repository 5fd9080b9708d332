"""Draws the architecture picture of README and docs: `make pictures`, or `architecture_picture.py FILE.svg`."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

WIDTH, HEIGHT = 960, 560
INK, GREY = "#1f2937", "#4b5563"
ENTRY, DRIVER, MEMORY, COMPUTE, STORE = "#e5e7eb", "#c7d2fe", "#fde68a", "#bbf7d0", "#fecaca"


@dataclass(frozen=True)
class Box:
    """A box with a title and lines below it; x and y are those of its top left corner, in points."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    title: str
    lines: str = ""


BOXES = (
    Box(20, 16, 215, 62, ENTRY, "Laptop", "fmnist train"),
    Box(255, 16, 215, 62, ENTRY, "Ray cluster", "ray job submit … jobs/train.py"),
    Box(490, 16, 215, 62, ENTRY, "Kubernetes", "kubectl apply -k k8s/jobs/…"),
    Box(725, 16, 215, 62, ENTRY, "Python", 'fmnist.cli.main(["train", …])'),
    Box(20, 126, 215, 88, ENTRY, "Images", "Fashion-MNIST or your own:\nIDX, CSV, s3://"),
    Box(295, 126, 645, 88, DRIVER, "Driver: train, tune, crossval, transfer or pipeline",
        "checks every setting, cleans and splits the images once,\nfinds what an earlier attempt left in the store"),
    Box(295, 252, 645, 58, MEMORY, "Ray object store",
        "uint8 images, once per node: processes map them without a copy"),
    Box(295, 348, 200, 92, COMPUTE, "Ray Train workers",
        "data-parallel training:\nthe same global batch,\nwhatever their number"),
    Box(517, 348, 200, 92, COMPUTE, "Ray Tune trials", "Hyperband or ASHA\nover a keras-tuner\nsearch space"),
    Box(740, 348, 200, 92, COMPUTE, "Ray tasks", "folds,\nfrozen features,\npredictions"),
    Box(20, 478, 920, 66, STORE, "Artifact store: a folder or s3://bucket/prefix",
        "checkpoints · model.keras · metrics.json · history.csv · report.html · manifest.json with sha256 sums"),
)  # fmt: skip


def box(axes: Axes, box: Box) -> None:
    corners = FancyBboxPatch(
        (box.x, box.y), box.width, box.height, boxstyle="round,pad=0,rounding_size=8", facecolor=box.colour, linewidth=0
    )
    axes.add_patch(corners)
    middle = box.x + box.width / 2
    axes.text(middle, box.y + 12, box.title, ha="center", va="top", fontsize=13, color=INK, weight="bold")
    axes.text(middle, box.y + 35, box.lines, ha="center", va="top", fontsize=11.5, color=INK, linespacing=1.35)


def arrow(axes: Axes, *points: tuple[float, float], label: str = "", at: tuple[float, float] = (0, 0)) -> None:
    """Draws a line through the points that ends in an arrow head, and a label whose left middle is `at`."""
    xs, ys = zip(*points[:-1], strict=True)
    axes.plot(xs, ys, color=GREY, linewidth=1.6, solid_capstyle="round", solid_joinstyle="round")
    style = {"arrowstyle": "-|>", "color": GREY, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 1, "mutation_scale": 13}
    axes.annotate("", points[-1], points[-2], arrowprops=style)
    axes.text(*at, label, ha="left", va="center", fontsize=11, color=GREY, style="italic")


def draw(path: str) -> None:
    """Writes the picture as SVG, with text as outlines: it looks the same wherever it is shown."""
    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "fmnist", "font.family": "DejaVu Sans"})
    figure = plt.figure(figsize=(WIDTH / 72, HEIGHT / 72), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.axis("off")
    for each in BOXES:
        box(axes, each)
    # The entries meet in one line above the driver.
    axes.plot([128, 832], [100, 100], color=GREY, linewidth=1.6)
    for x in (128, 362, 597, 832):
        axes.plot([x, x], [79, 100], color=GREY, linewidth=1.6)
    arrow(axes, (617, 100), (617, 125))
    arrow(axes, (235, 170), (294, 170))
    arrow(axes, (617, 214), (617, 251), label="put once", at=(626, 232))
    for x in (395, 617, 840):
        arrow(axes, (x, 310), (x, 347))
        arrow(axes, (x, 440), (x, 477))
    axes.text(404, 459, "after every epoch", ha="left", va="center", fontsize=11, color=GREY, style="italic")
    arrow(
        axes, (128, 478), (128, 360), (265, 360), (265, 196), (294, 196),
        label="the same command\nresumes from\nthe last epoch", at=(138, 410),
    )  # fmt: skip
    figure.savefig(path, format="svg", metadata={"Date": None, "Title": "Architecture of fmnist"})


if __name__ == "__main__":
    draw(sys.argv[1])
