"""What a transfer run's folder knows of the phases that have ended: a run that goes on does not train them again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fmnist.runs import MODEL, PHASES, RunFolder
from fmnist.runs.outcomes import Probabilities, read_outcome, write_outcome
from fmnist.training.evaluation import evaluate
from fmnist.training.history import Row
from fmnist.workflows.transfer.records import CandidateRecord, InputDiagnosis, Phase


@dataclass(frozen=True)
class WeightsRecord:
    """Where a backbone's weights came from.

    Attributes:
        source: imagenet, none, or the file's place.
        sha256: of the file; None without one.
        published: whether it is the one that Keras publishes.
    """

    source: str
    sha256: str | None
    published: bool


@dataclass(frozen=True, eq=False)
class PhaseOutcome:
    """What a phase left in the run folder, beside its model.

    Attributes:
        backbone, phase: which one.
        recipe, image_size, feature_layer, features: see `CandidateRecord`.
        weights: of the backbone.
        diagnoses: of the backbone's input.
        rows: one an epoch.
        best_epoch: whose weights the model has.
        parameters, trained_parameters, dead_units: see `CandidateRecord`.
        precision: of the products, float32 or bfloat16.
        devices: what TensorFlow computed on.
        feature_seconds, shards_computed, shards_found: see `CandidateRecord`.
        evaluation_seconds: wall time of using the model on the test images.
        restarts: how often workers had to be started again.
        probabilities: float32 [test images, 10].
    """

    backbone: str
    phase: Phase
    recipe: str
    image_size: int
    feature_layer: str
    features: int
    weights: WeightsRecord
    diagnoses: tuple[InputDiagnosis, ...]
    rows: tuple[Row, ...]
    best_epoch: int
    parameters: int
    trained_parameters: int
    dead_units: tuple[float, ...]
    precision: str
    devices: tuple[str, ...]
    feature_seconds: float
    shards_computed: int
    shards_found: int
    evaluation_seconds: float
    restarts: int
    probabilities: Probabilities

    def record(self, labels: np.ndarray) -> CandidateRecord:
        """The phase as the report shows it, measured on the test images' labels."""
        names = set(CandidateRecord.__dataclass_fields__) - {"test"}
        return CandidateRecord(
            **{name: getattr(self, name) for name in names}, test=evaluate(labels, self.probabilities).as_dict()
        )


def phase_folder(backbone: str, phase: Phase) -> str:
    """Where in a run's folder a phase's outcome is while the run lasts."""
    return f"{PHASES}/{backbone}-{phase}"


def write_phase(run: RunFolder, outcome: PhaseOutcome, model: bytes) -> None:
    """Keeps a phase's outcome; from the last file on it counts as ended."""
    folder = phase_folder(outcome.backbone, outcome.phase)
    run.put_bytes(f"{folder}/{MODEL}", model)
    write_outcome(run, folder, outcome)


def read_phase(run: RunFolder, backbone: str, phase: Phase) -> PhaseOutcome | None:
    """Returns a phase's outcome, or None if it has not ended."""
    return read_outcome(run, phase_folder(backbone, phase), PhaseOutcome)


def phase_model(run: RunFolder, backbone: str, phase: Phase) -> bytes:
    """The content of an ended phase's ``model.keras``."""
    return run.get_bytes(f"{phase_folder(backbone, phase)}/{MODEL}")
