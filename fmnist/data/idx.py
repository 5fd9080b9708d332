"""Reading IDX, the format of the published files: a big-endian header, then bytes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fmnist.data.files import Check
from fmnist.data.types import CLASS_NAMES, SIDE, Images
from fmnist.errors import DataError

_IMAGES_MAGIC = 2051
_LABELS_MAGIC = 2049


def promised_size(name: str) -> Check:
    """Returns a function that returns the size in bytes that the header of an IDX file promises.

    ``name`` is the file's canonical name, which says whether it holds images or labels. Errors are those of its header.
    """
    magic, what, dimensions = (_LABELS_MAGIC, "labels", 1) if "labels" in name else (_IMAGES_MAGIC, "images", 3)

    def promised(head: bytes, shown: str) -> int:
        return 4 * (1 + dimensions) + math.prod(_header(head, shown, magic, what, dimensions))

    return promised


def parse_images(content: bytes, shown: str) -> NDArray[np.uint8]:
    """Reads an IDX file of images.

    Args:
        content: the decompressed file.
        shown: what messages call the file.

    Returns:
        uint8 [n, 28, 28], a read-only view of ``content``.

    Raises:
        DataError: if it is not an IDX file of at least one 28x28 image, or is shorter or longer than its header says.
    """
    count, height, width = _header(content, shown, _IMAGES_MAGIC, "images", dimensions=3)
    if (height, width) != (SIDE, SIDE):
        raise DataError(f"{shown}: images of {height}x{width} pixels, expected {SIDE}x{SIDE}")
    return _payload(content, shown, "images", (count, SIDE, SIDE))


def parse_labels(content: bytes, shown: str) -> NDArray[np.uint8]:
    """Reads an IDX file of labels as uint8 [n], a read-only view of ``content``.

    Arguments and errors as in ``parse_images``; a `DataError` also if a label is above 9.
    """
    labels = _payload(content, shown, "labels", _header(content, shown, _LABELS_MAGIC, "labels", dimensions=1))
    outside = np.flatnonzero(labels >= len(CLASS_NAMES))
    if outside.size:
        row = int(outside[0])
        raise DataError(f"{shown}: row {row + 1}: found label {labels[row]}, expected an integer from 0 to 9")
    return labels


def pair(pixels: NDArray[np.uint8], labels: NDArray[np.uint8], shown_images: str, shown_labels: str) -> Images:
    """Puts images and their labels together; a `DataError` if there are not as many labels as images."""
    if len(pixels) != len(labels):
        expected = f"expected {len(pixels):,} as {shown_images} has images"
        raise DataError(f"{shown_labels}: found {len(labels):,} labels, {expected}")
    return Images(pixels, labels)


def _header(content: bytes, shown: str, magic: int, what: str, dimensions: int) -> tuple[int, ...]:
    size = 4 * (1 + dimensions)
    if len(content) < size:
        raise DataError(f"{shown}: truncated IDX file: found {len(content)} bytes, expected a header of {size}")
    found, *shape = (int(number) for number in np.frombuffer(content, ">u4", count=1 + dimensions))
    if found != magic:
        raise DataError(f"{shown}: wrong magic number: found {found}, expected {magic} (IDX {what})")
    if shape[0] == 0:
        raise DataError(f"{shown}: holds no {what}")
    return tuple(shape)


def _payload(content: bytes, shown: str, what: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    start = 4 * (1 + len(shape))
    expected = math.prod(shape)
    found = len(content) - start
    if found != expected:
        problem = "truncated IDX file" if found < expected else "bytes after the end"
        raise DataError(f"{shown}: {problem}: found {found:,} bytes of {what}, expected {expected:,} for {shape[0]:,}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
