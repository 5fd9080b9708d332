"""The data summary of a run, written as its ``data.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fmnist.data.cleaning import CleaningCounts
from fmnist.data.types import DataSource, Images


@dataclass(frozen=True)
class SplitSettings:
    """How training images were sampled and split: the arguments of ``take`` and ``split``."""

    seed: int
    val_fraction: float
    limit: int | None


def summary(
    source: DataSource,
    *,
    train_cleaning: CleaningCounts,
    test_cleaning: CleaningCounts,
    settings: SplitSettings,
    train: Images,
    val: Images,
    test: Images,
) -> dict[str, Any]:
    """Returns what a run's ``data.json`` holds, JSON-ready.

    Args:
        source: where the data came from.
        train_cleaning: counts over the source's training images.
        test_cleaning: counts over its test images.
        settings: how the cleaned training images became train and val.
        train: images trained on.
        val: images validated on.
        test: images tested on.
    """
    return {
        **asdict(source),
        "train": asdict(train_cleaning),
        "test": asdict(test_cleaning),
        "limit": settings.limit,
        "split": {
            "train": len(train),
            "val": len(val),
            "seed": settings.seed,
            "val_fraction": settings.val_fraction,
        },
        "class_counts": {"train": train.class_counts(), "val": val.class_counts(), "test": test.class_counts()},
    }
