"""The candidates of a transfer job, frozen and fine-tuned backbones, as records, and what they amount to as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from fmnist.training.history import Row

# A head on a frozen backbone, or the same with the backbone's last stages trained on.
Phase = Literal["frozen", "fine-tuned"]


@dataclass(frozen=True)
class CandidateRecord:
    """One backbone's training in one phase, and what it reached.

    Attributes:
        backbone: its name, such as ``vgg16``.
        phase: ``frozen`` or ``fine-tuned``.
        recipe: ``sound`` or ``notebook``.
        image_size: pixels along each side of what the backbone saw.
        feature_layer: the backbone's layer whose output were the features.
        features: numbers an image, behind the pooling.
        parameters: of the whole model.
        trained_parameters: of these, how many this phase trained.
        rows: one an epoch, as in ``history.csv``.
        best_epoch: whose weights were kept: the one of the highest validation accuracy.
        feature_seconds: processor time that went into the frozen features of training and validation images; 0 for a
            fine-tuned backbone, which has none, and less than it took at first where some were in the store already.
        shards_computed, shards_found: of the features, how many were computed and how many the store had already.
        dead_units: share of each hidden layer's units that are 0 for all validation images after training, by layer.
        test: the scores on the test images, as in ``metrics.json`` under ``test``.
    """

    backbone: str
    phase: Phase
    recipe: str
    image_size: int
    feature_layer: str
    features: int
    parameters: int
    trained_parameters: int
    rows: tuple[Row, ...]
    best_epoch: int
    feature_seconds: float
    shards_computed: int
    shards_found: int
    dead_units: tuple[float, ...]
    test: dict[str, Any]

    @property
    def best(self) -> Row:
        """The epoch that was kept."""
        return next(row for row in self.rows if row["epoch"] == self.best_epoch)

    @property
    def seconds(self) -> float:
        """Wall time in training and validation."""
        return sum(row["seconds"] for row in self.rows)


@dataclass(frozen=True)
class InputDiagnosis:
    """What a backbone makes of images that are fed to it in one recipe's way.

    Attributes:
        backbone: its name.
        recipe: ``sound`` or ``notebook``.
        low, high: least and greatest number that the backbone is fed with.
        spread: how much a feature differs between images: its standard deviation over its mean size, averaged over the
            features that are not always 0. About 0 when all images look the same to the backbone.
        silent_features: share of the features that are 0 for every image.
        separability: share of held-out images whose class has the nearest mean of features, 0 to 1; chance is 0.1.
    """

    backbone: str
    recipe: str
    low: float
    high: float
    spread: float
    silent_features: float
    separability: float


def winner(records: Sequence[CandidateRecord]) -> CandidateRecord:
    """The candidate of the highest validation accuracy; of equals the later."""
    return max(reversed(records), key=lambda record: record.best["val_accuracy"])


def candidates_table(records: Sequence[CandidateRecord]) -> pd.DataFrame:
    """The content of ``candidates.csv``: a row a candidate; loss and accuracy are those of the epoch that was kept."""
    return pd.DataFrame([_table_row(record) for record in records])


def history_table(records: Sequence[CandidateRecord]) -> pd.DataFrame:
    """The content of ``history.csv``: a row an epoch of a candidate."""
    return pd.DataFrame(
        [{"backbone": record.backbone, "phase": record.phase, **row} for record in records for row in record.rows]
    )


def _table_row(record: CandidateRecord) -> dict[str, Any]:
    return {
        "backbone": record.backbone,
        "phase": record.phase,
        "recipe": record.recipe,
        "image_size": record.image_size,
        "feature_layer": record.feature_layer,
        "features": record.features,
        "parameters": record.parameters,
        "trained_parameters": record.trained_parameters,
        "epochs": len(record.rows),
        "best_epoch": record.best_epoch,
        "loss": record.best["loss"],
        "accuracy": record.best["accuracy"],
        "val_loss": record.best["val_loss"],
        "val_accuracy": record.best["val_accuracy"],
        "test_loss": record.test["loss"],
        "test_accuracy": record.test["accuracy"],
        "test_accuracy_low": record.test["accuracy_low"],
        "test_accuracy_high": record.test["accuracy_high"],
        "feature_seconds": record.feature_seconds,
        "training_seconds": record.seconds,
    }
