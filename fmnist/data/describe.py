"""The data summary of a run, written as its ``data.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fmnist.data.cleaning import CleaningCounts
from fmnist.data.types import DataSource, Images


@dataclass(frozen=True)
class SplitSettings:
    """How training images were sampled and split: the arguments of ``take``, and of ``split`` or ``folds``."""

    seed: int
    val_fraction: float
    limit: int | None
    folds: int | None = None


def summary(
    source: DataSource,
    *,
    train_cleaning: CleaningCounts,
    test_cleaning: CleaningCounts,
    settings: SplitSettings,
    sets: Mapping[str, Images],
) -> dict[str, Any]:
    """Returns the content of a run's ``data.json``, ready for JSON.

    Args:
        source: where the data came from.
        train_cleaning: counts over the source's training images.
        test_cleaning: counts over its test images.
        settings: how the cleaned training images became the sets.
        sets: the images that the job works on, by name; ``test`` is the source's own.
    """
    split = asdict(settings)
    limit = split.pop("limit")
    if settings.folds is None:
        del split["folds"]
    return {
        **asdict(source),
        "train": asdict(train_cleaning),
        "test": asdict(test_cleaning),
        "limit": limit,
        "split": {name: len(images) for name, images in sets.items() if name != "test"} | split,
        "class_counts": {name: images.class_counts() for name, images in sets.items()},
    }
