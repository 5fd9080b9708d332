"""Data: sources, checks, cleaning and splits."""

from fmnist.data.cleaning import CleaningCounts, clean, count_overlap, equal_to_any
from fmnist.data.sources import check_source, default_cache, load
from fmnist.data.splits import Fold, folds, split, take
from fmnist.data.types import (
    CLASS_NAMES,
    CLASSES,
    LABELS,
    OFFICIAL_SHA256,
    SIDE,
    Dataset,
    DataSource,
    Images,
    PixelStatistics,
    TableHead,
)
