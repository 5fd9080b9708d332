"""The workers of a transfer job: train a head on features, or a backbone's last stages on images."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.util.queue import Queue

from fmnist.data import Images
from fmnist.distributed.workers import Schedule, join, restore_best, train_epochs
from fmnist.training import devices
from fmnist.training.history import History
from fmnist.workflows.transfer.config import TransferConfig
from fmnist.workflows.transfer.features import Features
from fmnist.workflows.transfer.tasks import BackboneTask, load_task_backbone


@dataclass(frozen=True)
class HeadTask:
    """The arguments of `train_head`; data are references into the object store.

    Attributes:
        backbone: that computed the features.
        cpus: processors of this worker.
        weights: reference to the backbone's weights, uint8 [bytes]; None for random ones.
        train, val: references to `Features`.
        events: rank 0 posts epochs to it.
    """

    backbone: BackboneTask
    cpus: float
    weights: ray.ObjectRef | None
    train: ray.ObjectRef
    val: ray.ObjectRef
    events: Queue


@dataclass(frozen=True)
class FineTuneTask:
    """The arguments of `fine_tune`; data are references into the object store.

    Attributes:
        backbone: of the model.
        cpus: processors of this worker.
        model: reference to the content of the ``model.keras`` to start from, uint8 [bytes].
        train, val: references to `Images`.
        events: rank 0 posts epochs to it.
    """

    backbone: BackboneTask
    cpus: float
    model: ray.ObjectRef
    train: ray.ObjectRef
    val: ray.ObjectRef
    events: Queue


@dataclass(frozen=True)
class TrainedModel:
    """The result of training.

    Attributes:
        history: every epoch.
        precision: of the products.
        model: the content of ``model.keras``: raw images to probabilities, with the best epoch's weights.
        parameters: of the model.
        trained_parameters: number of parameters that were trained.
        dead_units: share of the units of each hidden layer that are 0 for all validation images.
        failure: why training stopped, if it failed; then only `history` and `precision` are set.
    """

    history: History
    precision: str
    model: bytes = b""
    parameters: int = 0
    trained_parameters: int = 0
    dead_units: tuple[float, ...] = ()
    failure: str | None = None


def train_head(settings: dict[str, Any]) -> TrainedModel | None:
    """Trains a head while the backbone is frozen; runs on each worker, and rank 0 returns the model."""
    task: HeadTask = settings["task"]
    config, recipe = task.backbone.config, task.backbone.recipe
    shard = join(task.cpus)
    from fmnist.models import precision_policy, sparse_cross_entropy
    from fmnist.models.compiled import Trainable
    from fmnist.models.optimizers import FusedAdam
    from fmnist.models.schedules import CosineWithWarmup, spread_over
    from fmnist.workflows.transfer.network import build_head, dead_units, standardise, whole_model

    precision = devices.resolve_precision(config.precision)
    train: Features = ray.get(task.train)
    val: Features = ray.get(task.val)
    features = train.inputs.shape[1]
    with precision_policy(precision):
        head = build_head(recipe, features, seed=config.seed)
    standardise(head, train.inputs)
    # The study's step size is constant.
    rate = CosineWithWarmup(config.learning_rate) if config.recipe == "sound" else config.learning_rate
    optimizer = FusedAdam(rate)
    spread_over(optimizer, math.ceil(len(train) / config.batch_size) * config.epochs)
    built = Trainable(head, sparse_cross_entropy, optimizer)
    history, failure = train_epochs(built, train, val, _schedule(config, config.epochs), shard, task.events)
    if shard.rank != 0:
        return None
    if failure:
        return TrainedModel(history, precision, failure=failure)
    # Served in float32 whatever the precision of training, as every model.
    served = build_head(recipe, features, seed=config.seed)
    standardise(served, train.inputs)
    restore_best(served)
    weights = None if task.weights is None else ray.get(task.weights)
    backbone = load_task_backbone(task.backbone, weights, recipe, "float32")
    return _trained(history, precision, whole_model(backbone, recipe, served), dead_units(served, val.inputs))


def fine_tune(settings: dict[str, Any]) -> TrainedModel | None:
    """Trains the backbone's last stages and the head; runs on each worker, and rank 0 returns the model."""
    task: FineTuneTask = settings["task"]
    config = task.backbone.config
    shard = join(task.cpus)
    from fmnist.models import sparse_cross_entropy
    from fmnist.models.compiled import Trainable
    from fmnist.models.optimizers import FusedAdam
    from fmnist.models.schedules import CosineWithWarmup, spread_over

    precision = devices.resolve_precision(config.precision)
    train: Images = ray.get(task.train)
    val: Images = ray.get(task.val)
    # Large first steps would destroy the pretrained weights.
    optimizer = FusedAdam(CosineWithWarmup(config.fine_tune_learning_rate, warmup=0.1))
    spread_over(optimizer, math.ceil(len(train) / config.batch_size) * config.fine_tune_epochs)
    built = Trainable(_starting_model(task, precision), sparse_cross_entropy, optimizer)
    schedule = _schedule(config, config.fine_tune_epochs)
    history, failure = train_epochs(built, train, val, schedule, shard, task.events)
    if shard.rank != 0:
        return None
    if failure:
        return TrainedModel(history, precision, failure=failure)
    served = _starting_model(task, "float32")
    restore_best(served)
    return _trained(history, precision, served, ())


def _starting_model(task: FineTuneTask, precision: str) -> Any:
    """Returns the model to start from, for products in ``precision``, with its last stages trainable."""
    from fmnist.models import precision_policy
    from fmnist.training.inference import load_model
    from fmnist.workflows.transfer.network import copy_weights, unfreeze, whole_model

    config, recipe = task.backbone.config, task.backbone.recipe
    backbone = load_task_backbone(task.backbone, None, recipe, precision)
    with precision_policy(precision):
        model = whole_model(backbone, recipe)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        path.write_bytes(ray.get(task.model).tobytes())
        copy_weights(load_model(path), model)
    unfreeze(model, task.backbone.backbone, recipe, config.fine_tune_stages)
    return model


def _trained(history: History, precision: str, model: Any, dead: tuple[float, ...]) -> TrainedModel:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        model.save(path)
        return TrainedModel(
            history,
            precision,
            model=path.read_bytes(),
            parameters=model.count_params(),
            trained_parameters=int(sum(np.prod(variable.shape) for variable in model.trainable_variables)),
            dead_units=dead,
        )


def _schedule(config: TransferConfig, epochs: int) -> Schedule:
    return Schedule(epochs, config.batch_size, config.seed, config.patience, config.xla)
