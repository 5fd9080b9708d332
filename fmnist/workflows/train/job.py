"""The train job: one model, data-parallel under Ray Train, from raw images to a finished run folder.

Top to bottom it is the method: `train` prepares the images, puts them into the object store once, lets `fit` run
`train_worker` on every worker, and turns what comes back into artifacts. The loop itself is `fmnist.training.engine`.
"""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.util.queue import Queue

from fmnist.data import Images
from fmnist.data.preparation import PreparedData, prepare
from fmnist.distributed import cluster
from fmnist.distributed.events import open_events
from fmnist.distributed.session import Session, run_on_ray
from fmnist.distributed.spaces import check_model
from fmnist.distributed.workers import Schedule, join, restore_best, run_workers, train_epochs
from fmnist.errors import TrainingError
from fmnist.runs import CHECKPOINTS, RunFolder
from fmnist.runs.lifecycle import is_done, open_run
from fmnist.training import devices
from fmnist.training.history import History
from fmnist.training.progress import EpochProgress
from fmnist.workflows.train.config import TRAIN, TrainConfig
from fmnist.workflows.train.outcome import TrainOutcome


@dataclass(frozen=True)
class WorkerTask:
    """What every worker is told. The images are references into the object store, which a worker maps, not copies.

    Attributes:
        config: of the job.
        cpus: processors of this worker.
        train_images, val_images, test_images: references to `Images`.
        events: where rank 0 says what has happened, for the driver to show.
    """

    config: TrainConfig
    cpus: float
    train_images: ray.ObjectRef
    val_images: ray.ObjectRef
    test_images: ray.ObjectRef
    events: Queue


def train(config: TrainConfig) -> RunFolder:
    """Runs the train job.

    Args:
        config: the job's settings.

    Returns:
        The finished run folder.

    Raises:
        UserError: if data, store, run id or resources are not as they must be; nothing has been trained then.
        TrainingError: if training cannot go on; the run folder keeps the last good checkpoint.
    """
    run = open_run(TRAIN, config)
    if not is_done(run, config):
        run_on_ray(run, config, prepare, _train)
    return run


def _train(session: Session[TrainConfig, PreparedData]) -> None:
    """Trains, and writes the results."""
    config, resources = session.config, session.resources
    cpus = cluster.cpus_per_worker(resources, config.workers, config.cpus_per_worker, config.gpus_per_worker)
    session.note(f"Ray: {resources}; workers: {config.workers} of {cpus:g} CPUs, {config.gpus_per_worker:g} GPUs")
    check_model(config.model, config.hyperparameters)
    # Imported here: Matplotlib takes a second, and settings are checked before.
    from fmnist.report.data_plots import draw_data

    started_run = session.begin(draw_data)
    outcome = fit(config, session.run, session.data, cpus)

    from fmnist.workflows.train.results import write_train_results

    write_train_results(started_run, config, outcome)


def fit(config: TrainConfig, run: RunFolder, data: PreparedData, cpus: float) -> TrainOutcome:
    """Trains on the cluster and returns what rank 0 brings back."""
    events = open_events()
    task = WorkerTask(config, cpus, ray.put(data.train), ray.put(data.val), ray.put(data.test), events)
    with EpochProgress(config.epochs) as progress:
        outcome, restarts = run_workers(
            train_worker,
            task,
            scale=config,
            cpus=cpus,
            run=run,
            checkpoints=CHECKPOINTS,
            events=events,
            progress=progress,
        )
    if outcome.failure:
        raise TrainingError(
            f"run {run.run_id}: {outcome.failure}; its last good checkpoint is epoch {outcome.history.epochs}"
        )
    return replace(outcome, restarts=restarts)


def train_worker(settings: dict[str, Any]) -> TrainOutcome | None:
    """What each worker process runs; rank 0 returns the outcome."""
    # TensorFlow and Keras are imported here and not above: the driver never needs them.
    task: WorkerTask = settings["task"]
    config = task.config
    shard = join(task.cpus)
    from fmnist.models.factory import build
    from fmnist.models.schedules import spread_over

    precision = devices.resolve_precision(config.precision)
    built = build(
        config.model,
        config.hyperparameters,
        learning_rate=config.learning_rate,
        seed=config.seed,
        precision=precision,
    )
    train_images = _mapped(task.train_images)
    batch_size = int((config.hyperparameters or {}).get("batch_size", config.batch_size))
    spread_over(built.optimizer, math.ceil(len(train_images) / batch_size) * config.epochs)
    schedule = Schedule(config.epochs, batch_size, config.seed, config.patience, config.xla)
    history, failure = train_epochs(built, train_images, _mapped(task.val_images), schedule, shard, task.events)
    if shard.rank != 0:
        return None
    return TrainOutcome(history, precision, failure=failure) if failure else _outcome(task, history, precision)


def _outcome(task: WorkerTask, history: History, precision: str) -> TrainOutcome:
    """Takes the best epoch's weights, saves the model as it will be served, and uses the test images, once."""

    from fmnist.models.factory import build
    from fmnist.models.serving import without_augmentation
    from fmnist.training.inference import load_model, probabilities

    config = task.config
    # Served in float32 whatever it was trained in: the weights are float32, and not every processor knows bfloat16.
    model = build(
        config.model,
        config.hyperparameters,
        learning_rate=config.learning_rate,
        seed=config.seed,
        precision="float32",
    ).model
    restore_best(model)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.keras"
        without_augmentation(model).save(path)
        saved = load_model(path)
        began = time.perf_counter()
        return TrainOutcome(
            history,
            precision,
            model=path.read_bytes(),
            parameters=model.count_params(),
            test_probabilities=probabilities(saved, _mapped(task.test_images).pixels),
            evaluation_seconds=time.perf_counter() - began,
            devices=devices.device_names(),
        )


def _mapped(reference: ray.ObjectRef) -> Images:
    """The images behind a reference: arrays that point into this node's object store."""
    images: Images = ray.get(reference)
    return images
