"""The task of a fold: train on all images but those of the fold, and measure on the fold's held-out images.

A fold's operations use one thread each, and its weights have a seed of their own. So its numbers do not depend on the
process, on the folds that run at the same time, or on restarts.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from ray.util.queue import Queue

from fmnist.config import batch_size_of
from fmnist.data import Fold, Images
from fmnist.distributed.checkpoints import TrainingState
from fmnist.distributed.events import post
from fmnist.errors import TrainingError
from fmnist.runs import FOLDS, RunFolder
from fmnist.runs.outcomes import read_sound, write_outcome
from fmnist.training import devices
from fmnist.workflows.crossval.config import CrossvalConfig
from fmnist.workflows.crossval.progress import FoldEvent
from fmnist.workflows.crossval.records import FoldOutcome, Weights

if TYPE_CHECKING:
    import keras

    from fmnist.models.compiled import Trainable


@dataclass(frozen=True)
class FoldTask:
    """What every task of a cross-validation gets."""

    config: CrossvalConfig
    run: RunFolder  # where folds keep their state and their outcome
    events: Queue  # where folds post a `FoldEvent`


def train_folds(task: FoldTask, images: Images, folds: Sequence[Fold], weights: Weights) -> list[FoldEvent]:
    """Trains folds one after the other and writes their outcomes into the run folder; skips those that it has.

    It never waits for Ray: while a task waits, Ray lends its processor to the next task, and then both compute.

    Args:
        images: all images; as an argument of a Ray task, mapped from the object store.
        folds: with carried weights all folds in order, since each starts from the weights of the previous one.
        weights: fresh for each fold, or carried.

    Returns:
        The last event of each fold.
    """
    images = _images.setdefault(task.run.location, images)
    ends: list[FoldEvent] = []
    before: TrainingState | None = None
    for fold in folds:
        state = fold_state(task.run, weights, fold.number)
        outcome = read_fold(task.run, weights, fold.number)
        if outcome is None:
            outcome = _train_fold(task, images, fold, weights, state, before)
            write_outcome(task.run, _folder(weights, fold.number), outcome)
        accuracy = outcome.accuracy(images, fold)
        ends.append(FoldEvent(weights, fold.number, len(outcome.rows), accuracy=accuracy, diverged=outcome.diverged))
        post(task.events, ends[-1], wait=False)
        # The weights have been measured; only the fold that they are carried to needs them.
        if weights == "fresh":
            state.drop_weights()
        elif before is not None:
            before.drop_weights()
        before = state if weights == "carried" else None
    return ends


def fold_seed(seed: int, fold: int) -> int:
    """Returns a fold's own seed, from the run's seed and the fold's number: 0 to 2**32 - 1."""
    return int(np.random.SeedSequence((seed, fold)).generate_state(1)[0])


def fold_state(run: RunFolder, weights: Weights, fold: int) -> TrainingState:
    """Returns a fold's checkpoints in the run folder, under ``folds/WEIGHTS-NUMBER/``."""
    return TrainingState(run, _folder(weights, fold), keep_best=weights == "fresh")


def read_fold(
    run: RunFolder, weights: Weights, fold: int, note: Callable[[str], None] | None = None
) -> FoldOutcome | None:
    """Returns a fold's outcome; None if the run folder has none, or a damaged one, after a line by ``note``."""
    return read_sound(run, _folder(weights, fold), FoldOutcome, note)


def _folder(weights: Weights, fold: int) -> str:
    return f"{FOLDS}/{weights}-{fold:04d}"


def _train_fold(
    task: FoldTask, images: Images, fold: Fold, weights: Weights, state: TrainingState, before: TrainingState | None
) -> FoldOutcome:
    def note(line: str) -> None:
        post(task.events, FoldEvent(weights, fold.number, note=line), wait=False)

    config, history = task.config, state.history(note)
    # Before TensorFlow is imported, which takes seconds.
    post(task.events, FoldEvent(weights, fold.number, history.epochs), wait=False)
    # A fold's numbers depend on its seed alone, on a GPU too.
    lanes = devices.configure_tensorflow(config.cpus_per_fold, deterministic=True)
    import keras

    from fmnist.training import engine

    # Model and optimizer of the previous fold are in reference cycles, which only the garbage collector frees.
    keras.backend.clear_session(free_memory=False)
    gc.collect()

    seed = fold_seed(config.seed, fold.number)
    precision = config.precision
    built = _build(config, seed, precision)
    train, val = fold.train, fold.val
    if weights == "carried":
        # The study stopped by the same images that it measured on.
        train, val = np.concatenate([train, val]), fold.held_out

    done = state.resume(history, built.model, built.optimizer, note)
    carried = before.history().epochs if before is not None else 0
    if not done and before is not None and carried:
        before.restore(carried, built.model)
    last = history.epochs if history.should_stop(config.patience) else config.epochs
    diverged = None
    if done < last:
        batch_size = batch_size_of(config.hyperparameters, default=config.batch_size)
        epochs = engine.train(
            built.model,
            built.loss,
            built.optimizer,
            images,
            images,
            batch_size=batch_size,
            epochs=config.epochs,
            seed=seed,
            first_epoch=done + 1,
            train_positions=train,
            val_positions=val,
            shard=engine.Shard(lanes=lanes),
            xla=devices.resolve_xla(config.xla, images=len(train), batch_size=batch_size, epochs=config.epochs),
            note=note,
        )
        try:
            for trained in state.train(history, islice(epochs, last - done), built.model, built.optimizer):
                history = trained
                post(task.events, FoldEvent(weights, fold.number, row=history.rows[-1]), wait=False)
                if history.should_stop(config.patience):
                    break
        except TrainingError as error:
            # The good epochs count, as if patience had ended it; without one, what it began with.
            diverged = str(error)
    kept = int(history.best["epoch"]) if history.epochs and weights == "fresh" else history.epochs
    measured = (state, kept) if kept or before is None else (before, carried)
    model, probabilities = _measure(config, seed, *measured, images.pixels[fold.held_out])
    return FoldOutcome(
        weights=weights,
        fold=fold.number,
        seed=seed,
        rows=history.rows,
        kept_epoch=kept,
        parameters=model.count_params(),
        precision=precision,
        devices=devices.device_names(),
        diverged=diverged,
        probabilities=probabilities,
    )


def _measure(
    config: CrossvalConfig, seed: int, state: TrainingState, epoch: int, pixels: np.ndarray
) -> tuple[keras.Model, np.ndarray]:
    """Returns the model of an epoch, 0 for its initial weights, and its probabilities as it is served, in float32."""
    from fmnist.models.serving import without_augmentation
    from fmnist.training.inference import probabilities

    model = _build(config, seed, "float32").model
    if epoch:
        state.restore(epoch, model)
    return model, probabilities(without_augmentation(model), pixels)


def _build(config: CrossvalConfig, seed: int, precision: str) -> Trainable:
    from fmnist.models.factory import build

    return build(
        config.model, config.hyperparameters, learning_rate=config.learning_rate, seed=seed, precision=precision
    )


# The images of this process' first task, for all its tasks of the same run: the engine keeps a copy of each object.
_images: dict[str, Images] = {}
