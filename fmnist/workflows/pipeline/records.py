"""What a pipeline reads of its stages' ``metrics.json``, and what it writes into its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fmnist.runs.results import Metrics


@dataclass(frozen=True)
class Accuracy:
    """An accuracy, 0 to 1."""

    accuracy: float


@dataclass(frozen=True)
class Scores(Accuracy):
    """An accuracy with its 95 % interval, and the number of images."""

    accuracy_low: float
    accuracy_high: float
    images: int


@dataclass(frozen=True)
class HeldOutScores(Scores):
    """Mean accuracy over folds with fresh weights, with the interval of the mean and the standard deviation."""

    accuracy_sd: float


@dataclass(frozen=True)
class CarriedScores:
    """Accuracy of each fold with carried weights, and the number of all epochs."""

    accuracy: tuple[float, ...]
    epochs: int


@dataclass(frozen=True)
class Search:
    """A search: its space, and the number of trials and of all their epochs."""

    space: str
    trials: int
    epochs: int


@dataclass(frozen=True)
class Weights:
    """Pretrained weights: their source, sha256 of the file, and whether it is the one that Keras publishes."""

    source: str
    sha256: str | None
    published: bool


@dataclass(frozen=True)
class Candidate:
    """A backbone with a head, after one phase of training: ``frozen`` or ``fine-tuned``."""

    phase: str
    recipe: str
    image_size: int
    feature_layer: str
    parameters: int
    epochs: int
    val_accuracy: float
    test: Scores


@dataclass(frozen=True, kw_only=True)
class StageMetrics(Metrics):
    """The part of a stage's ``metrics.json`` that the pipeline's report shows; a job leaves out what it does not have.

    Attributes:
        best_epoch: the one whose weights were kept.
        val, test: scores of the kept epoch.
        search: of a tune stage.
        folds, held_out, carried: of a crossval stage, which has no ``test``.
        candidates: of a transfer stage: one backbone's, in the order of training.
        weights: of a transfer stage, by backbone.
    """

    parameters: int
    epochs: int
    val: Accuracy
    best_epoch: int = 0
    test: Scores | None = None
    search: Search | None = None
    folds: int = 0
    held_out: HeldOutScores | None = None
    carried: CarriedScores | None = None
    candidates: tuple[Candidate, ...] = ()
    weights: dict[str, Weights] = field(default_factory=dict)

    @property
    def last(self) -> Candidate | None:
        """The last candidate of a transfer stage: the fine-tuned one if there is one."""
        return self.candidates[-1] if self.candidates else None

    @property
    def val_accuracy(self) -> float:
        """Of the kept epoch, for a transfer stage of the last candidate's."""
        return self.last.val_accuracy if self.last else self.val.accuracy

    @property
    def test_scores(self) -> Scores | None:
        """On the test images, for a transfer stage of the last candidate; None for a crossval stage."""
        return self.last.test if self.last else self.test


Stages = Mapping[str, StageMetrics]
"""The metrics of every finished stage, by the stage's name."""


@dataclass(frozen=True)
class StageSummary:
    """A stage in the pipeline's ``metrics.json``.

    Attributes:
        reason: why it is not finished, in one line.
        seconds: wall time of the stage's run if it is finished, in this start or before.
    """

    name: str
    job: str
    run_id: str
    status: Literal["finished", "failed", "left out"]
    reason: str | None
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class PipelineMetrics(Metrics):
    """The content of a pipeline's ``metrics.json``: all stages of the study, in order.

    ``limit`` is the number of training images that the stages use; None for all.
    """

    profile: str
    limit: int | None
    seed: int
    stages: tuple[StageSummary, ...]
