"""Data-parallel training with Ray Train, as in the jobs train, tune and transfer.

The driver calls `run_workers`; each worker calls `join` before anything else of TensorFlow, then `train_epochs`.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import ray
import ray.train
from ray.train.collective import broadcast_from_rank_zero
from ray.util.queue import Queue

from fmnist.boundary import lasting
from fmnist.config import worker_range
from fmnist.console import plural
from fmnist.distributed.events import listen, post
from fmnist.distributed.snapshots import drop_damaged, fetched
from fmnist.distributed.trainer import WORKERS_ENDED, WORKERS_STARTED, StrategyTrainer
from fmnist.distributed.waiting import READY_SECONDS, SLOW_SECONDS, reason_in_logs, room_limit, to_start
from fmnist.errors import LeaseError, TrainingError, UserError, first_line
from fmnist.runs import RunFolder
from fmnist.runs.lifecycle import OpenedRun
from fmnist.storage.arrow import store_filesystem, upload_folder
from fmnist.training import devices
from fmnist.training.history import History, Row
from fmnist.training.progress import Progress
from fmnist.waiting import Wait

if TYPE_CHECKING:
    import keras

    from fmnist.models.compiled import Trainable
    from fmnist.training.engine import Shard
    from fmnist.training.examples import Examples

Outcome = TypeVar("Outcome")

# In environment.json, the lanes of all workers together.
LANES = "lanes"

# The least time between two changes of the number of workers, since each starts their processes anew.
RESIZE_SECONDS = 60.0


class Scale(Protocol):
    """A job's settings of workers."""

    @property
    def workers(self) -> int | str: ...
    @property
    def gpus_per_worker(self) -> float: ...
    @property
    def max_failures(self) -> int: ...


@dataclass(frozen=True)
class Schedule:
    """How long to train, and in which order of the images.

    Attributes:
        epochs: number of the last epoch.
        batch_size: images a step, over all workers together.
        seed: of the order of the images.
        patience: training stops after this many epochs without a lower validation loss; 0 never stops early.
        xla: whether to compile with XLA, as `devices.resolve_xla` takes it.
        checkpoint_suffix: of the names of checkpoints.
    """

    epochs: int
    batch_size: int
    seed: int
    patience: int
    xla: Literal["auto", "on", "off"]
    checkpoint_suffix: str = ""


def run_workers(
    worker: Callable[[dict[str, Any]], Outcome | None],
    task: object,
    *,
    scale: Scale,
    cpus: float,
    run: RunFolder,
    checkpoints: str,
    events: Queue,
    progress: Progress,
) -> tuple[Outcome, int]:
    """Runs a function on the workers; restarts all of them after a failure, or when their number changes.

    Args:
        worker: gets ``{"task": task}``; what it returns on rank 0 is the outcome.
        task: argument of every worker; plain data and references into the object store.
        scale: how many workers or a range of it, their GPUs, and how often they may fail.
        cpus: processors of a worker.
        run, checkpoints: a folder of the run that keeps the checkpoints; training resumes from the last one in it.
        events: where rank 0 posts its history at each start, and each epoch.
        progress: shows these events.

    Returns:
        The outcome, and how often the workers were restarted.

    Raises:
        LeaseError: if another process has taken the run over.
        TrainingError: if a worker ended with another `FmnistError`, or workers were lost more often than
            ``max_failures``.
    """
    filesystem, path = store_filesystem(run.store)
    folder, _, name = f"{run.run_id}/{checkpoints}".rpartition("/")
    least, most = worker_range(scale.workers)
    shown = _Shown(progress, scale, cpus)
    trainer = StrategyTrainer(
        worker,
        events=events,
        epochs=progress.total,
        look=shown.look,
        train_loop_config={"task": task},
        scaling_config=ray.train.ScalingConfig(
            num_workers=(least, most) if least < most else most,
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
            use_gpu=scale.gpus_per_worker > 0,
            resources_per_worker={"CPU": cpus, **({"GPU": scale.gpus_per_worker} if scale.gpus_per_worker else {})},
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=f"{path}/{folder}",
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(max_failures=scale.max_failures),
            # Ray Train also keeps the latest checkpoint.
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="val_accuracy"),
        ),
    )
    drop_damaged(run, checkpoints, progress.note)
    with listen(events, shown.show):
        try:
            outcome: Outcome = trainer.fit().return_value
        except ray.train.TrainingFailedError as error:
            known = lasting(error)
            if isinstance(known, LeaseError):
                raise known from None
            if known:
                raise TrainingError(f"run {run.run_id}: {known}") from error
            if lost := _lost_worker(error):
                raise TrainingError(
                    f"run {run.run_id}: {lost}, once more than max_failures {scale.max_failures} allows; the epochs "
                    "that were reported are kept, and the same command with this --run-id resumes from them"
                ) from error
            raise
    return outcome, shown.starts - 1


def keep_lanes(opened: OpenedRun, scale: Scale, cpus: float, wanted: int | Literal["auto"] = "auto") -> int:
    """Returns the number of lanes of all workers together: those that the run was started with, if it goes on.

    The order in which a step's gradients are summed follows from it, and so do the last digits of all numbers.

    Args:
        wanted: the setting; ``"auto"`` is one for each processor or GPU of the greatest number of workers.

    Raises:
        UserError: if there are fewer than workers.
    """
    _, most = worker_range(scale.workers)
    each = 1 if scale.gpus_per_worker else max(1, math.floor(cpus))
    # At least two for a single worker, so that it computes the same numbers as two workers of one processor.
    now = most * each if scale.gpus_per_worker else max(2, most * each)
    lanes: int = opened.fact(LANES) or (now if wanted == "auto" else wanted)
    if lanes < most:
        raise UserError(f"workers: found {scale.workers}, expected at most {lanes}, the number of the run's lanes")
    return lanes


def join(cpus: float, lanes: int, *, deterministic: bool) -> Shard:
    """Connects a worker of ``cpus`` processors with the others, before anything else uses TensorFlow.

    Workers of one machine that have no GPUs exchange in memory that they share. Others do by TensorFlow's strategy,
    whose server in each worker listens at all addresses.

    Returns its shard, with its share of the ``lanes`` of all workers. ``deterministic`` is as in
    `devices.configure_tensorflow`.
    """
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    devices.configure_tensorflow(cpus, deterministic=deterministic)
    import tensorflow as tf

    # The same answer on all workers. Linux alone has memory without a name.
    together = context.get_local_world_size() == workers and sys.platform == "linux"
    together = together and not tf.config.list_physical_devices("GPU")
    # The strategy must be the first to use TensorFlow: it starts the server.
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if workers > 1 and not together else None
    from fmnist.training import shared_memory
    from fmnist.training.sharding import Shard, gather_over

    if strategy:
        return Shard(lanes, rank, workers, gather_over(strategy))
    gather = shared_memory.connect(rank, workers, broadcast_from_rank_zero) if workers > 1 else None
    return Shard(lanes, rank, workers, gather)


def train_epochs(
    built: Trainable, train: Examples, val: Examples, schedule: Schedule, shard: Shard, events: Queue
) -> tuple[History, str | None]:
    """Trains on this worker's shard from the last checkpoint; rank 0 saves a checkpoint after every epoch.

    Args:
        built: model, loss and optimizer; trained in place.
        train, val: the same on every worker.
        shard: of this worker.
        events: where rank 0 posts the history at the start, and each epoch.

    Returns:
        Every epoch, including those before a restart; and why training failed, or None.
    """
    from fmnist.training import checkpoint, engine

    history = History()
    if latest := ray.train.get_checkpoint():
        with fetched(latest) as folder:
            history = checkpoint.restore(folder, built.model, built.optimizer)
    xla = devices.resolve_xla(schedule.xla, images=len(train), batch_size=schedule.batch_size, epochs=schedule.epochs)
    if shard.rank == 0:
        post(events, history)
        if line := _other_workers(history, shard.workers, xla=xla):
            post(events, line)
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
        xla=xla,
        note=lambda line: post(events, line) if shard.rank == 0 else None,
    )
    try:
        for result in epochs:
            row = {**result.row(), "workers": shard.workers}
            history = history.add(row)
            with tempfile.TemporaryDirectory() as folder:
                if shard.rank == 0:
                    checkpoint.save(Path(folder), built.model, built.optimizer, history)
                ray.train.report(
                    row,
                    checkpoint=ray.train.Checkpoint(folder) if shard.rank == 0 else None,
                    checkpoint_dir_name=f"epoch-{result.epoch:04d}{schedule.checkpoint_suffix}",
                    checkpoint_upload_fn=_upload,
                )
            if shard.rank == 0:
                post(events, row)
            if history.should_stop(schedule.patience):
                break
    except TrainingError as error:
        # Not raised: Ray Train would restart the workers, and they would fail again at the same step.
        return history, str(error)
    return history, None


def _other_workers(history: History, workers: int, *, xla: bool) -> str | None:
    """Says that other than so many workers have trained the last epoch, and what follows; None if the same did."""
    if not history.rows or history.rows[-1].get("workers", workers) == workers:
        return None
    line = f"{plural(workers, 'worker')} from epoch {history.epochs + 1} on"
    # Each compiles another program, whose sums may have another order.
    return f"{line}; with XLA, the last digits of the numbers may differ from then on" if xla else line


def _upload(checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
    """Stores a checkpoint as Ray Train would, but an upload that fails is an error."""
    storage = ray.train.get_context().get_storage()
    path = f"{storage.experiment_fs_path}/{name}"
    upload_folder(Path(checkpoint.path), storage.storage_filesystem, path)
    return ray.train.Checkpoint(path, storage.storage_filesystem)


def restore_best(model: keras.Model) -> None:
    """Loads the weights of the best epoch, as `History.best` defines it."""
    from fmnist.training import checkpoint

    reported = ray.train.get_all_reported_checkpoints()
    best = History(tuple(known.metrics for known in reported)).best["epoch"]
    kept = next(known.checkpoint for known in reported if known.metrics["epoch"] == best)
    with fetched(kept) as folder:
        checkpoint.restore(folder, model)


class _Shown:
    """Shows the workers' events, and what is waited for while there are none.

    Attributes:
        starts: how often the workers began to train.
    """

    def __init__(self, progress: Progress, scale: Scale, cpus: float) -> None:
        self.starts = 0
        self._progress = progress
        (workers, _), gpus = worker_range(scale.workers), scale.gpus_per_worker
        self._room = Wait(
            progress.note,
            lambda: to_start(workers, "worker", cpus, gpus),
            limit=lambda: room_limit(workers * cpus, workers * gpus),
            reason=reason_in_logs,
        )
        self._ready = Wait(
            progress.note,
            lambda: f"{plural(workers, 'worker')} that started, to import TensorFlow and to connect with each other",
            first=SLOW_SECONDS,
            limit=lambda: READY_SECONDS,
        )
        self._wait: Wait | None = self._room

    def look(self) -> None:
        """Shows what is waited for, if it takes long. Called by another thread than `show`."""
        if wait := self._wait:
            wait.look()

    def show(self, event: History | Row | str) -> None:
        if isinstance(event, str):
            if wait := {WORKERS_STARTED: self._ready, WORKERS_ENDED: self._room}.get(event):
                wait.progressed()
                self._wait = wait
            else:
                self._progress.note(event)
            return
        self._wait = None
        if not isinstance(event, History):
            self._progress.epoch(event)
            return
        self.starts += 1
        self._progress.publish({"restarts": self.starts - 1})
        if event.epochs:
            self._progress.note(f"resumed after epoch {event.epochs}")
        elif self.starts > 1:
            self._progress.note("workers started again")


def _lost_worker(error: ray.train.TrainingFailedError) -> str | None:
    """Says which worker's process was lost, and how; None if none was."""
    lost = (ray.exceptions.RayActorError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError)
    for rank, failure in sorted(getattr(error, "worker_failures", {}).items()):
        cause = getattr(failure, "health_check_failure", None)
        if isinstance(cause, lost):
            return f"worker {rank} was lost ({first_line(cause).rstrip('.')})"
    return None
