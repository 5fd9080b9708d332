"""What the workers of a transfer job do: train a head on features, or a backbone's last stages on images."""

from __future__ import annotations

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
    """What every worker that trains a head is told; the data are references into the object store.

    Attributes:
        backbone: whose features they are.
        cpus: processors of this worker.
        weights: reference to the backbone's weights, uint8 [bytes]; None for fresh ones.
        train, val: references to `Features`.
        events: where rank 0 says how it comes on.
    """

    backbone: BackboneTask
    cpus: float
    weights: ray.ObjectRef | None
    train: ray.ObjectRef
    val: ray.ObjectRef
    events: Queue


@dataclass(frozen=True)
class FineTuneTask:
    """What every worker that trains a backbone's last stages is told.

    Attributes:
        backbone: which one.
        cpus: processors of this worker.
        model: reference to the content of the ``model.keras`` to begin with, uint8 [bytes].
        train, val: references to `Images`.
        events: where rank 0 says how it comes on.
    """

    backbone: BackboneTask
    cpus: float
    model: ray.ObjectRef
    train: ray.ObjectRef
    val: ray.ObjectRef
    events: Queue


@dataclass(frozen=True)
class TrainedModel:
    """What training brings back.

    Attributes:
        history: every epoch.
        precision: of the products.
        model: the content of ``model.keras``: raw images to probabilities, with the best epoch's weights.
        parameters: of that model.
        trained_parameters: of these, how many were trained.
        dead_units: share of each hidden layer's units that are 0 for all validation images.
        failure: why training could not go on; what is above, but for `history`, is missing then.
    """

    history: History
    precision: str
    model: bytes = b""
    parameters: int = 0
    trained_parameters: int = 0
    dead_units: tuple[float, ...] = ()
    failure: str | None = None


def train_head(settings: dict[str, Any]) -> TrainedModel | None:
    """What each worker runs while the backbone is frozen; rank 0 returns the model."""
    task: HeadTask = settings["task"]
    config, recipe = task.backbone.config, task.backbone.recipe
    shard = join(task.cpus)
    from fmnist.models import precision_policy, sparse_cross_entropy
    from fmnist.models.compiled import Trainable
    from fmnist.models.optimizers import FusedAdam
    from fmnist.models.schedules import CosineWithWarmup
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
    built = Trainable(head, sparse_cross_entropy, optimizer)
    history, failure = train_epochs(built, train, val, _schedule(config, config.epochs), shard, task.events)
    if shard.rank != 0:
        return None
    if failure:
        return TrainedModel(history, precision, failure=failure)
    # Served in float32 whatever it was trained in, as every model here.
    served = build_head(recipe, features, seed=config.seed)
    standardise(served, train.inputs)
    restore_best(served)
    weights = None if task.weights is None else ray.get(task.weights)
    backbone = load_task_backbone(task.backbone, weights, recipe, "float32")
    return _trained(history, precision, whole_model(backbone, recipe, served), dead_units(served, val.inputs))


def fine_tune(settings: dict[str, Any]) -> TrainedModel | None:
    """What each worker runs while the last stages are trained on; rank 0 returns the model."""
    task: FineTuneTask = settings["task"]
    config = task.backbone.config
    shard = join(task.cpus)
    from fmnist.models import sparse_cross_entropy
    from fmnist.models.compiled import Trainable
    from fmnist.models.optimizers import FusedAdam
    from fmnist.models.schedules import CosineWithWarmup

    precision = devices.resolve_precision(config.precision)
    train: Images = ray.get(task.train)
    val: Images = ray.get(task.val)
    # Large steps at first would undo what the backbone has learnt.
    optimizer = FusedAdam(CosineWithWarmup(config.fine_tune_learning_rate, warmup=0.1))
    built = Trainable(_begun(task, precision), sparse_cross_entropy, optimizer)
    schedule = _schedule(config, config.fine_tune_epochs)
    history, failure = train_epochs(built, train, val, schedule, shard, task.events)
    if shard.rank != 0:
        return None
    if failure:
        return TrainedModel(history, precision, failure=failure)
    served = _begun(task, "float32")
    restore_best(served)
    return _trained(history, precision, served, ())


def _begun(task: FineTuneTask, precision: str) -> Any:
    """The model to begin with, for products in ``precision``, with its last stages trainable."""
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
