"""What all figures share: size, letters and colours that are legible on a phone, and their way into a small PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import RLock
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

# Three of Okabe and Ito's colours, told apart with every common kind of colour blindness.
TRAIN, VAL, TEST = "#0072B2", "#D55E00", "#009E73"
# Of what stands beside the data: chance, borders, keys.
QUIET = "#555555"
DIVERGING, UNDEFINED = "RdBu_r", "#c8c8c8"

# 572 pixels wide: shown at full size on a desk, and at two thirds on a phone, where letters of 11 points stay legible.
WIDTH = 5.2
DOTS_PER_INCH = 110

SETTINGS: Any = {
    "font": {"family": "DejaVu Sans", "size": 11},  # comes with Matplotlib, so that every machine draws the same
    "axes": {"titlesize": 12, "titlelocation": "left", "axisbelow": True},
    "axes.spines": {"top": False, "right": False},
    "grid": {"color": "#dddddd"},
    "legend": {"frameon": False},
}

# Matplotlib's settings belong to the process, and figures of the data are drawn in a thread beside the training.
_settings_lock = RLock()

P = ParamSpec("P")


@contextmanager
def house_style() -> Iterator[None]:
    """Applies these settings inside a ``with``, whatever the process' own Matplotlib settings are."""
    with _settings_lock, matplotlib.rc_context():
        matplotlib.rcdefaults()
        for group, settings in SETTINGS.items():
            matplotlib.rc(group, **settings)
        yield


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Makes a function draw in the house style."""

    @wraps(draw)
    def draw_in_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with house_style():
            return draw(*args, **kwargs)

    return draw_in_style


def new_figure(height: float) -> Figure:
    """Returns an empty figure of the common width and of ``height`` inches."""
    figure = Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def without_frame(axes: Axes) -> None:
    """Takes away the lines around a picture, and its ticks but not their labels."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def to_png(figure: Figure) -> bytes:
    """Returns the figure as PNG with a palette of 256 colours, a third of the size of full colour."""
    canvas = FigureCanvasAgg(figure)
    with house_style():  # Matplotlib makes some of the ticks only now
        canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    png = io.BytesIO()
    drawn.quantize(256, dither=Image.Dither.NONE).save(png, "PNG", optimize=True)
    return png.getvalue()
