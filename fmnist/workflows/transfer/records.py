"""The records of a transfer job: weights, diagnoses, and the candidates, which are backbones trained in one phase."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fmnist.runs import MODEL, PHASES, RunFolder
from fmnist.runs.outcomes import Probabilities, read_sound, write_outcome
from fmnist.training.evaluation import Evaluation
from fmnist.training.history import Row

# A new head on a frozen backbone; then the same model with the backbone's last stages trained too.
Phase = Literal["frozen", "fine-tuned"]


@dataclass(frozen=True)
class WeightsRecord:
    """The pretrained weights of a backbone.

    Attributes:
        source: ``imagenet``, ``none``, or the file's path or address as the user gave it.
        sha256: of the file; None without a file.
        published: whether the file is byte for byte the one that Keras publishes.
    """

    source: str
    sha256: str | None
    published: bool


@dataclass(frozen=True)
class InputDiagnosis:
    """A backbone's response to images that are prepared as in one recipe.

    Attributes:
        low, high: minimum and maximum of the backbone's input.
        spread: standard deviation of a feature over its mean absolute value, averaged over the features that are not
            always 0. About 0 if the features are the same for all images.
        silent_features: share of the features that are 0 for every image, 0 to 1.
        separability: accuracy of a nearest-mean classifier on held-out images, 0 to 1; chance is 0.1.
    """

    backbone: str
    recipe: str
    low: float
    high: float
    spread: float
    silent_features: float
    separability: float


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A backbone trained in one phase.

    Attributes:
        image_size: pixels along each side of the backbone's input.
        feature_layer: the backbone's layer whose output is the features.
        features: number of features of an image, after pooling.
        parameters, trained_parameters: of the whole model, and how many of them this phase trained.
        best_epoch: the epoch, from 1, whose weights were kept: the one of the highest validation accuracy.
        feature_seconds: processor time of computing the features of training and validation images; 0 for a fine-tuned
            backbone, which has none.
        shards_computed, shards_found: number of shards of features that were computed, and that the store already had.
        dead_units: share of the units of each hidden layer that are 0 for all validation images, by layer.
        diverged: why the training ended before its last epoch, with the epochs that it had; None if it did not.
    """

    backbone: str
    phase: Phase
    recipe: str
    image_size: int
    feature_layer: str
    features: int
    parameters: int
    trained_parameters: int
    best_epoch: int
    feature_seconds: float
    shards_computed: int
    shards_found: int
    dead_units: tuple[float, ...]
    diverged: str | None = None


@dataclass(frozen=True, kw_only=True)
class CandidateMetrics(Candidate):
    """A candidate as ``metrics.json`` has it: scores are of the best epoch, ``test`` of the test images.

    ``epochs`` is how many were trained, ``training_seconds`` the wall time of training and validation.
    """

    epochs: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    training_seconds: float
    test: Evaluation


@dataclass(frozen=True, kw_only=True, eq=False)
class PhaseOutcome(Candidate):
    """A candidate as the run folder has it, next to its model, from the end of the phase to the end of the run.

    Attributes:
        rows: one an epoch, as in ``history.csv``.
        precision: of the products, ``float32`` or ``bfloat16``.
        devices: that TensorFlow used for the test images.
        evaluation_seconds: wall time of predicting the test images.
        restarts: how often workers were started again.
        probabilities: float32 [test images, 10].
        model_sha256: of the phase's model; empty where an earlier version wrote it.
    """

    weights: WeightsRecord
    diagnoses: tuple[InputDiagnosis, ...]
    rows: tuple[Row, ...]
    precision: str
    devices: tuple[str, ...]
    evaluation_seconds: float
    restarts: int
    probabilities: Probabilities
    model_sha256: str = ""


def phase_folder(backbone: str, phase: Phase) -> str:
    """Returns the folder of a phase's outcome, relative to the run folder."""
    return f"{PHASES}/{backbone}-{phase}"


def write_phase(run: RunFolder, outcome: PhaseOutcome, model: bytes) -> None:
    """Writes a phase's model and outcome; the phase counts as ended when the last file is written."""
    folder = phase_folder(outcome.backbone, outcome.phase)
    run.put_bytes(f"{folder}/{MODEL}", model)
    write_outcome(run, folder, replace(outcome, model_sha256=hashlib.sha256(model).hexdigest()))


def read_phase(
    run: RunFolder, backbone: str, phase: Phase, note: Callable[[str], None] | None = None
) -> PhaseOutcome | None:
    """Returns a phase's outcome; None if the phase has not ended, or is damaged, after a line by ``note``."""
    outcome = read_sound(run, phase_folder(backbone, phase), PhaseOutcome, note)
    if outcome and outcome.model_sha256:
        model = phase_folder(backbone, phase) + f"/{MODEL}"
        if not run.exists(model) or hashlib.sha256(run.get_bytes(model)).hexdigest() != outcome.model_sha256:
            if note:
                note(f"{run.location}/{model}: damaged, not what was written; trained again")
            return None
    return outcome


def phase_model(run: RunFolder, backbone: str, phase: Phase) -> bytes:
    """Returns the content of the ``model.keras`` of a phase that has ended."""
    return run.get_bytes(f"{phase_folder(backbone, phase)}/{MODEL}")


def winner(candidates: Sequence[CandidateMetrics]) -> CandidateMetrics:
    """Returns the candidate of the highest validation accuracy; of equals the later."""
    return max(reversed(candidates), key=lambda candidate: candidate.val_accuracy)
