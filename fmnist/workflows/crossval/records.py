"""The folds of a cross-validation as records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fmnist.data import Fold, Images
from fmnist.runs.outcomes import Probabilities
from fmnist.training.history import Row

# A fold's initial weights: fresh, by its own seed, or carried over from the previous fold, as in the study.
Weights = Literal["fresh", "carried"]


@dataclass(frozen=True, eq=False, kw_only=True)
class FoldOutcome:
    """One fold's training, as it is kept in the run folder.

    With carried weights ``val`` are the held-out images, as in the study, and the last epoch is kept, not the best.
    """

    fold: int  # its number, from 1
    weights: Weights
    seed: int  # of the initial weights and the order of the images
    rows: tuple[Row, ...]  # one per epoch, as in history.csv
    kept_epoch: int  # whose weights were measured; 0 for those that it began with, if it diverged in its first epoch
    parameters: int
    precision: str  # of the products, float32 or bfloat16
    devices: tuple[str, ...]
    diverged: str | None = None  # why it ended before its last epoch, with the epochs that it had; None if it did not
    probabilities: Probabilities  # of the held-out images, float32 [n, 10]

    @property
    def kept(self) -> Row | None:
        """The epoch that was measured, if there is one."""
        return next((row for row in self.rows if row["epoch"] == self.kept_epoch), None)

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
