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
    """Cleaned images, and how they are dealt to folds.

    Attributes:
        images: all that folds train on and are measured on.
        folds: positions in them.
        summary: content of ``data.json``.
    """

    images: Images
    folds: list[Fold]
    summary: dict[str, Any]


def prepare_folds(config: CrossvalConfig, note: Callable[[str], None]) -> PreparedFolds:
    """Loads and cleans the images that the configuration names, and deals the training images to folds.

    Raises:
        DataError: if there is anything wrong with the data, or too little of it for so many folds.
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
