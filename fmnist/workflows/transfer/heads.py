"""The workers of a transfer job: train a head on features, or a backbone's last stages on images."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.util.queue import Queue

from fmnist.distributed.workers import Schedule, join, restore_best, train_epochs
from fmnist.training.history import History
from fmnist.workflows.transfer.features import Features
from fmnist.workflows.transfer.records import Phase
from fmnist.workflows.transfer.tasks import BackboneTask, load_model_bytes, load_task_backbone


@dataclass(frozen=True)
class TrainTask:
    """The argument of `train_phase`; data are references into the object store.

    Attributes:
        phase: ``frozen`` trains a new head on features, ``fine-tuned`` the backbone's last stages too, on images.
        cpus: processors of this worker.
        lanes: of all workers together.
        start: uint8 [bytes]: the backbone's weights, None for random ones; to fine-tune, the ``model.keras``.
        train, val: references to `Features`; to fine-tune, to `Images`.
        events: rank 0 posts epochs to it.
    """

    phase: Phase
    backbone: BackboneTask
    cpus: float
    lanes: int
    start: ray.ObjectRef | None
    train: ray.ObjectRef
    val: ray.ObjectRef
    events: Queue


@dataclass(frozen=True)
class TrainedModel:
    """The result of training; after a failure only history, precision and ``failure``, the reason.

    Attributes:
        precision: of the products.
        model: the content of ``model.keras``: raw images to probabilities, with the best epoch's weights.
        dead_units: share of the units of each hidden layer that are 0 for all validation images.
    """

    history: History
    precision: str
    model: bytes = b""
    parameters: int = 0
    trained_parameters: int = 0
    dead_units: tuple[float, ...] = ()
    failure: str | None = None


def train_phase(settings: dict[str, Any]) -> TrainedModel | None:
    """Trains one phase of a backbone; runs on each worker, and rank 0 returns the model."""
    task: TrainTask = settings["task"]
    config = task.backbone.config
    shard = join(task.cpus, task.lanes, deterministic=config.deterministic)
    from fmnist.models import sparse_cross_entropy
    from fmnist.models.compiled import Trainable
    from fmnist.models.optimizers import FusedAdam
    from fmnist.models.schedules import CosineWithWarmup
    from fmnist.workflows.transfer.network import dead_units, whole_model

    precision = config.precision
    train, val = ray.get(task.train), ray.get(task.val)
    rate: Any
    if task.phase == "frozen":
        model, epochs = _new_head(task, train, precision), config.epochs
        # The study's step size is constant.
        rate = CosineWithWarmup(config.learning_rate) if config.recipe == "sound" else config.learning_rate
    else:
        model, epochs = _unfrozen(task, precision), config.fine_tune_epochs
        # Large first steps would destroy the pretrained weights.
        rate = CosineWithWarmup(config.fine_tune_learning_rate, warmup=0.1)
    schedule = Schedule(epochs, config.batch_size, config.seed, config.patience, config.xla)
    built = Trainable(model, sparse_cross_entropy, FusedAdam(rate))
    history, failure = train_epochs(built, train, val, schedule, shard, task.events)
    if shard.rank != 0:
        return None
    if failure and not history.epochs:
        return TrainedModel(history, precision, failure=failure)
    # Served in float32 whatever the precision of training, as every model.
    served = _new_head(task, train, "float32") if task.phase == "frozen" else _unfrozen(task, "float32")
    restore_best(served)
    dead: tuple[float, ...] = ()
    if task.phase == "frozen":
        dead = dead_units(served, val.inputs)
        weights = None if task.start is None else ray.get(task.start)
        recipe = task.backbone.recipe
        served = whole_model(load_task_backbone(task.backbone, weights, recipe, "float32"), recipe, served)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        served.save(path)
        return TrainedModel(
            history,
            precision,
            model=path.read_bytes(),
            parameters=served.count_params(),
            trained_parameters=int(sum(np.prod(variable.shape) for variable in served.trainable_variables)),
            dead_units=dead,
            failure=failure,
        )


def _new_head(task: TrainTask, train: Features, precision: str) -> Any:
    """Returns a head for products in ``precision``, standardised to the features."""
    from fmnist.models import precision_policy
    from fmnist.workflows.transfer.network import build_head, standardise

    with precision_policy(precision):
        head = build_head(task.backbone.recipe, train.inputs.shape[1], seed=task.backbone.config.seed)
    standardise(head, train.inputs)
    return head


def _unfrozen(task: TrainTask, precision: str) -> Any:
    """Returns the model to start from, for products in ``precision``, with its last stages trainable."""
    from fmnist.models import precision_policy
    from fmnist.workflows.transfer.network import copy_weights, unfreeze, whole_model

    config, recipe = task.backbone.config, task.backbone.recipe
    backbone = load_task_backbone(task.backbone, None, recipe, precision)
    with precision_policy(precision):
        model = whole_model(backbone, recipe)
    copy_weights(load_model_bytes(ray.get(task.start)), model)
    unfreeze(model, task.backbone.backbone, recipe, config.fine_tune_stages)
    return model
