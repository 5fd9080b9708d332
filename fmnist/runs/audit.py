"""What makes the figures of a run, or of anybody's tables, unreliable: who chose by which images, and intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat

from fmnist.data.audit import DUPLICATES, OVERLAP, SPLIT, Check, overlap_check
from fmnist.runs.files import DATA, METRICS
from fmnist.runs.folder import RunFolder
from fmnist.training.evaluation import accuracy_interval

CARRIED = "weights carried between folds"
EPOCH = "epoch chosen by the test"
POINT = "hyper-parameters chosen by the test"
INTERVAL = "accuracy without an interval"
# Standard errors by which accuracies rise from fold to fold. Fresh weights reach 4 once in 30,000 cross-validations.
RISE = 4.0


@dataclass(frozen=True)
class _Part:
    rows: int = 0
    duplicates: int = 0


@dataclass(frozen=True)
class _Images:
    """What ``data.json`` says; that of fmnist 0.1.0 has no ``overlap``."""

    train: _Part
    test: _Part
    official: bool = False
    overlap: int | None = None


@dataclass(frozen=True)
class _Scores:
    accuracy: FiniteFloat
    loss: FiniteFloat | None = None
    images: int = 0
    accuracy_low: FiniteFloat | None = None
    accuracy_high: FiniteFloat | None = None


@dataclass(frozen=True)
class _Carried:
    accuracy: list[FiniteFloat]


@dataclass(frozen=True)
class _Search:
    val_accuracy: FiniteFloat
    trials: int


@dataclass(frozen=True)
class _Stage:
    name: str
    run_id: str
    status: str


@dataclass(frozen=True)
class _Metrics:
    """What ``metrics.json`` says of any job."""

    val: _Scores | None = None
    test: _Scores | None = None
    held_out: _Scores | None = None
    carried: _Carried | None = None
    search: _Search | None = None
    stages: list[_Stage] | None = None


def audit_run(run: RunFolder) -> Iterator[Check]:
    """Yields what the records of a finished run say of its figures; of a pipeline, of each of its finished stages.

    Raises:
        RunError: if the run is absent or unfinished.
        IntegrityError: if a record is damaged.
    """
    run.manifest()
    metrics = run.get_record(METRICS, _Metrics)
    if metrics.stages is not None:
        for stage in metrics.stages:
            if stage.status == "finished" and stage.run_id != run.run_id:
                for check in audit_run(RunFolder(run.store, stage.run_id)):
                    yield Check(f"{stage.name}: {check.name}", check.found, check.count, check.text)
        return
    yield from _recorded_images(run.get_record(DATA, _Images))
    if metrics.held_out:
        yield from _recorded_folds(metrics.held_out, metrics.carried)
    else:
        yield from _recorded_choices(metrics)
    if scores := metrics.held_out or metrics.test:
        low, high = scores.accuracy_low, scores.accuracy_high
        known = low is not None and high is not None
        text = (
            f"{scores.accuracy:.4f} (95 % interval {low:.4f}-{high:.4f})" if known else f"{scores.accuracy:.4f} alone"
        )
        yield Check(INTERVAL, not known, int(not known), text)


def _recorded_images(images: _Images) -> Iterator[Check]:
    dropped = f"{images.train.duplicates:,} duplicates were dropped before the split"
    yield Check(DUPLICATES.format(part="training"), False, 0, dropped)
    # The published files have none.
    overlap = 0 if images.overlap is None and images.official else images.overlap
    if overlap is None:
        yield Check(OVERLAP, None, 0, "the run recorded no number; `fmnist audit --data` counts them")
    else:
        yield overlap_check(overlap, images.test.rows)
    text = "the run read the published files"
    if not images.official:
        text = "the run read other files than the published ones; `fmnist audit --data` compares the two"
    yield Check(SPLIT, False if images.official else None, 0, text)


def _recorded_folds(held_out: _Scores, carried: _Carried | None) -> Iterator[Check]:
    if not carried or not carried.accuracy:
        yield Check(CARRIED, False, 0, "each fold starts with fresh weights")
        yield Check(EPOCH, False, 0, "each fold has validation images of its own beside the held-out ones")
        return
    folds, first, last = len(carried.accuracy), carried.accuracy[0], carried.accuracy[-1]
    text = (
        f"{folds - 1} of {folds} folds start from weights that were trained on their held-out images: the accuracy "
        f"goes from {first:.4f} to {last:.4f}, and fresh weights reach {held_out.accuracy:.4f}"
    )
    yield Check(CARRIED, True, folds - 1, text)
    text = f"the {folds} folds with carried weights are stopped by the images that they are measured on"
    yield Check(EPOCH, True, folds, text)


def _recorded_choices(metrics: _Metrics) -> Iterator[Check]:
    val, test, search = metrics.val, metrics.test, metrics.search
    if not val or not test:
        return
    same = (val.accuracy, val.loss, val.images) == (test.accuracy, test.loss, test.images)
    text = f"the epoch was chosen by {val.images:,} validation images, with other scores than those of the test images"
    if same:
        text = "the validation images have the loss and the accuracy of the test images: they are the same"
    yield Check(EPOCH, same, int(same), text)
    if search:
        same = same or search.val_accuracy == test.accuracy
        text = f"the best trial has the accuracy {search.val_accuracy:.4f}, the test's is {test.accuracy:.4f}"
        yield Check(POINT, same, search.trials if same else 0, text)


def audit_predictions(
    predicted: NDArray[np.integer], labels: NDArray[np.integer], known: NDArray[np.bool_]
) -> Iterator[Check]:
    """Yields what predictions of the test images say.

    Args:
        predicted: classes, integers [n].
        labels: of the test images, integers [n].
        known: whether each test image equals a training image, [n].
    """
    right = predicted == labels
    low, high = accuracy_interval(int(right.sum()), len(right))
    text = f"{right.mean():.4f} on {len(right):,} test images (95 % interval {low:.4f}-{high:.4f})"
    yield Check(INTERVAL, False, 0, text)
    if known.any() and not known.all():
        count, by_memory = int(known.sum()), f"{right[known].mean():.4f} on those among the training images"
        text = f"{right[~known].mean():.4f} on the {len(right) - count:,} other images, {by_memory}"
        yield Check("accuracy by memory", bool(right[known].mean() > right[~known].mean()), count, text)


def audit_choice(name: str, what: str, val_accuracies: Sequence[float], test_accuracy: float) -> Check:
    """Compares the best validation accuracy of epochs or trials (``what``) with the test accuracy, all 0 to 1.

    If both are the same to a millionth, what chose is the test: with ten thousand images each, other images give the
    same accuracy once in a hundred times.
    """
    best = max(val_accuracies)
    found = math.isclose(best, test_accuracy, abs_tol=1e-6)
    text = f"the best of {len(val_accuracies):,} {what} has the accuracy {best:.4f} by which it was chosen"
    text += ", and the test's is the very same" if found else f", and the test's is {test_accuracy:.4f}"
    return Check(name, found, len(val_accuracies) if found else 0, text)


def audit_folds(numbers: Sequence[int], accuracies: Sequence[float], images: Sequence[int]) -> Check:
    """Says whether accuracies rise from fold to fold by more than chance, as with weights that are never reset.

    Args:
        numbers: of the folds, two or more different ones.
        accuracies: on each fold's held-out images, 0 to 1.
        images: held out in each fold, 1 or more.
    """
    place, accuracy = np.asarray(numbers, float), np.asarray(accuracies, float)
    place -= place.mean()
    rate = accuracy.mean()
    # A fold of n images has a binomial deviation. A rate of 1 has none: half an image is wrong then.
    variance = max(rate * (1 - rate), 0.5 / sum(images)) / np.asarray(images, float)
    slope, error = (place * accuracy).sum(), math.sqrt((place**2 * variance).sum())
    found = bool(slope / error > RISE)
    ordered = accuracy[np.argsort(numbers)]
    text = f"accuracies go from {ordered[0]:.4f} in the first fold to {ordered[-1]:.4f} in the last, by "
    text += f"{slope / error:+.1f} standard errors"
    text += ": with fresh weights they do not rise, so the model knows the later folds' images" if found else ""
    return Check(CARRIED, found, len(ordered) - 1 if found else 0, text)
