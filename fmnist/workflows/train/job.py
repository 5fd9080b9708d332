"""The train job: one model, data-parallel under Ray Train, from raw images to a finished run folder.

In the order of the work: `train` prepares the images, `fit` puts them into the object store once and runs
`train_worker` on every worker, and `fmnist.workflows.train.results` writes the artifacts. The training loop is
`fmnist.training.engine`.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.util.queue import Queue

from fmnist.config import batch_size_of
from fmnist.data import Images
from fmnist.data.preparation import PreparedData, prepare
from fmnist.distributed import cluster
from fmnist.distributed.events import open_events
from fmnist.distributed.session import Session, run_on_ray
from fmnist.distributed.spaces import check_model
from fmnist.distributed.workers import LANES, Schedule, join, keep_lanes, restore_best, run_workers, train_epochs
from fmnist.errors import TrainingError, first_line
from fmnist.runs import CHECKPOINTS, RunFolder
from fmnist.runs.lifecycle import open_run
from fmnist.training import devices
from fmnist.training.history import History
from fmnist.training.progress import Progress
from fmnist.workflows.train.config import TRAIN, TrainConfig

if TYPE_CHECKING:
    from fmnist.models.compiled import Trainable


@dataclass(frozen=True)
class WorkerTask:
    """The task of every worker. Workers map the images from the object store; they do not copy them."""

    config: TrainConfig
    cpus: float  # processors of each worker
    lanes: int  # of all workers together
    train_images: ray.ObjectRef
    val_images: ray.ObjectRef
    test_images: ray.ObjectRef
    events: Queue  # where rank 0 posts its progress, for the driver to display
    checkpoint_suffix: str  # of the names of checkpoints


@dataclass(frozen=True)
class TrainOutcome:
    """The result of a training, as rank 0 returns it to the driver."""

    history: History  # every epoch of the run, those before a restart included
    precision: str  # of the products, float32 or bfloat16
    model: bytes = b""  # the content of model.keras, with the best epoch's weights
    parameters: int = 0  # number of the model's parameters
    test_probabilities: np.ndarray | None = None  # float32 [n, 10], of the saved model for the raw test images
    evaluation_seconds: float = 0.0  # wall time of that prediction
    devices: tuple[str, ...] = ()
    restarts: int = 0  # of the workers
    failure: str | None = None  # why this model cannot be trained or kept; only history and precision are set then


def train(config: TrainConfig, resources: cluster.Resources | None = None) -> RunFolder:
    """Runs the train job and returns the finished run folder; arguments as in `fmnist.config.Job`.

    Raises:
        UserError: if data, store, run id, model or resources are wrong; nothing has been trained then.
        TrainingError: if training cannot continue; the run folder keeps the last good checkpoint.
    """
    with open_run(TRAIN, config) as opened:
        if not opened.done:
            run_on_ray(opened, config, prepare, _train, resources)
    return opened.folder


def _train(session: Session[TrainConfig, PreparedData]) -> None:
    config, resources = session.config, session.resources
    cpus = cluster.cpus_per_worker(resources, config.workers, config.cpus_per_worker, config.gpus_per_worker)
    lanes, suffix = keep_lanes(session.opened, config, cpus, config.lanes), session.opened.checkpoint_suffix
    # Recorded as asked for, so that a resumed run takes what there is then.
    recorded = replace(session, config=replace(config, lanes=lanes))
    config = replace(config, workers=cluster.workers_now(resources, config.workers, cpus, config.gpus_per_worker))
    session.note(f"Ray: {resources}; workers: {config.workers} of {cpus:g} CPUs, {config.gpus_per_worker:g} GPUs")
    check_model(config.model, config.hyperparameters)
    # Imported here: Matplotlib takes a second, and settings are checked before.
    from fmnist.report.data_plots import draw_data

    started_run = recorded.begin(draw_data, facts={LANES: lanes})
    outcome = fit(session, config, cpus, lanes, suffix)
    if outcome.failure:
        epochs, text = outcome.history.epochs, f"run {session.run.run_id}: {outcome.failure}"
        if not epochs:
            raise TrainingError(text)
        raise TrainingError(
            f"{text}; its last good checkpoint is epoch {epochs}, and the same command with this --run-id and "
            f"--epochs {epochs} finishes the run with the best of these epochs"
        )

    from fmnist.workflows.train.results import write_train_results

    write_train_results(started_run, config, outcome)


def fit(
    session: Session[Any, PreparedData], config: TrainConfig, cpus: float, lanes: int, checkpoint_suffix: str = ""
) -> TrainOutcome:
    """Trains with ``config`` on the session's images and returns the outcome of rank 0, which may be a failure of this
    model.

    Each worker has ``cpus`` processors, and its share of the ``lanes``. The names of the checkpoints end with
    ``checkpoint_suffix``. Raises a TrainingError if workers were lost too often.
    """
    events = open_events()
    data = session.data
    images = ray.put(data.train), ray.put(data.val), ray.put(data.test)
    task = WorkerTask(config, cpus, lanes, *images, events, checkpoint_suffix)
    with Progress("training", config.epochs, "epochs", publish=session.publish) as progress:
        outcome, restarts = run_workers(
            train_worker,
            task,
            scale=config,
            cpus=cpus,
            run=session.run,
            checkpoints=CHECKPOINTS,
            events=events,
            progress=progress,
        )
    return replace(outcome, restarts=restarts)


def train_worker(settings: dict[str, Any]) -> TrainOutcome | None:
    """Runs in each worker process; rank 0 returns the outcome."""
    # TensorFlow and Keras are imported here and not above: the driver does not need them.
    task: WorkerTask = settings["task"]
    config = task.config
    shard = join(task.cpus, task.lanes, deterministic=config.deterministic)
    precision = config.precision
    built = _build(config, precision)
    batch_size = batch_size_of(config.hyperparameters, default=config.batch_size)
    schedule = Schedule(config.epochs, batch_size, config.seed, config.patience, config.xla, task.checkpoint_suffix)
    images: tuple[Images, Images] = ray.get(task.train_images), ray.get(task.val_images)
    history, failure = train_epochs(built, *images, schedule, shard, task.events)
    if shard.rank != 0:
        return None
    return TrainOutcome(history, precision, failure=failure) if failure else _outcome(task, history, precision)


def _build(config: TrainConfig, precision: str) -> Trainable:
    from fmnist.models.factory import build

    return build(
        config.model, config.hyperparameters, learning_rate=config.learning_rate, seed=config.seed, precision=precision
    )


def _outcome(task: WorkerTask, history: History, precision: str) -> TrainOutcome:
    """Saves the model with the best epoch's weights, and predicts the test images with the saved model, once."""
    from fmnist.models.serving import without_augmentation
    from fmnist.training.inference import load_model, probabilities

    test_images: Images = ray.get(task.test_images)
    # Saved in float32 whatever it was trained in: the weights are float32, and not every processor has bfloat16.
    model = _build(task.config, "float32").model
    restore_best(model)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.keras"
        try:
            without_augmentation(model).save(path)
            saved = load_model(path)
        except Exception as error:
            return TrainOutcome(
                history, precision, failure=f"its model cannot be saved and loaded: {first_line(error)}"
            )
        began = time.perf_counter()
        return TrainOutcome(
            history,
            precision,
            model=path.read_bytes(),
            parameters=model.count_params(),
            test_probabilities=probabilities(saved, test_images.pixels),
            evaluation_seconds=time.perf_counter() - began,
            devices=devices.device_names(),
        )
