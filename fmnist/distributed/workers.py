"""Data-parallel training under Ray Train: what jobs that train on several workers have in common.

The driver calls `run_workers`; each worker calls `join` before anything else of TensorFlow, then `train_epochs`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import ray
import ray.train
from ray.util.queue import Queue

from fmnist.distributed.events import shown, tell
from fmnist.distributed.trainer import StrategyTrainer
from fmnist.errors import TrainingError, first_line
from fmnist.runs import RunFolder
from fmnist.storage.arrow import store_filesystem
from fmnist.training import devices
from fmnist.training.history import History
from fmnist.training.progress import EpochProgress

if TYPE_CHECKING:
    import keras

    from fmnist.models.compiled import Trainable
    from fmnist.training.engine import Examples, Shard

Outcome = TypeVar("Outcome")


class Scale(Protocol):
    """The settings of a job that say how it is spread over a cluster."""

    @property
    def workers(self) -> int: ...
    @property
    def gpus_per_worker(self) -> float: ...
    @property
    def max_failures(self) -> int: ...


@dataclass(frozen=True)
class Schedule:
    """How long, and in which order, to train.

    Attributes:
        epochs: number of the last epoch.
        batch_size: images a step, over all workers together.
        seed: of the order of the images.
        patience: stop after this many epochs without a lower validation loss; 0 never stops early.
        xla: whether to compile the step with XLA.
    """

    epochs: int
    batch_size: int
    seed: int
    patience: int
    xla: Literal["auto", "on", "off"]


def run_workers(
    worker: Callable[[dict[str, Any]], Outcome | None],
    task: object,
    *,
    scale: Scale,
    cpus: float,
    run: RunFolder,
    checkpoints: str,
    events: Queue,
    progress: EpochProgress,
) -> tuple[Outcome, int]:
    """Runs a function on the workers, started again after a failure.

    Args:
        worker: gets ``{"task": task}``; what it returns on rank 0 is the outcome.
        task: what every worker is told; plain data and references into the object store.
        scale: how many workers, their GPUs, and how often they may fail.
        cpus: processors of each.
        run: whose folder keeps the checkpoints.
        checkpoints: where in it; what is there already is gone on from.
        events: where rank 0 says how it comes on.
        progress: shows that.

    Returns:
        The outcome, and how often the workers had to be started again.

    Raises:
        TrainingError: if a worker ended with an error for people, or workers were lost more often than they may be.
    """
    filesystem, path = store_filesystem(run.store)
    folder, _, name = f"{run.run_id}/{checkpoints}".rpartition("/")
    trainer = StrategyTrainer(
        worker,
        train_loop_config={"task": task},
        scaling_config=ray.train.ScalingConfig(
            num_workers=scale.workers,
            use_gpu=scale.gpus_per_worker > 0,
            resources_per_worker={"CPU": cpus, **({"GPU": scale.gpus_per_worker} if scale.gpus_per_worker else {})},
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=f"{path}/{folder}",
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(max_failures=scale.max_failures),
            # The latest checkpoint is kept besides the best one.
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="val_accuracy"),
        ),
    )
    with shown(events, progress) as starts:
        try:
            outcome: Outcome = trainer.fit().return_value
        except ray.train.TrainingFailedError as error:
            if known := known_cause(error):
                raise TrainingError(f"run {run.run_id}: {known}") from error
            if lost := _lost_worker(error):
                raise TrainingError(
                    f"run {run.run_id}: {lost}, once more than max_failures {scale.max_failures} allows; the epochs "
                    "that were reported are kept, and the same command with this --run-id goes on from them"
                ) from error
            raise
    return outcome, len(starts) - 1


def join(cpus: float) -> Shard:
    """Makes this process one of the workers; call it before anything else touches TensorFlow.

    Args:
        cpus: processors of this worker.

    Returns:
        Its share of each step.
    """
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    # At least two for a single worker, so that two workers of one processor compute the very numbers of one.
    lanes = devices.configure_tensorflow(cpus, least_lanes=2 if workers == 1 else 1)
    import tensorflow as tf

    from fmnist.training.engine import Shard

    # The strategy has to exist before anything else touches TensorFlow: it starts the server that the workers meet at.
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if workers > 1 else None
    return Shard(strategy, rank, workers, lanes)


def train_epochs(
    built: Trainable, train: Examples, val: Examples, schedule: Schedule, shard: Shard, events: Queue
) -> tuple[History, str | None]:
    """Trains on this worker's share, from the last checkpoint on; rank 0 leaves one after every epoch.

    Args:
        built: model, loss and optimizer; trained in place.
        train, val: the same on every worker.

    Returns:
        Every epoch, those before a restart included; and why training could not go on, or None.
    """
    from fmnist.training import checkpoint, engine

    history = History()
    if latest := ray.train.get_checkpoint():
        with latest.as_directory() as folder:
            history = checkpoint.restore(Path(folder), built.model, built.optimizer)
    if shard.rank == 0:
        tell(events, history)
    if history.should_stop(schedule.patience):
        return history, None
    epochs = engine.train(
        built.model,
        built.loss,
        built.optimizer,
        train,
        val,
        batch_size=schedule.batch_size,
        epochs=schedule.epochs,
        seed=schedule.seed,
        first_epoch=history.epochs + 1,
        shard=shard,
        xla=devices.resolve_xla(schedule.xla),
    )
    try:
        for result in epochs:
            history = history.add(result.row())
            with tempfile.TemporaryDirectory() as folder:
                if shard.rank == 0:
                    checkpoint.save(Path(folder), built.model, built.optimizer, history)
                ray.train.report(
                    result.row(),
                    checkpoint=ray.train.Checkpoint(folder) if shard.rank == 0 else None,
                    checkpoint_dir_name=f"epoch-{result.epoch:04d}",
                )
            if shard.rank == 0:
                tell(events, result.row())
            if history.should_stop(schedule.patience):
                break
    except TrainingError as error:
        # Not raised: Ray Train would start the workers anew, and they would come to the same point again.
        return history, str(error)
    return history, None


def restore_best(model: keras.Model) -> None:
    """Loads the weights of the best epoch, as `History.best` defines it."""
    from fmnist.training import checkpoint

    reported = ray.train.get_all_reported_checkpoints()
    best = History(tuple(known.metrics for known in reported)).best["epoch"]
    kept = next(known.checkpoint for known in reported if known.metrics["epoch"] == best)
    with kept.as_directory() as folder:
        checkpoint.restore(Path(folder), model)


def known_cause(error: BaseException) -> str | None:
    """The text of an error for people that a worker ended with; None for an unexpected one, whose traceback matters."""
    match = re.search(r"^fmnist\.errors\.\w+: (.+)$|MissingKeyError: (.+)$", str(error), re.MULTILINE)
    return match and next(text for text in match.groups() if text)


def _lost_worker(error: BaseException) -> str | None:
    """Which worker's process died from outside, and how; None if none did."""
    lost = (ray.exceptions.RayActorError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError)
    for rank, failure in sorted(getattr(error, "worker_failures", {}).items()):
        cause = getattr(failure, "health_check_failure", None)
        if isinstance(cause, lost):
            return f"worker {rank} was lost ({first_line(cause).rstrip('.')})"
    return None
