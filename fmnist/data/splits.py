"""Dividing training images: a sample of them, and what is held out to validate on."""

from __future__ import annotations

import numpy as np

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
    """Splits at random into train and val, so that every class has the same share of both.

    Args:
        images: what to split; the study's 59,957 give 47,965 and 11,992.
        val_fraction: share of val, above 0 and below 1; the count is rounded up.
        seed: the same images and seed give the same split.

    Returns:
        Train and val: together all of the images, none twice, each in a shuffled order.

    Raises:
        DataError: if ``val_fraction`` is out of range, a class has a single image, or either part would have
            fewer images than there are classes.
    """
    # Imported here because workers, which never split, would each pay for it.
    from sklearn.model_selection import train_test_split

    if not 0 < val_fraction < 1:
        raise DataError(f"val_fraction: found {val_fraction}, expected above 0 and below 1")
    counts = images.class_counts()
    present = sum(count > 0 for count in counts)
    if 1 in counts:
        raise DataError(
            f"split of {len(images):,} images: found 1 image of label {counts.index(1)}, expected at least 2 of each"
        )
    val = int(np.ceil(val_fraction * len(images)))
    if not len(images) or not present <= val <= len(images) - present:
        raise DataError(
            f"split of {len(images):,} images: found {len(images) - val} for train and {val} for val, "
            f"expected at least {present} in each, one for every class"
        )
    train_positions, val_positions = train_test_split(
        np.arange(len(images)), test_size=val_fraction, stratify=images.labels, random_state=seed
    )
    return images.select(train_positions), images.select(val_positions)
