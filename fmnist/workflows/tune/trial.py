"""One trial of a search, as Ray Tune runs it: an actor that trains trial after trial, one epoch per step.

A trial writes its state (the weights after its last epoch, and the rows of all epochs) to the run folder before it
reports to Tune. A trial that resumes, after a pause, a crash or the loss of the whole cluster, first reports the epochs
of that state again, at no cost, and then trains from the weights. So a resumed search trains no epoch twice, and
Hyperband, which waits for all trials that it compares, makes the same decisions again.
"""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune

from fmnist import clock
from fmnist.config import batch_size_of
from fmnist.data import Images
from fmnist.distributed.checkpoints import TrainingState
from fmnist.distributed.spaces import Point
from fmnist.errors import FmnistError, TrainingError
from fmnist.runs import TRIALS, RunFolder
from fmnist.training import devices
from fmnist.training.history import History
from fmnist.workflows.tune.config import TuneConfig
from fmnist.workflows.tune.hyperband import stretch

# Trials are compared by their best epoch, not their last one, because a training keeps the best epoch's weights.
OBJECTIVE = "best_val_accuracy"
# Why a trial failed that fails whenever it is started: it diverged, or its model cannot be kept.
FAILURE = "failure"
# Whether it ended because the search's time is over.
OUT_OF_TIME = "out_of_time"


@dataclass(frozen=True)
class SearchTask:
    """What all trials have in common. Images are references, which a process maps and does not copy."""

    config: TuneConfig
    run: RunFolder  # where trials keep their state
    train_images: ray.ObjectRef
    val_images: ray.ObjectRef
    deadline: float | None = None  # after which no epoch begins, seconds since the epoch


class SearchTrial(tune.Trainable):
    """Ray Tune's interface to a trial. Its config has its number ``trial``, from 1, and its ``point``."""

    def setup(self, config: dict[str, Any], task: SearchTask) -> None:
        self.task = task
        self._images: tuple[Images, Images] | None = None
        self._lanes = 1
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        # Nothing here may fail: Tune does not restart a trial that fails before its first step.
        # Tune changes to a folder of the trial; a builder may open files relative to where the job was started.
        os.chdir(os.environ.get("TUNE_ORIG_WORKING_DIR", "."))
        self.number = new_config["trial"]
        self.point = Point(**new_config["point"])
        self.state = trial_state(self.task.run, self.number, self.point.values)
        self.known: History | None = None
        self._epochs: Iterator[History] | None = None
        self._notes: list[str] = []
        return True

    def step(self) -> dict[str, Any]:
        try:
            return self._step(self.iteration)
        except FmnistError:
            raise
        except Exception as error:
            # The driver may not be able to unpickle the error, and Tune would then end the whole search.
            traceback.print_exc()
            raise TrainingError(f"{type(error).__name__}: {error}") from None

    def _step(self, done: int) -> dict[str, Any]:
        if self.known is None:
            self.known = self.state.history(self._notes.append)
        if done >= self.known.epochs:
            # Here and not in the driver: a search that resumes after its time shall still report what it has trained.
            if self.task.deadline is not None and clock.now() >= self.task.deadline:
                accuracy = self.known.best["val_accuracy"] if self.known.rows else 0.0
                return {"rows": self.known.rows, OBJECTIVE: accuracy, OUT_OF_TIME: True, tune.result.DONE: True}
            try:
                if self.point.problem:
                    raise TrainingError(self.point.problem)
                self._epochs = self._epochs or self._begin(self.known)
                self.known = next(self._epochs)
            except TrainingError as error:
                # Not raised: Tune would start the trial again, in a new process, and it would fail again.
                return {"rows": self.known.rows, OBJECTIVE: 0.0, FAILURE: str(error), tune.result.DONE: True}
        history = History(self.known.rows[: done + 1])
        ends = history.epochs >= self.task.config.max_epochs or history.should_stop(self.task.config.patience)
        # Not the epochs that it has trained beyond: only those that the search decided on count, so that a search that
        # was interrupted while it went another way, because a trial had failed, has the results of an undisturbed one.
        notes, self._notes = self._notes, []
        return {"rows": history.rows, OBJECTIVE: history.best["val_accuracy"], tune.result.DONE: ends, "notes": notes}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        # Tune requests one before a pause. The state is in the run folder already.
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        pass

    def cleanup(self) -> None:
        self._epochs = None

    def _begin(self, known: History) -> Iterator[History]:
        """Builds the model, restores its state if it has one, and returns the history after each epoch that follows."""
        config = self.task.config
        if self._images is None:
            # Before TensorFlow's first operation, and only to train: reporting known epochs does not need TensorFlow.
            self._lanes = devices.configure_tensorflow(config.cpus_per_trial, deterministic=config.deterministic)
            self._images = ray.get(self.task.train_images), ray.get(self.task.val_images)
        train_images, val_images = self._images
        import keras

        from fmnist.models.factory import build
        from fmnist.training import engine

        # The last trial's model and optimizer are in reference cycles, which only the garbage collector frees.
        self.model = self.optimizer = None
        keras.backend.clear_session(free_memory=False)
        gc.collect()
        # The remaining objects are TensorFlow's; without freezing them each collection takes a quarter of a second.
        gc.freeze()

        built = build(config.space, self.point.values, learning_rate=0.0, seed=config.seed, precision=config.precision)
        self.model, self.optimizer = built.model, built.optimizer
        last = self.state.resume(known, built.model, built.optimizer, self._notes.append)
        batch_size = batch_size_of(self.point.values, default=config.batch_size)
        epochs = engine.train(
            built.model,
            built.loss,
            built.optimizer,
            train_images,
            val_images,
            batch_size=batch_size,
            epochs=config.max_epochs,
            seed=config.seed,
            first_epoch=last + 1,
            shard=engine.Shard(lanes=self._lanes),
            # A trial that is paused is built anew.
            xla=devices.resolve_xla(
                config.xla,
                images=len(train_images),
                batch_size=batch_size,
                epochs=epochs_in_a_row(config, self.number, last),
            ),
            note=self._notes.append,
        )
        return self.state.train(known, epochs, built.model, built.optimizer)


def epochs_in_a_row(config: TuneConfig, trial: int, done: int = 0) -> int:
    """Returns how many epochs a trial that has trained ``done`` trains before it is compared with others."""
    # ASHA stops most trials after their first epoch.
    return stretch(config.max_epochs, config.factor, trial, done) if config.scheduler == "hyperband" else 1


def trial_state(run: RunFolder, trial: int, parameters: dict[str, Any]) -> TrainingState:
    """Returns a trial's state in the run folder: ``trials/NUMBER/state.json`` and the weights of its last epoch.

    One of other parameters, such as those that an earlier version drew for the same number, is not used.
    """
    return TrainingState(run, f"{TRIALS}/{trial:04d}", parameters)
