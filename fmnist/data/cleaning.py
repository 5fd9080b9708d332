"""Removal of exact duplicates, as in the study, with the counts for the report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmnist.data.types import SIDE, Images


@dataclass(frozen=True)
class CleaningCounts:
    """Counts of cleaning: ``kept`` is ``rows`` less ``duplicates``."""

    rows: int
    nulls: int
    duplicates: int
    kept: int


def count_overlap(train: Images, test: Images) -> int:
    """Returns how many test images equal a training image in every pixel, whatever their labels."""
    return int(equal_to_any(test, train).sum())


def equal_to_any(images: Images, others: Images) -> NDArray[np.bool_]:
    """Returns for each image whether it equals one of the others in every pixel, whatever their labels: [n]."""
    known = {image.tobytes() for image in others.pixels}
    return np.array([image.tobytes() in known for image in images.pixels], bool)


def clean(images: Images) -> tuple[Images, CleaningCounts]:
    """Drops images that equal an earlier one in every pixel and the label; the order of the others stays.

    Returns:
        The images kept (the same object if that is all of them), and the counts.
    """
    table = np.column_stack([images.labels, images.pixels.reshape(len(images), SIDE * SIDE)])
    # Hashing a row's bytes is what makes this fast: pandas' own drop_duplicates looks at 785 columns one by one.
    repeated = pd.Series([row.tobytes() for row in table], dtype=object).duplicated(keep="first").to_numpy()
    counts = CleaningCounts(
        rows=len(images),
        # The readers refuse empty cells, and bytes cannot hold one; counted all the same, as the study reports it.
        nulls=int(np.count_nonzero(pd.isna(table))),
        duplicates=int(repeated.sum()),
        kept=len(images) - int(repeated.sum()),
    )
    return (images.select(~repeated) if counts.duplicates else images), counts
