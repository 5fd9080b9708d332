"""What a cross-validation's processes do: train on all folds but one, and measure on the one that was held out.

A fold computes with operations of one thread each and starts from weights of its own seed, so that its numbers are the
same in whatever process it runs, beside whichever others, and however often it was started again.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.util.queue import Queue

from fmnist.config import batch_size_of
from fmnist.data import Fold, Images
from fmnist.distributed.checkpoints import TrainingState
from fmnist.distributed.events import tell_at_once
from fmnist.runs import FOLDS, RunFolder
from fmnist.runs.outcomes import read_outcome, write_outcome
from fmnist.training import devices
from fmnist.training.history import Row
from fmnist.workflows.crossval.config import CrossvalConfig
from fmnist.workflows.crossval.records import Weights

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class FoldTask:
    """What every process of a cross-validation is told.

    Attributes:
        config: of the job.
        run: where folds keep their state and their outcome.
        events: where folds say how they come on, for the driver to show.
    """

    config: CrossvalConfig
    run: RunFolder
    events: Queue


@dataclass(frozen=True)
class FoldNews:
    """What a fold tells the driver.

    Attributes:
        weights, fold: which one.
        known: epochs that it has when it begins, begins again, or ends.
        row: an epoch that it has trained; None when it begins or ends.
        accuracy: on the held-out images, when it ends; else None.
    """

    weights: Weights
    fold: int
    known: int = 0
    row: Row | None = None
    accuracy: float | None = None


@dataclass(frozen=True, eq=False)
class FoldOutcome:
    """What a fold brings back.

    Attributes:
        weights, fold: which one.
        seed: of its initial weights and the order of its images.
        rows: of its epochs.
        kept_epoch: whose weights were measured.
        parameters: of the model.
        precision: of the products, float32 or bfloat16.
        devices: what TensorFlow computed on.
        probabilities: float32 [held-out images, 10].
    """

    weights: Weights
    fold: int
    seed: int
    rows: tuple[Row, ...]
    kept_epoch: int
    parameters: int
    precision: str
    devices: tuple[str, ...]
    probabilities: np.ndarray

    def accuracy(self, images: Images, fold: Fold) -> float:
        """On the held-out images of its fold."""
        return float((self.probabilities.argmax(axis=1) == images.labels[fold.held_out]).mean())


def train_folds(task: FoldTask, images: Images, folds: Sequence[Fold], weights: Weights) -> list[FoldNews]:
    """Trains folds one after the other and leaves their outcomes in the run folder; those that are there are done.

    It never waits for Ray: a task that does lends its processor to the next one, and then both compute.

    Args:
        images: all of them; as an argument of a Ray task, mapped from the object store.
        folds: with carried weights all that there are, in order: each starts from the last one's weights.
        weights: fresh for each fold, or carried.

    Returns:
        The last news of each fold.
    """
    images = _of_this_process(task.run.location, images)
    ends: list[FoldNews] = []
    before: TrainingState | None = None
    for fold in folds:
        state = fold_state(task.run, weights, fold.number)
        outcome = read_fold(task.run, weights, fold.number)
        if outcome is None:
            outcome = _train_fold(task, images, fold, weights, state, before)
            write_outcome(task.run, _folder(weights, fold.number), outcome)
        accuracy = outcome.accuracy(images, fold)
        ends.append(FoldNews(weights, fold.number, known=len(outcome.rows), accuracy=accuracy))
        tell_at_once(task.events, ends[-1])
        # Its weights have been measured, and are needed only by the fold that they are carried to.
        if weights == "fresh":
            state.drop_weights()
        elif before is not None:
            before.drop_weights()
        before = state if weights == "carried" else None
    return ends


def fold_seed(seed: int, fold: int) -> int:
    """A fold's own seed, which follows from the run's and its number: 0 to 2**32 - 1."""
    return int(np.random.SeedSequence((seed, fold)).generate_state(1)[0])


def fold_state(run: RunFolder, weights: Weights, fold: int) -> TrainingState:
    """What the run folder knows of a fold: ``folds/WEIGHTS-NUMBER/state.json`` and the weights that it names."""
    return TrainingState(run, _folder(weights, fold), keep_best=weights == "fresh")


def read_fold(run: RunFolder, weights: Weights, fold: int) -> FoldOutcome | None:
    """Returns a fold's outcome if the run folder has it."""
    values = read_outcome(run, _folder(weights, fold))
    return None if values is None else FoldOutcome(**values)


def _folder(weights: Weights, fold: int) -> str:
    return f"{FOLDS}/{weights}-{fold:04d}"


def _train_fold(
    task: FoldTask, images: Images, fold: Fold, weights: Weights, state: TrainingState, before: TrainingState | None
) -> FoldOutcome:
    config = task.config
    lanes = devices.configure_tensorflow(config.cpus_per_fold)
    import keras
    import tensorflow as tf

    from fmnist.training import engine

    # On a GPU some kernels add up in the order in which threads happen to end, unless they are told not to.
    tf.config.experimental.enable_op_determinism()
    # The last fold's model and optimizer are in cycles, which stay until Python looks for them.
    keras.backend.clear_session(free_memory=False)
    gc.collect()

    seed = fold_seed(config.seed, fold.number)
    precision = devices.resolve_precision(config.precision)
    built = _build(config, seed, precision)
    batch_size = batch_size_of(config.hyperparameters, default=config.batch_size)
    # The study had no other images to stop by than those it measured on.
    train, val = (fold.train, fold.val) if weights == "fresh" else (_not_held_out(fold), fold.held_out)

    history = state.history()
    if history.epochs:
        state.restore(history.epochs, built.model, built.optimizer)
    elif before is not None:
        before.restore(before.history().epochs, built.model)
    tell_at_once(task.events, FoldNews(weights, fold.number, known=history.epochs))
    if not history.should_stop(config.patience):
        epochs = engine.train(
            built.model,
            built.loss,
            built.optimizer,
            images,
            images,
            batch_size=batch_size,
            epochs=config.epochs,
            seed=seed,
            first_epoch=history.epochs + 1,
            train_positions=train,
            val_positions=val,
            shard=engine.Shard(lanes=lanes),
            xla=devices.resolve_xla(config.xla),
        )
        for result in epochs:
            history = history.add(result.row())
            state.save(built.model, built.optimizer, history)
            tell_at_once(task.events, FoldNews(weights, fold.number, row=result.row()))
            if history.should_stop(config.patience):
                break
    kept = int(history.best["epoch"]) if weights == "fresh" else history.epochs
    probabilities, parameters = _measure(config, seed, state, kept, images.pixels[fold.held_out])
    return FoldOutcome(
        weights=weights,
        fold=fold.number,
        seed=seed,
        rows=history.rows,
        kept_epoch=kept,
        parameters=parameters,
        precision=precision,
        devices=devices.device_names(),
        probabilities=probabilities,
    )


def _measure(
    config: CrossvalConfig, seed: int, state: TrainingState, epoch: int, pixels: np.ndarray
) -> tuple[np.ndarray, int]:
    """Returns what the model as it would be served, in float32, says of images, and how many parameters it has."""
    from fmnist.models.serving import without_augmentation
    from fmnist.training.inference import probabilities

    model: keras.Model = _build(config, seed, "float32").model
    state.restore(epoch, model)
    return probabilities(without_augmentation(model), pixels), model.count_params()


def _build(config: CrossvalConfig, seed: int, precision: str) -> Any:
    from fmnist.models.factory import build

    return build(
        config.model,
        config.hyperparameters,
        learning_rate=config.learning_rate,
        seed=seed,
        precision=precision,
    )


def _not_held_out(fold: Fold) -> np.ndarray:
    return np.concatenate([fold.train, fold.val])


_images: dict[str, Images] = {}


def _of_this_process(run: str, images: Images) -> Images:
    """The images that this process' first fold got, for all its folds: the engine keeps a copy of each object."""
    return _images.setdefault(run, images)
