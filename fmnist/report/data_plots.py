"""The study's figures of the data: class balance, examples of images, and pixel correlations."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

from fmnist.data import CLASSES, SIDE, Images
from fmnist.data.preparation import PreparedData
from fmnist.report import style

PIXELS = SIDE * SIDE
GRID_COLUMNS = 10
GAP = 2
# 4096 rows of 785 float32 are 13 MB; larger blocks gain nothing.
BLOCK = 4096
# Steps of .04: finer ones look alike, and fewer colours than a PNG's palette keep the file small and exact.
COLOURS = 51


def data_plots(splits: Mapping[str, Images]) -> dict[str, bytes]:
    """Draws the four figures of the data as PNG: class_balance, image_grid, pixel_correlation and label_correlation.

    Args:
        splits: the images by split, such as ``{"train": …, "val": …, "test": …}``. Examples and correlations are of
            the first only: nobody looks at the others before the end.
    """
    first = next(iter(splits.values()))
    matrix = correlations(first)
    return {
        "class_balance": style.to_png(class_balance(splits)),
        "image_grid": style.to_png(image_grid(first)),
        "pixel_correlation": style.to_png(pixel_correlation(matrix)),
        "label_correlation": style.to_png(label_correlation(matrix)),
    }


def draw_data(data: PreparedData) -> dict[str, bytes]:
    """Draws the figures of the training, validation and test images, as `data_plots` returns them."""
    return data_plots({"train": data.train, "val": data.val, "test": data.test})


def correlations(images: Images) -> npt.NDArray[np.float32]:
    """Returns Pearson's correlation of every pair of pixels, and of each pixel with the label.

    Float32 [785, 785], symmetric, -1 to 1: the 784 pixels row by row, then the label as a number. NaN where a pixel or
    the label has the same value in all images.
    """
    pixels = images.pixels.reshape(len(images), PIXELS)
    mean = np.append(pixels.mean(axis=0), images.labels.mean()).astype(np.float32)
    products = np.zeros((PIXELS + 1, PIXELS + 1))
    for start in range(0, len(images), BLOCK):
        block = np.empty((len(pixels[start : start + BLOCK]), PIXELS + 1), np.float32)
        block[:, :PIXELS] = pixels[start : start + BLOCK]
        block[:, PIXELS] = images.labels[start : start + BLOCK]
        block -= mean
        products += block.T @ block
    deviation = np.sqrt(np.diag(products))
    deviation[deviation == 0] = np.nan
    return (products / np.outer(deviation, deviation)).clip(-1, 1).astype(np.float32)


@style.styled
def class_balance(splits: Mapping[str, Images]) -> Figure:
    """Draws the number of images by class and split."""
    figure, axes = style.new_axes(6.4)
    thickness = 0.84 / len(splits)
    largest = 1
    for row, ((name, images), colour) in enumerate(
        zip(splits.items(), (style.TRAIN, style.VAL, style.TEST), strict=False)
    ):
        counts = np.bincount(images.labels, minlength=CLASSES)
        largest = max(largest, *counts.tolist())
        places = np.arange(CLASSES) + (row - (len(splits) - 1) / 2) * thickness
        bars = axes.barh(places, counts, thickness * 0.9, color=colour, label=f"{name} ({len(images):,})")
        axes.bar_label(bars, labels=[f"{count:,}" for count in counts], padding=3, fontsize=8.5)
    axes.set_xlim(0, largest * 1.16)
    axes.xaxis.set_major_locator(MultipleLocator(_round_step(largest)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("images")
    axes.grid(axis="x")
    style.name_rows(axes, next(iter(splits.values())).class_names)
    figure.legend(loc="outside upper center", ncols=3, columnspacing=1.2, handlelength=1.2)
    return figure


@style.styled
def image_grid(images: Images) -> Figure:
    """Draws the first ten images of each class, one row per class."""
    step = SIDE + GAP
    mosaic = np.full((CLASSES * step - GAP, GRID_COLUMNS * step - GAP), 255, np.uint8)
    for label in range(CLASSES):
        for column, index in enumerate(np.flatnonzero(images.labels == label)[:GRID_COLUMNS]):
            top, left = label * step, column * step
            mosaic[top : top + SIDE, left : left + SIDE] = images.pixels[index]
    figure, axes = style.new_axes(4.3)
    axes.imshow(mosaic, cmap="gray", vmin=0, vmax=255)
    axes.set_yticks(np.arange(CLASSES) * step + SIDE / 2, images.class_names)
    axes.set_xticks([])
    style.without_frame(axes)
    axes.set_anchor("E")
    return figure


@style.styled
def pixel_correlation(matrix: npt.NDArray[np.float32]) -> Figure:
    """Draws the correlation of the 784 pixels, from the result of `correlations`."""
    figure, axes = style.new_axes(5.9)
    _draw_correlation(figure, axes, matrix[:PIXELS, :PIXELS], "correlation", limit=1)
    for axis in (axes.xaxis, axes.yaxis):
        # A tick every 28 pixels, which is a row of the image; a label at every fourth keeps them legible.
        axis.set_major_locator(MultipleLocator(4 * SIDE))
        axis.set_minor_locator(MultipleLocator(SIDE))
        axis.set_major_formatter(lambda pixel, _: f"{pixel / SIDE:.0f}")
    axes.set_xlabel("pixel, by row of the image (28 pixels a row)")
    axes.set_ylabel("pixel, by row of the image")
    return figure


@style.styled
def label_correlation(matrix: npt.NDArray[np.float32]) -> Figure:
    """Draws each pixel's correlation with the label as an image, from the result of `correlations`."""
    values = matrix[PIXELS, :PIXELS].reshape(SIDE, SIDE)
    figure, axes = style.new_axes(5.9)
    limit = max(np.abs(values[~np.isnan(values)]).tolist(), default=1.0)
    _draw_correlation(figure, axes, values, "correlation with the label", limit)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(4))
    axes.set_xlabel("column")
    axes.set_ylabel("row")
    return figure


def _draw_correlation(figure: Figure, axes: Axes, values: npt.NDArray[np.float32], label: str, limit: float) -> None:
    """Draws values as colours from -limit to limit, with a bar of these colours above."""
    colours = matplotlib.colormaps[style.DIVERGING].resampled(COLOURS).with_extremes(bad=style.UNDEFINED)
    shown = axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=-limit, vmax=limit, interpolation_stage="data")
    bar = figure.colorbar(
        shown, ax=axes, label=label, location="top", aspect=30, shrink=0.8, pad=0.03, ticks=MaxNLocator(5)
    )
    bar.outline.set_visible(False)


def _round_step(largest: int) -> float:
    """Returns a step of 1, 2 or 5 times a power of ten that gives about four ticks up to ``largest``."""
    power = 10 ** np.floor(np.log10(max(largest / 4, 1)))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= largest / 4))
