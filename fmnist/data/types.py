"""Types of a data set, and the published one's classes, file names and checksums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SIDE = 28
"""Pixels along each side of an image."""

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""Names of the labels 0 to 9 of Fashion-MNIST."""
CLASSES = len(CLASS_NAMES)
LABELS = tuple(map(str, range(CLASSES)))
"""Names of the classes of other data, which come without names."""

OFFICIAL_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Canonical IDX file names in reading order, with the published sums of the decompressed content."""


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images.

    Attributes:
        pixels: uint8 [n, 28, 28], 0 (background) to 255. May be read-only.
        labels: uint8 [n], 0 to 9, positions in ``class_names``. May be read-only.
        class_names: ten names.

    Raises:
        ValueError: if the arrays have other shapes or types. That is a bug of the caller, not bad input.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    class_names: tuple[str, ...] = CLASS_NAMES

    def __post_init__(self) -> None:
        if self.pixels.shape != (len(self.labels), SIDE, SIDE) or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels are {self.pixels.dtype} {self.pixels.shape}, expected uint8 [n, 28, 28]")
        if self.labels.ndim != 1 or self.labels.dtype != np.uint8:
            raise ValueError(f"labels are {self.labels.dtype} {self.labels.shape}, expected uint8 [n]")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"<{len(self):,} images of {SIDE}x{SIDE} pixels>"

    @property
    def inputs(self) -> NDArray[np.uint8]:
        """The pixels, as what a model is fed with."""
        return self.pixels

    def select(self, positions: NDArray[Any]) -> Images:
        """Returns a copy of the images at these positions (integers, in the order wanted, or a boolean mask)."""
        return Images(self.pixels[positions], self.labels[positions], self.class_names)

    def class_counts(self) -> list[int]:
        """Returns how many images each of the ten classes has."""
        return np.bincount(self.labels, minlength=CLASSES).tolist()


@dataclass(frozen=True)
class DataSource:
    """Where a data set came from.

    Attributes:
        location: as the user gave it: ``auto``, a path, or an ``s3://`` address.
        format: how it was stored.
        sha256: sum of each file's decompressed content, by file name (the canonical one for IDX; without ``.gz``).
        official: whether all four sums are the published ones.
        class_names: of the labels 0 to 9.
    """

    location: str
    format: Literal["idx", "csv"]
    sha256: dict[str, str]
    official: bool
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class TableHead:
    """The first five images as the rows of a table: label, first and last four of 784 pixels, as pandas shows them."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, images: Images) -> TableHead:
        """Returns the head of a table of images, n at least 1."""
        shown = (*range(4), *range(SIDE * SIDE - 4, SIDE * SIDE))
        pixels = images.pixels[:5].reshape(-1, SIDE * SIDE)[:, shown].tolist()
        rows = tuple((label, *row) for label, row in zip(images.labels[:5].tolist(), pixels, strict=True))
        return cls(("label", *(f"pixel{place + 1}" for place in shown)), rows)


@dataclass(frozen=True)
class PixelStatistics:
    """How the pixels of images are: 0 to 255.

    Attributes:
        border: median of the outermost ring of pixels, which is what the clothing lies on.
        mean: of all pixels.
        low, high: the smallest and the largest value.
    """

    border: float
    mean: float
    low: int
    high: int

    @property
    def light_background(self) -> bool:
        """Whether the clothing is dark on light, other than Fashion-MNIST's."""
        return self.border > 127

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> PixelStatistics:
        """Returns the statistics of images, uint8 [n, 28, 28], n at least 1."""
        ring = np.ones((SIDE, SIDE), bool)
        ring[1:-1, 1:-1] = False
        low, high = int(pixels.min()), int(pixels.max())
        return cls(float(np.median(pixels[:, ring])), round(float(pixels.mean()), 4), low, high)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test images, as the source has them: neither cleaned nor split."""

    train: Images
    test: Images
    source: DataSource
