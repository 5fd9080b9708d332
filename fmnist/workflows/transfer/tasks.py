"""What the Ray tasks of a transfer job do: look at a backbone, compute features, use a saved model.

A process keeps what it has built: the next task that needs the same finds it. No task waits for Ray, for it would lend
its processor to the next one, and then both compute.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmnist.data import Images
from fmnist.errors import UserError
from fmnist.storage import Store
from fmnist.training import devices
from fmnist.workflows.transfer.config import TransferConfig
from fmnist.workflows.transfer.features import feature_dtype, feature_key, write_shard
from fmnist.workflows.transfer.recipes import FACTS, Recipe
from fmnist.workflows.transfer.records import InputDiagnosis

if TYPE_CHECKING:
    import keras

BATCH_SIZE = 100


@dataclass(frozen=True)
class BackboneTask:
    """Which backbone, with which weights, fed how. The weights themselves travel beside it.

    Attributes:
        config: of the job.
        backbone: its name.
        recipe: how it is fed.
        weights: sha256 of the weights' file; how fresh ones are drawn, without a file.
        source: of the weights, as the user named it.
        file_name: of the weights; its ending says the format.
        published: whether they are those that Keras publishes.
    """

    config: TransferConfig
    backbone: str
    recipe: Recipe
    weights: str
    source: str = "none"
    file_name: str = ""
    published: bool = False


@dataclass(frozen=True)
class BackboneReport:
    """What a look at a backbone brings back.

    Attributes:
        precision: of the products, float32 or bfloat16.
        key: of its features.
        features: numbers an image.
        diagnoses: what it makes of images, fed as in each recipe.
    """

    precision: str
    key: str
    features: int
    diagnoses: tuple[InputDiagnosis, ...]


def inspect_backbone(task: BackboneTask, weights: np.ndarray | None, sample: Images) -> BackboneReport:
    """Builds a backbone, so that wrong weights are found before anything else, and measures what it makes of images.

    Args:
        weights: uint8 [bytes], the file's content; None for fresh weights.
        sample: some training images.

    Raises:
        UserError: if the weights are another network's.
    """
    precision = _start(task)
    from fmnist.workflows.transfer.diagnosis import diagnose
    from fmnist.workflows.transfer.network import feature_extractor

    own = _extractor(task, weights, precision)
    diagnoses = []
    for name in ("sound", "notebook"):
        if name == task.config.recipe:
            recipe, extractor = task.recipe, own
        else:
            recipe = getattr(FACTS[task.backbone], name)
            extractor = feature_extractor(load_task_backbone(task, weights, recipe, "float32"), recipe)
        diagnoses.append(diagnose(task.backbone, name, recipe, extractor, sample))
    key = feature_key(task.backbone, task.weights, task.recipe, precision)
    return BackboneReport(precision, key, own.output_shape[-1], tuple(diagnoses))


def compute_shard(
    task: BackboneTask,
    weights: np.ndarray | None,
    images: Images,
    positions: np.ndarray,
    store: Store,
    path: str,
) -> tuple[np.ndarray, float]:
    """Computes the features of some images and leaves them in the artifact store.

    Args:
        images: all; as an argument of a Ray task, mapped from the object store.
        positions: of the shard's.
        path: in the store.

    Returns:
        Float16 or float32 [positions, features], and the seconds of computing.
    """
    precision = _start(task)
    extractor = _extractor(task, weights, precision)
    started = time.perf_counter()
    features = extractor.predict(images.pixels[positions], batch_size=BATCH_SIZE, verbose=0)
    limits = np.finfo(feature_dtype(precision))
    features = features.clip(limits.min, limits.max).astype(feature_dtype(precision))
    seconds = time.perf_counter() - started
    write_shard(store, path, features)
    return features, seconds


def predict_shard(
    cpus: float, name: str, model: np.ndarray, images: Images, start: int, stop: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Uses a saved model on some of the raw images.

    Args:
        cpus: processors of the task.
        name: of the model, by which a process knows the one that it has loaded.
        model: uint8 [bytes], the content of ``model.keras``.
        images: all; those from ``start`` on and before ``stop`` are meant.

    Returns:
        Probabilities float32 [n, 10], and what TensorFlow computed on.
    """
    devices.configure_tensorflow(cpus, chain=True)

    from fmnist.training.inference import load_model

    if name not in _built:
        _built.clear()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.keras")
            path.write_bytes(model.tobytes())
            _built[name] = load_model(path)
    return _built[name].predict(images.pixels[start:stop], batch_size=BATCH_SIZE, verbose=0), devices.device_names()


def load_task_backbone(task: BackboneTask, weights: np.ndarray | None, recipe: Recipe, precision: str) -> keras.Model:
    """Builds a task's backbone for products in ``precision``, up to the recipe's feature layer, not trainable."""
    from fmnist.models import precision_policy
    from fmnist.workflows.transfer.network import load_backbone

    with tempfile.TemporaryDirectory() as folder, precision_policy(precision):
        path = None
        if weights is not None:
            path = Path(folder, task.file_name)
            path.write_bytes(weights.tobytes())
        try:
            return load_backbone(task.backbone, recipe, path, published=task.published, seed=task.config.seed)
        except UserError as error:
            # The person knows the file by another name than this process does.
            raise UserError(str(error).replace(str(path), task.source)) from error


def _start(task: BackboneTask) -> str:
    devices.configure_tensorflow(task.config.cpus_per_shard, chain=True)
    return devices.resolve_precision(task.config.precision)


# What this process has built last. One thing at a time: the job is done with a backbone when it comes to the next.
_built: dict[str, Any] = {}


def _extractor(task: BackboneTask, weights: np.ndarray | None, precision: str) -> keras.Model:
    from fmnist.models import precision_policy
    from fmnist.workflows.transfer.network import feature_extractor

    key = feature_key(task.backbone, task.weights, task.recipe, precision)
    if key not in _built:
        _built.clear()
        backbone = load_task_backbone(task, weights, task.recipe, precision)
        with precision_policy(precision):
            _built[key] = feature_extractor(backbone, task.recipe)
    return _built[key]
