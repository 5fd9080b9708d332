"""Preparation of a job's images: loaded, cleaned and split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from fmnist import data
from fmnist.config import JobConfig
from fmnist.data import CleaningCounts, DataSource, Images, PixelStatistics, TableHead
from fmnist.errors import DataError

# Share of the test images. Pictures of one product are in both parts of some honest data sets.
LARGEST_OVERLAP = 0.01


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
        DataError: if the data is missing or malformed, or too many test images are training images, too.
    """
    loaded = load_cleaned(config, note)
    loaded.check_overlap(config.allow_overlap)
    train, val = data.split(loaded.train, val_fraction=config.val_fraction, seed=config.seed)
    summary = loaded.summary(config, {"train": train, "val": val, "test": loaded.test})
    counts = f"{len(train):,} training, {len(val):,} validation, {len(loaded.test):,} test images"
    note(f"data {config.data}: {counts}; {loaded.dropped}")
    return PreparedData(train, val, loaded.test, summary)


@dataclass(frozen=True)
class Loaded:
    """A source's images: training images cleaned and limited, test images unchanged.

    Attributes:
        overlap: number of the source's test images that equal one of its training images.
        pixels, head: of the source's training images.
    """

    train: Images
    test: Images
    source: DataSource
    train_counts: CleaningCounts
    test_counts: CleaningCounts
    overlap: int
    pixels: PixelStatistics
    head: TableHead

    @property
    def dropped(self) -> str:
        overlap = f", {self.overlap:,} test images are training images, too" if self.overlap else ""
        return f"{self.train_counts.nulls} nulls, {self.train_counts.duplicates} duplicates dropped{overlap}"

    def check_overlap(self, allowed: bool) -> None:
        """Raises a `DataError` if so many test images equal a training image that their accuracy says nothing."""
        share = self.overlap / len(self.test)
        if share > LARGEST_OVERLAP and not allowed:
            found = f"found {self.overlap:,} of {len(self.test):,} test images among the training images"
            raise DataError(
                f"{self.source.location}: {found}, expected at most {LARGEST_OVERLAP:.0%}: the test accuracy would "
                "measure what the model remembers; --allow-overlap trains nevertheless"
            )

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
            "overlap": self.overlap,
            "pixels": asdict(self.pixels),
            "head": asdict(self.head),
            "limit": config.limit,
            "split": sizes | split,
            "class_counts": {name: images.class_counts() for name, images in sets.items()},
        }


def load_cleaned(config: JobConfig, note: Callable[[str], None]) -> Loaded:
    """Loads the images that a job's configuration names; cleans and limits those for training.

    Raises:
        DataError: if the data is missing or malformed.
    """
    source = data.load(config.data, progress=note)
    cleaned, train_counts = data.clean(source.train)
    # Test images are counted like the others but stay as published, so that accuracies compare.
    test_counts = replace(data.clean(source.test)[1], kept=len(source.test))
    train = data.take(cleaned, config.limit, config.seed)
    overlap = data.count_overlap(source.train, source.test)
    pixels = PixelStatistics.of(source.train.pixels)
    head = TableHead.of(source.train)
    return Loaded(train, source.test, source.source, train_counts, test_counts, overlap, pixels, head)
