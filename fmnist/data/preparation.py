"""Preparation of a job's images: loaded, cleaned and split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from fmnist import data
from fmnist.config import JobConfig
from fmnist.data import CleaningCounts, DataSource, Images


@dataclass(frozen=True)
class PreparedData:
    """Cleaned and split images, the source's test images unchanged, and the content of ``data.json``."""

    train: Images
    val: Images
    test: Images
    summary: dict[str, Any]


def prepare(config: JobConfig, note: Callable[[str], None]) -> PreparedData:
    """Loads, cleans and splits the images that a job's configuration names.

    Raises:
        DataError: if the data is missing or malformed.
    """
    loaded = load_cleaned(config, note)
    train, val = data.split(loaded.train, val_fraction=config.val_fraction, seed=config.seed)
    summary = loaded.summary(config, {"train": train, "val": val, "test": loaded.test})
    counts = f"{len(train):,} training, {len(val):,} validation, {len(loaded.test):,} test images"
    note(f"data {config.data}: {counts}; {loaded.dropped}")
    return PreparedData(train, val, loaded.test, summary)


@dataclass(frozen=True)
class Loaded:
    """A source's images: training images cleaned and limited, test images unchanged."""

    train: Images
    test: Images
    source: DataSource
    train_counts: CleaningCounts
    test_counts: CleaningCounts

    @property
    def dropped(self) -> str:
        return f"{self.train_counts.nulls} nulls, {self.train_counts.duplicates} duplicates dropped"

    def summary(self, config: JobConfig, sets: Mapping[str, Images], folds: int | None = None) -> dict[str, Any]:
        """Returns the content of a run's ``data.json``, ready for JSON.

        Args:
            config: the settings by which the cleaned training images became the sets.
            sets: the images that the job works on, by name; ``test`` is the source's own.
            folds: of a cross-validation.
        """
        sizes = {name: len(images) for name, images in sets.items() if name != "test"}
        split = {"seed": config.seed, "val_fraction": config.val_fraction, **({"folds": folds} if folds else {})}
        return {
            **asdict(self.source),
            "train": asdict(self.train_counts),
            "test": asdict(self.test_counts),
            "limit": config.limit,
            "split": sizes | split,
            "class_counts": {name: images.class_counts() for name, images in sets.items()},
        }


def load_cleaned(config: JobConfig, note: Callable[[str], None]) -> Loaded:
    """Loads the images that a job's configuration names; cleans and limits those for training.

    Raises:
        DataError: if the data is missing or malformed.
    """
    source = data.load(config.data, cache=data.default_cache(), progress=note)
    cleaned, train_counts = data.clean(source.train)
    # Test images are counted like the others but stay as published, so that accuracies compare.
    test_counts = replace(data.clean(source.test)[1], kept=len(source.test))
    train = data.take(cleaned, config.limit, config.seed)
    return Loaded(train, source.test, source.source, train_counts, test_counts)
