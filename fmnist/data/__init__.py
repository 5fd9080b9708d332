"""Data: sources, checks, cleaning and splits."""

from fmnist.data.cleaning import CleaningCounts, clean
from fmnist.data.describe import SplitSettings, summary
from fmnist.data.sources import check_source, default_cache, load
from fmnist.data.splits import Fold, folds, split, take
from fmnist.data.types import CLASS_NAMES, CLASSES, OFFICIAL_SHA256, SIDE, Dataset, DataSource, Images

__all__ = [
    "CLASSES",
    "CLASS_NAMES",
    "OFFICIAL_SHA256",
    "SIDE",
    "CleaningCounts",
    "DataSource",
    "Dataset",
    "Fold",
    "Images",
    "SplitSettings",
    "check_source",
    "clean",
    "default_cache",
    "folds",
    "load",
    "split",
    "summary",
    "take",
]
