"""One trial of a search, as Ray Tune runs it: an actor that trains trial after trial, an epoch a step.

What a trial has reported is in the run folder before Tune hears of it: the weights of its last epoch, and the rows of
all of them. A trial that goes on, after a pause, a crash, or the death of the whole cluster, first reports again what
is there, at no cost, and then trains from the weights. So a search that is started again trains nothing twice, and
Hyperband, which waits for all that it compares, comes to the same decisions.
"""

from __future__ import annotations

import gc
import math
import os
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from fmnist.data import Images
from fmnist.distributed.checkpoints import TrainingState
from fmnist.errors import FmnistError, TrainingError
from fmnist.models.hyperparameters import Space, active_values
from fmnist.runs import TRIALS, RunFolder
from fmnist.training import devices
from fmnist.training.history import History
from fmnist.workflows.tune.config import TuneConfig

if TYPE_CHECKING:
    from fmnist.training.engine import EpochResult

# What trials are compared by. The best epoch's and not the last one's, because the best one is what would be kept.
OBJECTIVE = "best_val_accuracy"


@dataclass(frozen=True)
class SearchTask:
    """What every trial's process is told.

    Attributes:
        config: of the job.
        space: the search space, as `fmnist.models.hyperparameters.discover` returns it.
        run: where trials keep their state.
        train_images, val_images: references to `Images`, which a process maps, not copies.
    """

    config: TuneConfig
    space: Space
    run: RunFolder
    train_images: ray.ObjectRef
    val_images: ray.ObjectRef


class SearchTrial(tune.Trainable):
    """Ray Tune's interface to a trial."""

    def setup(self, config: dict[str, Any], task: SearchTask) -> None:
        self.task = task
        self._images: tuple[Images, Images] | None = None
        self._lanes = 1
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        # Nothing here may fail: Tune does not start a trial again that fails before its first step.
        # Tune changes to a folder of the trial; a builder may open files where the job was started.
        os.chdir(os.environ.get("TUNE_ORIG_WORKING_DIR", "."))
        self.parameters = active_values(self.task.space, new_config)
        self.state = trial_state(self.task.run, trial_number(self.trial_id), self.parameters)
        self.known: History | None = None
        self._epochs: Iterator[EpochResult] | None = None
        return True

    def step(self) -> dict[str, Any]:
        try:
            return self._step(self.iteration)
        except FmnistError:
            raise
        except Exception as error:
            # The driver may not know the error's class, and Tune would end the whole search over it.
            traceback.print_exc()
            raise TrainingError(f"{type(error).__name__}: {error}") from None

    def _step(self, done: int) -> dict[str, Any]:
        known = self.state.history() if self.known is None else self.known
        self.known = known if done < known.epochs else self._train_an_epoch(known)
        history = History(self.known.rows[: done + 1])
        ends = history.epochs >= self.task.config.max_epochs or history.should_stop(self.task.config.patience)
        return {"rows": self.known.rows, OBJECTIVE: history.best["val_accuracy"], tune.result.DONE: ends}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        # Tune asks for one before a pause. The state is in the run folder already.
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        pass

    def cleanup(self) -> None:
        self._epochs = None

    def _train_an_epoch(self, known: History) -> History:
        if self._epochs is None:
            self._epochs = self._begin(known)
        result = next(self._epochs)
        known = known.add(result.row())
        self.state.save(self.model, self.optimizer, known)
        return known

    def _begin(self, known: History) -> Iterator[EpochResult]:
        """Builds the model, or what it was after its last epoch, and returns its next epochs."""
        config = self.task.config
        if self._images is None:
            # Before TensorFlow's first operation, and only where something is trained: replaying needs none of it.
            self._lanes = devices.configure_tensorflow(config.cpus_per_trial)
            self._images = ray.get(self.task.train_images), ray.get(self.task.val_images)
        train_images, val_images = self._images
        import keras

        from fmnist.models.factory import build
        from fmnist.models.schedules import spread_over
        from fmnist.training import engine

        # The last trial's model and optimizer are in cycles, which stay until Python looks for them.
        self.model = self.optimizer = None
        keras.backend.clear_session(free_memory=False)
        gc.collect()
        # What is left now is TensorFlow's own, and takes a quarter of a second to look through.
        gc.freeze()

        precision = devices.resolve_precision(config.precision)
        built = build(config.space, self.parameters, learning_rate=0.0, seed=config.seed, precision=precision)
        self.model, self.optimizer = built.model, built.optimizer
        batch_size = int(self.parameters.get("batch_size", config.batch_size))
        spread_over(built.optimizer, math.ceil(len(train_images) / batch_size) * config.max_epochs)
        if known.epochs:
            self.state.restore(known.epochs, built.model, built.optimizer)
        return engine.train(
            built.model,
            built.loss,
            built.optimizer,
            train_images,
            val_images,
            batch_size=batch_size,
            epochs=config.max_epochs,
            seed=config.seed,
            first_epoch=known.epochs + 1,
            shard=engine.Shard(lanes=self._lanes),
            xla=devices.resolve_xla(config.xla),
        )


def trial_state(run: RunFolder, number: int, parameters: dict[str, Any]) -> TrainingState:
    """What the run folder knows of a trial: ``trials/NUMBER/state.json`` and the weights that it names."""
    return TrainingState(run, f"{TRIALS}/{number:04d}", parameters)


def trial_number(trial_id: str) -> int:
    """Tune's id of a trial, which ends in its place from 0, as its number from 1."""
    return int(trial_id.rsplit("_", 1)[1]) + 1
