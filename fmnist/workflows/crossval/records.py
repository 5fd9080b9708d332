"""The folds of a cross-validation as records; their tables, their mean and its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Literal

import pandas as pd

from fmnist.data import Fold, Images
from fmnist.runs.outcomes import Probabilities
from fmnist.training.history import Row

# A fold's initial weights: fresh, by its own seed, or carried over from the previous fold, as in the study.
Weights = Literal["fresh", "carried"]

INTERVAL_METHOD = (
    "95 % interval of the mean: Student's t with (folds - 1) degrees of freedom and the variance of Nadeau and Bengio "
    "(2003), sd^2 * (1 / folds + held-out images / training images), because folds share training images"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class FoldOutcome:
    """One fold's training, as it is kept in the run folder.

    With carried weights ``val`` are the held-out images, as in the study, and the last epoch is kept, not the best.
    """

    fold: int  # its number, from 1
    weights: Weights
    seed: int  # of the initial weights and the order of the images
    rows: tuple[Row, ...]  # one per epoch, as in history.csv
    kept_epoch: int  # whose weights were measured
    parameters: int
    precision: str  # of the products, float32 or bfloat16
    devices: tuple[str, ...]
    probabilities: Probabilities  # of the held-out images, float32 [n, 10]

    @property
    def kept(self) -> Row:
        """The epoch that was measured."""
        return next(row for row in self.rows if row["epoch"] == self.kept_epoch)

    @property
    def seconds(self) -> float:
        """Time in training and validation."""
        return sum(row["seconds"] for row in self.rows)

    def accuracy(self, images: Images, fold: Fold) -> float:
        """Accuracy on the fold's held-out images, 0 to 1."""
        return float((self.probabilities.argmax(axis=1) == images.labels[fold.held_out]).mean())


@dataclass(frozen=True, eq=False, kw_only=True)
class FoldRecord(FoldOutcome):
    """A fold's outcome with its number of images and its scores, as in ``folds.csv``."""

    train_images: int
    val_images: int
    held_out_images: int
    held_out_loss: float  # mean negative log likelihood, in nats
    held_out_accuracy: float  # 0 to 1


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (of a sample) of a figure over folds, and the mean's 95 % interval."""

    mean: float
    sd: float
    low: float
    high: float


def spread(values: Sequence[float], held_out_share: float) -> Spread:
    """Returns mean, standard deviation and 95 % interval of a figure over 2 or more folds.

    The folds' models share most of their training images, so that the plain ``sd / sqrt(folds)`` is too small. Nadeau
    and Bengio ("Inference for the Generalization Error", Machine Learning 52, 2003, section 4) correct it for the share
    of images held out: held-out images over training images, above 0.

    Example:
        >>> spread([0.9, 0.92], 1.0).mean
        0.91
    """
    from scipy.stats import t

    count = len(values)
    sd = stdev(values)
    half = float(t.ppf(0.975, count - 1)) * sd * math.sqrt(1 / count + held_out_share)
    return Spread(mean(values), sd, mean(values) - half, mean(values) + half)


def held_out_share(records: Sequence[FoldRecord]) -> float:
    """Held-out images over training images, on average over the folds."""
    return mean(record.held_out_images / record.train_images for record in records)


def folds_table(records: Sequence[FoldRecord]) -> pd.DataFrame:
    """The content of ``folds.csv``: a row a fold; loss and accuracy are those of the kept epoch."""
    of_epoch = ("loss", "accuracy", "val_loss", "val_accuracy")
    of_fold = ("held_out_loss", "held_out_accuracy", "train_images", "val_images", "held_out_images", "seconds")
    return pd.DataFrame(
        {
            **{name: getattr(record, name) for name in ("weights", "fold", "seed")},
            "epochs": len(record.rows),
            "kept_epoch": record.kept_epoch,
            **{name: record.kept[name] for name in of_epoch},
            **{name: getattr(record, name) for name in of_fold},
        }
        for record in records
    )


def history_table(records: Sequence[FoldRecord]) -> pd.DataFrame:
    """The content of ``history.csv``: a row an epoch of a fold."""
    return pd.DataFrame(
        {"weights": record.weights, "fold": record.fold, **row} for record in records for row in record.rows
    )
