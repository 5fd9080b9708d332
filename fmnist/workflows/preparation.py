"""From a data source to the sets of images that a job works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fmnist import data
from fmnist.config import CrossvalConfig, JobConfig
from fmnist.data import CleaningCounts, DataSource, Fold, Images


@dataclass(frozen=True)
class PreparedData:
    """Cleaned and split images.

    Attributes:
        train: what gradients come from.
        val: set aside from the training images, to choose by.
        test: the source's test images, as they are, for the end.
        summary: content of ``data.json``.
    """

    train: Images
    val: Images
    test: Images
    summary: dict[str, Any]


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


def prepare(config: JobConfig, note: Callable[[str], None]) -> PreparedData:
    """Loads, cleans and splits the images that a job's configuration names.

    Raises:
        DataError: if there is anything wrong with the data.
    """
    loaded = _load(config, note)
    train, val = data.split(loaded.train, val_fraction=config.val_fraction, seed=config.seed)
    summary = loaded.summary(config, {"train": train, "val": val, "test": loaded.test})
    note(
        f"data {config.data}: {len(train):,} training, {len(val):,} validation, {len(loaded.test):,} test images; "
        f"{loaded.dropped}"
    )
    return PreparedData(train, val, loaded.test, summary)


def prepare_folds(config: CrossvalConfig, note: Callable[[str], None]) -> PreparedFolds:
    """Loads and cleans the images that the configuration names, and deals the training images to folds.

    Raises:
        DataError: if there is anything wrong with the data, or too little of it for so many folds.
    """
    loaded = _load(config, note)
    folds = data.folds(loaded.train, config.folds, val_fraction=config.val_fraction, seed=config.seed)
    summary = loaded.summary(config, {"train": loaded.train, "test": loaded.test}, folds=len(folds))
    one = folds[0]
    note(
        f"data {config.data}: {len(loaded.train):,} images in {len(folds)} folds; in fold 1 {len(one.train):,} to "
        f"train on, {len(one.val):,} to stop by, {len(one.held_out):,} held out; {loaded.dropped}"
    )
    return PreparedFolds(loaded.train, folds, summary)


@dataclass(frozen=True)
class _Loaded:
    """A source's images: those for training cleaned and limited, those for the test as published."""

    train: Images
    test: Images
    source: DataSource
    train_counts: CleaningCounts
    test_counts: CleaningCounts

    @property
    def dropped(self) -> str:
        return f"{self.train_counts.nulls} nulls, {self.train_counts.duplicates} duplicates dropped"

    def summary(self, config: JobConfig, sets: Mapping[str, Images], folds: int | None = None) -> dict[str, Any]:
        return data.summary(
            self.source,
            train_cleaning=self.train_counts,
            test_cleaning=self.test_counts,
            settings=data.SplitSettings(config.seed, config.val_fraction, config.limit, folds),
            sets=sets,
        )


def _load(config: JobConfig, note: Callable[[str], None]) -> _Loaded:
    source = data.load(config.data, cache=data.default_cache(), progress=note)
    cleaned, train_counts = data.clean(source.train)
    # Test images are counted like the others but stay as published, so that accuracies compare.
    test_counts = replace(data.clean(source.test)[1], kept=len(source.test))
    train = data.take(cleaned, config.limit, config.seed)
    return _Loaded(train, source.test, source.source, train_counts, test_counts)
