"""The style of all figures: size, fonts and colours that are legible on a phone, and conversion to a small PNG."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

# Three of Okabe and Ito's colours, distinguishable with every common kind of colour blindness.
TRAIN, VAL, TEST = "#0072B2", "#D55E00", "#009E73"
# Chance, borders and keys.
QUIET = "#555555"
DASHED: Any = (0, (4, 3))
DIVERGING, UNDEFINED = "RdBu_r", "#c8c8c8"

# 572 pixels wide: full size on a desktop, two thirds on a phone, where 11 points stay legible.
WIDTH = 5.2
DOTS_PER_INCH = 110

SETTINGS: Any = {
    "font": {"family": "DejaVu Sans", "size": 11},  # part of Matplotlib: every machine draws the same
    "axes": {"titlesize": 12, "titlelocation": "left", "axisbelow": True},
    "axes.spines": {"top": False, "right": False},
    "grid": {"color": "#dddddd"},
    "legend": {"frameon": False},
    # A name is text, whatever it has: with a $ in it Matplotlib would read it as a formula.
    "text": {"parse_math": False},
}

# Matplotlib's settings are global, and a thread draws the figures of the data while a job trains.
_settings_lock = RLock()


@contextmanager
def house_style() -> Iterator[None]:
    """Applies these settings in the block, in place of the process' own Matplotlib settings."""
    with _settings_lock, matplotlib.rc_context():
        matplotlib.rcdefaults()
        for group, settings in SETTINGS.items():
            matplotlib.rc(group, **settings)
        yield


# Decorates a function that draws: it draws in the house style.
styled = house_style()


def new_figure(height: float) -> Figure:
    """Returns an empty figure of the common width and of ``height`` inches."""
    figure = Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_axes(height: float) -> tuple[Figure, Axes]:
    """Returns an empty figure of ``height`` inches, and its only axes."""
    figure = new_figure(height)
    return figure, figure.add_subplot()


def name_rows(axes: Axes, names: Sequence[str], **text: Any) -> None:
    """Labels the rows of a horizontal chart, which are at 0, 1, 2 …, the first one at the top."""
    axes.set_yticks(range(len(names)), names, **text)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def share_axis(axes: Axes, end: float) -> None:
    """Makes x an axis of shares in per cent, from 0 to ``end``, which is 1 or a little more."""
    axes.set_xlim(0, end)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="x")


def epoch_axes(panels: Sequence[Axes], epochs: pd.Series) -> None:
    """Completes a panel of loss above one of accuracy, which share their axis of epochs."""
    for axes, title in zip(panels, ("Loss", "Accuracy"), strict=True):
        axes.set_title(title)
        axes.grid()
    accuracy = panels[1]
    accuracy.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    accuracy.set_xlabel("epoch")
    accuracy.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    accuracy.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)


def without_frame(axes: Axes) -> None:
    """Removes the lines around a picture, and its ticks but not their labels."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def to_png(figure: Figure) -> bytes:
    """Returns the figure as a PNG of 256 colours, a third of the size of full colour."""
    canvas = FigureCanvasAgg(figure)
    with house_style():  # Matplotlib creates some of the ticks here
        canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    png = io.BytesIO()
    drawn.quantize(256, dither=Image.Dither.NONE).save(png, "PNG", optimize=True)
    return png.getvalue()
