"""Evaluation of a model's probabilities on labelled images: scores, predictions and the worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fmnist.data import CLASS_NAMES, CLASSES
from fmnist.errors import TrainingError

if TYPE_CHECKING:
    import pandas as pd

# Accuracy of guessing.
CHANCE = 1 / CLASSES
CONFIDENCE = 0.95
# Keras clips at the same value, so that this loss equals the one of the training.
SMALLEST_PROBABILITY = 1e-7

Labels = npt.NDArray[np.integer[Any]]
Probabilities = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ClassScore:
    """One class' precision, recall and F1 (0 to 1; 0 where undefined) over its ``support`` images."""

    label: int
    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model on a set of images.

    Attributes:
        loss: mean negative log likelihood of the true class, in nats.
        accuracy: share of images whose most probable class is the true one, 0 to 1.
        accuracy_low, accuracy_high: ends of the accuracy's 95 % Wilson interval.
        images: how many images.
        per_class: one score a class, by label.
        confusion_matrix: [10, 10], number of images by true class (row) and predicted class (column).
    """

    loss: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    images: int
    per_class: tuple[ClassScore, ...]
    confusion_matrix: tuple[tuple[int, ...], ...]


def evaluate(labels: Labels, probabilities: Probabilities, class_names: Sequence[str] = CLASS_NAMES) -> Evaluation:
    """Compares predicted probabilities with the true classes.

    Args:
        labels: integers [n], 0 to 9, n at least 1.
        probabilities: floats [n, 10]; each row sums to one.
        class_names: of the labels 0 to 9.

    Raises:
        ValueError: if the shapes do not match or there is no image.
        TrainingError: if a probability is not a finite number.

    Example:
        >>> evaluate(np.array([3]), np.eye(10)[[3]]).accuracy
        1.0
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    _check(labels, probabilities)
    images = len(labels)
    predicted = probabilities.argmax(axis=1)
    correct = int((predicted == labels).sum())
    low, high = accuracy_interval(correct, images)
    of_true_class = probabilities[np.arange(images), labels].astype(np.float64)
    classes = np.arange(CLASSES)
    scores = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    return Evaluation(
        images=images,
        loss=float(-np.log(of_true_class.clip(SMALLEST_PROBABILITY, 1.0)).mean()),
        accuracy=correct / images,
        accuracy_low=low,
        accuracy_high=high,
        per_class=tuple(
            ClassScore(label, class_names[label], float(precision), float(recall), float(f1), int(support))
            for label, (precision, recall, f1, support) in enumerate(zip(*scores, strict=True))
        ),
        confusion_matrix=tuple(map(tuple, confusion_matrix(labels, predicted, labels=classes).tolist())),
    )


def worst_mistakes(labels: Labels, probabilities: Probabilities, n: int) -> npt.NDArray[np.intp]:
    """Returns the positions of up to ``n`` wrong predictions, the most probable first; errors as in `evaluate`."""
    _check(labels, probabilities)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    most_certain_first = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return wrong[most_certain_first[:n]]


def accuracy_interval(correct: int, images: int) -> tuple[float, float]:
    """Returns the ends of the 95 % Wilson interval of an accuracy of ``correct`` of ``images``, 1 or more."""
    from scipy.stats import binomtest

    interval = binomtest(correct, images).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def predictions_table(labels: Labels, probabilities: Probabilities) -> pd.DataFrame:
    """Returns one row per image, as in a run's ``predictions.csv``.

    The columns are ``index`` (position in the set), ``label``, ``predicted``, ``probability`` (of the predicted class)
    and ``probability_0`` to ``probability_9``. Errors as in `evaluate`.
    """
    import pandas as pd

    _check(labels, probabilities)
    summary = {
        "index": np.arange(len(labels)),
        "label": labels,
        "predicted": probabilities.argmax(axis=1),
        "probability": probabilities.max(axis=1),
    }
    return pd.DataFrame(summary | {f"probability_{label}": probabilities[:, label] for label in range(CLASSES)})


def _check(labels: Labels, probabilities: Probabilities) -> None:
    if labels.ndim != 1 or len(labels) == 0 or probabilities.shape != (len(labels), CLASSES):
        found = f"labels {labels.shape} and probabilities {probabilities.shape}"
        raise ValueError(f"{found}: expected [n] and [n, {CLASSES}], n at least 1")
    unusable = int((~np.isfinite(probabilities).all(axis=1)).sum())
    if unusable:
        raise TrainingError(
            f"the model's probabilities are not finite for {unusable} of {len(labels)} images: "
            "its weights are damaged or it diverged in training"
        )
