"""From a data source to the folds of a cross-validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fmnist import data
from fmnist.data import Fold, Images
from fmnist.data.preparation import load_cleaned
from fmnist.workflows.crossval.config import CrossvalConfig


@dataclass(frozen=True)
class PreparedFolds:
    """Cleaned images and their folds.

    Attributes:
        images: all images that folds train on and are measured on.
        folds: positions of each fold's images.
        summary: content of ``data.json``.
    """

    images: Images
    folds: list[Fold]
    summary: dict[str, Any]


def prepare_folds(config: CrossvalConfig, note: Callable[[str], None]) -> PreparedFolds:
    """Loads and cleans the images that the configuration names, and splits the training images into folds.

    Raises:
        DataError: if the data is wrong, or has too few images for the number of folds.
    """
    loaded = load_cleaned(config, note)
    folds = data.folds(loaded.train, config.folds, val_fraction=config.val_fraction, seed=config.seed)
    summary = loaded.summary(config, {"train": loaded.train, "test": loaded.test}, folds=len(folds))
    one = folds[0]
    note(
        f"data {config.data}: {len(loaded.train):,} images in {len(folds)} folds; in fold 1 {len(one.train):,} to "
        f"train on, {len(one.val):,} to stop by, {len(one.held_out):,} held out; {loaded.dropped}"
    )
    return PreparedFolds(loaded.train, folds, summary)
