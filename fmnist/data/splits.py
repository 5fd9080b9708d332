"""Splits of the training images: a sample, a validation set, and folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmnist.data.types import Images
from fmnist.errors import DataError


def take(images: Images, count: int | None, seed: int) -> Images:
    """Returns the first ``count`` images after shuffling by ``seed``; with None, or more than there are, all of them.

    A larger count with the same seed contains every image of a smaller one.

    Raises:
        DataError: if ``count`` is below 1.
    """
    if count is None:
        return images
    if count < 1:
        raise DataError(f"limit: found {count}, expected at least 1 training image")
    return images.select(np.random.default_rng(seed).permutation(len(images))[:count])


def split(images: Images, *, val_fraction: float = 0.2, seed: int) -> tuple[Images, Images]:
    """Splits at random into train and val: together all of the images, none twice, each in a shuffled order.

    Each class has, within less than one image, the share of val that all images have. The study's 59,957 images give
    47,965 and 11,992.

    Args:
        images: what to split.
        val_fraction: share of val, above 0 and below 1; the count is rounded up.
        seed: the same images and seed give the same split.

    Raises:
        DataError: if ``val_fraction`` is out of range, a class has a single image, or either part would have
            fewer images than there are classes.
    """
    train_positions, val_positions = _split(images.labels, np.arange(len(images)), val_fraction, seed)
    return images.select(train_positions), images.select(val_positions)


@dataclass(frozen=True, eq=False)
class Fold:
    """One fold of a cross-validation, numbered from 1: int32 positions of three disjoint sets of all images.

    Attributes:
        train: for training, in a shuffled order.
        val: for early stopping and the choice of the best epoch.
        held_out: those that the result is measured on; not used otherwise.
    """

    number: int
    train: NDArray[np.int32]
    val: NDArray[np.int32]
    held_out: NDArray[np.int32]


def folds(images: Images, count: int, *, val_fraction: float, seed: int) -> list[Fold]:
    """Assigns shuffled images to folds, stratified by class.

    Each image is held out in exactly one fold. The validation images of a fold are split from the rest: with the
    held-out ones, as in the study, the best epoch would be chosen by the images that the result is measured on.

    Args:
        images: at least ``count`` of every class that they have.
        count: how many folds, 2 or more.
        val_fraction: share of the images outside the held-out part that are for validation, above 0 and below 1.
        seed: the same images and seed give the same folds.

    Raises:
        DataError: if a class has too few images for the folds, or for both parts of what is not held out.
    """
    from sklearn.model_selection import StratifiedKFold

    if count < 2:
        raise DataError(f"folds: found {count}, expected at least 2")
    for label, found in enumerate(images.class_counts()):
        if 0 < found < count:
            expected = f"expected at least {count}, one for every fold"
            raise DataError(f"{count} folds of {len(images):,} images: found {found} of label {label}, {expected}")
    if len(images) < count:
        raise DataError(f"{count} folds: found {len(images)} images, expected at least {count}")
    parts = StratifiedKFold(count, shuffle=True, random_state=seed).split(np.zeros(len(images)), images.labels)
    assigned = []
    for number, (rest, held_out) in enumerate(parts, start=1):
        train, val = _split(images.labels, rest, val_fraction, seed)
        assigned.append(Fold(number, *(positions.astype(np.int32) for positions in (train, val, held_out))))
    return assigned


def _split(
    labels: NDArray[np.uint8], positions: NDArray[np.integer], val_fraction: float, seed: int
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Splits positions at random into those of train and of val, with the same share of every class."""
    # Imported here: workers, which never split, do not need it.
    from sklearn.model_selection import train_test_split

    if not 0 < val_fraction < 1:
        raise DataError(f"val_fraction: found {val_fraction}, expected above 0 and below 1")
    counts = np.bincount(labels[positions], minlength=1).tolist()
    classes = sum(count > 0 for count in counts)
    what = f"split of {len(positions):,} images"
    if 1 in counts:
        raise DataError(f"{what}: found 1 image of label {counts.index(1)}, expected at least 2 of each")
    count = int(np.ceil(val_fraction * len(positions)))
    if not len(positions) or not classes <= count <= len(positions) - classes:
        found = f"found {len(positions) - count} for train and {count} for val"
        raise DataError(f"{what}: {found}, expected at least {classes} in each, one for every class")
    train, val = train_test_split(positions, test_size=val_fraction, stratify=labels[positions], random_state=seed)
    return train, val
