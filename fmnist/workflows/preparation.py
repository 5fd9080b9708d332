"""From a data source to the three sets of images that a job works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fmnist import data
from fmnist.config import JobConfig
from fmnist.data import Images


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


def prepare(config: JobConfig, note: Callable[[str], None]) -> PreparedData:
    """Loads, cleans and splits the images that a job's configuration names.

    Raises:
        DataError: if there is anything wrong with the data.
    """
    source = data.load(config.data, cache=data.default_cache(), progress=note)
    cleaned, train_counts = data.clean(source.train)
    # Test images are counted like the others but stay as published, so that accuracies compare.
    test_counts = replace(data.clean(source.test)[1], kept=len(source.test))
    train, val = data.split(
        data.take(cleaned, config.limit, config.seed), val_fraction=config.val_fraction, seed=config.seed
    )
    summary = data.summary(
        source.source,
        train_cleaning=train_counts,
        test_cleaning=test_counts,
        settings=data.SplitSettings(seed=config.seed, val_fraction=config.val_fraction, limit=config.limit),
        train=train,
        val=val,
        test=source.test,
    )
    note(
        f"data {config.data}: {len(train):,} training, {len(val):,} validation, {len(source.test):,} test images; "
        f"{train_counts.nulls} nulls, {train_counts.duplicates} duplicates dropped"
    )
    return PreparedData(train, val, source.test, summary)
