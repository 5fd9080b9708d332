"""The Ray tasks of a transfer job: inspect a backbone, compute features, predict with a saved model.

The first half runs in the tasks, the second half in the driver. A process keeps the last network that it built, so that
its next task need not build it again. No task waits for another one: Ray would lend its processors to a third task, and
then both compute on them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from fmnist.console import console
from fmnist.data import Images
from fmnist.data.preparation import PreparedData
from fmnist.distributed.tasks import TaskPool
from fmnist.errors import IntegrityError, StoreError, TrainingError, UserError
from fmnist.storage import Store
from fmnist.training import devices
from fmnist.training.progress import Progress
from fmnist.workflows.transfer import features
from fmnist.workflows.transfer.config import TransferConfig
from fmnist.workflows.transfer.recipes import FACTS, Recipe
from fmnist.workflows.transfer.records import InputDiagnosis, WeightsRecord
from fmnist.workflows.transfer.weights import WeightsFile

if TYPE_CHECKING:
    import keras

Note = Callable[[str], None]

BATCH_SIZE = 100
# Enough images to measure the spread of a feature within seconds.
SAMPLE_IMAGES = 1000


@dataclass(frozen=True)
class BackboneTask:
    """A backbone with its weights and its recipe. The content of the weights' file is passed separately.

    Attributes:
        backbone: its name.
        weights: where they come from.
        file_name: of the weights, whose suffix says the format; empty without a file.
    """

    config: TransferConfig
    backbone: str
    recipe: Recipe
    weights: WeightsRecord
    file_name: str = ""

    def feature_key(self, precision: str) -> str:
        """Returns the name of the features in the artifact store."""
        weights = self.weights.sha256 or f"none, seed {self.config.seed}"
        return features.feature_key(self.backbone, weights, self.recipe, precision)


@dataclass(frozen=True)
class BackboneReport:
    """The result of inspecting a backbone: the precision of its products, its number of features, and its diagnoses."""

    precision: str
    features: int
    diagnoses: tuple[InputDiagnosis, ...]


def inspect_backbone(task: BackboneTask, weights: np.ndarray | None, sample: Images) -> BackboneReport:
    """Builds a backbone and diagnoses its input for some training images.

    ``weights`` are the file's content, uint8 [bytes], here and in the other tasks; None for random ones.

    Raises:
        UserError: if the weights are another network's.
    """
    precision = _start(task)
    from fmnist.workflows.transfer.network import diagnose, feature_extractor

    own = _extractor(task, weights, precision)
    diagnoses = []
    for name in ("sound", "notebook"):
        recipe, extractor = task.recipe, own
        if name != task.config.recipe:
            recipe = getattr(FACTS[task.backbone], name)
            extractor = feature_extractor(load_task_backbone(task, weights, recipe, "float32"), recipe)
        diagnoses.append(diagnose(task.backbone, name, recipe, extractor, sample))
    return BackboneReport(precision, own.output_shape[-1], tuple(diagnoses))


def compute_shard(
    task: BackboneTask, weights: np.ndarray | None, images: Images, positions: np.ndarray, store: Store, path: str
) -> tuple[np.ndarray, float, str | None]:
    """Computes the features of the images at these positions and writes them to the artifact store.

    Returns:
        Float16 or float32 [positions, features], the seconds of computing, and why they could not be written.
    """
    precision = _start(task)
    extractor = _extractor(task, weights, precision)
    started = time.perf_counter()
    computed = extractor.predict(images.pixels[positions], batch_size=BATCH_SIZE, verbose=0)
    limits = np.finfo(features.feature_dtype(precision))
    computed = computed.clip(limits.min, limits.max).astype(limits.dtype)
    seconds = time.perf_counter() - started
    try:
        features.write_shard(store, path, computed)
    # The folder is shared, and may be of somebody else. Only later runs would gain by it.
    except StoreError as error:
        return computed, seconds, str(error)
    return computed, seconds, None


def predict_shard(
    cpus: float, name: str, model: np.ndarray, images: Images, start: int, stop: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Predicts the raw images from ``start`` to before ``stop`` with a saved model.

    ``name`` is unique: a process does not load the model again that it has. ``model`` is a ``model.keras``'s content.

    Returns:
        Probabilities float32 [n, 10], and the devices that TensorFlow used.
    """
    devices.configure_tensorflow(cpus, sequential=True)
    if name not in _built:
        _built.clear()
        _built[name] = load_model_bytes(model)
    return _built[name].predict(images.pixels[start:stop], batch_size=BATCH_SIZE, verbose=0), devices.device_names()


def load_model_bytes(content: np.ndarray) -> keras.Model:
    """Loads the content of a ``model.keras``, uint8 [bytes]."""
    from fmnist.training.inference import load_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        path.write_bytes(content.tobytes())
        return load_model(path)


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
            return load_backbone(task.backbone, recipe, path, published=task.weights.published, seed=task.config.seed)
        except UserError as error:
            # Messages name the file as the user did, not this copy.
            raise UserError(str(error).replace(str(path), task.weights.source)) from error


def _start(task: BackboneTask) -> str:
    devices.configure_tensorflow(task.config.cpus_per_shard, sequential=True)
    return task.config.precision


# The network that this process built last. One at a time: the job trains one backbone after the other.
_built: dict[str, Any] = {}


def _extractor(task: BackboneTask, weights: np.ndarray | None, precision: str) -> keras.Model:
    from fmnist.models import precision_policy
    from fmnist.workflows.transfer.network import feature_extractor

    key = task.feature_key(precision)
    if key not in _built:
        _built.clear()
        backbone = load_task_backbone(task, weights, task.recipe, precision)
        with precision_policy(precision):
            _built[key] = feature_extractor(backbone, task.recipe)
    return _built[key]


@dataclass(frozen=True)
class Backbone:
    """An inspected backbone: its task, the reference to the content of its weights' file, and the report."""

    task: BackboneTask
    weights: ray.ObjectRef | None
    report: BackboneReport


@dataclass(frozen=True)
class FeatureCost:
    """What features cost, as a `Candidate` has it; a fine-tuned backbone has none."""

    feature_seconds: float = 0.0
    shards_computed: int = 0
    shards_found: int = 0


def inspect(config: TransferConfig, name: str, recipe: Recipe, file: WeightsFile | None, train: Images) -> Backbone:
    """Runs `inspect_backbone` in a Ray task; without a file, weights are random.

    Raises:
        UserError: if the weights are another network's.
    """
    task, weights = BackboneTask(config, name, recipe, WeightsRecord("none", None, published=False)), None
    if file:
        task = BackboneTask(config, name, recipe, file.record, file.path.name)
        weights = ray.put(np.frombuffer(file.path.read_bytes(), np.uint8))
    sample = train.select(np.arange(min(SAMPLE_IMAGES, len(train))))
    pool = _pool(config, "inspection", console.print)
    try:
        [(_, report)] = pool.run(inspect_backbone, [(name, (task, weights, sample))], str)
    except TrainingError as error:
        raise error.__cause__ if isinstance(error.__cause__, UserError) else error from None
    return Backbone(task, weights, report)


def compute_features(
    backbone: Backbone, images: ray.ObjectRef, data: PreparedData, store: Store
) -> tuple[ray.ObjectRef, ray.ObjectRef, FeatureCost]:
    """Computes the features that the store does not have, a task a shard.

    ``images`` refers to the training images followed by the validation images of ``data``.

    Returns:
        References to the `Features` of the training and of the validation images, and their cost.

    Raises:
        TrainingError: if a task was killed more often than the configuration allows.
    """
    task, report, train, val = backbone.task, backbone.report, data.train, data.val
    key, what, size = task.feature_key(report.precision), f"features of {task.backbone}", task.config.images_per_shard
    out = np.empty((len(train) + len(val), report.features), features.feature_dtype(report.precision))
    shards = features.feature_shards([train, val], size)
    seconds = 0.0
    with Progress(what, len(shards), "shards", images=size) as progress:
        missing = _read_stored(store, key, shards, out, progress)
        if found := len(shards) - len(missing):
            progress.note(f"{what}: {found} of {len(shards)} shards found in {store.location}")
        calls = (
            (shard, (task, backbone.weights, images, shard.positions, store, features.shard_path(key, shard)))
            for shard in missing
        )
        pool = _pool(task.config, "shard of features", progress.note)
        unwritten = None
        for shard, (computed, took, failure) in pool.run(compute_shard, calls, lambda _: what):
            out[shard.positions] = computed
            seconds += took
            if failure and not unwritten:
                unwritten = failure
                progress.note(f"{what}: not kept for other runs: {failure}")
            progress.advance()
    return (
        ray.put(features.Features(out[: len(train)], train.labels)),
        ray.put(features.Features(out[len(train) :], val.labels)),
        FeatureCost(seconds, len(missing), found),
    )


def predict(
    config: TransferConfig, name: str, model: bytes, images: tuple[ray.ObjectRef, int], note: Note
) -> tuple[np.ndarray, tuple[str, ...], float]:
    """Predicts raw images, given as a reference and their number, with a saved model, a task a shard.

    Returns:
        Probabilities float32 [n, 10], the devices that TensorFlow used, and the wall time in seconds.
    """
    began = time.perf_counter()
    test, count = images
    content, step = ray.put(np.frombuffer(model, np.uint8)), config.images_per_shard
    starts = range(0, count, step)
    calls = ((start, (config.cpus_per_shard, name, content, test, start, start + step)) for start in starts)
    pool = _pool(config, "shard of the test images", note)
    found = dict(pool.run(predict_shard, calls, lambda _: f"predictions of {name}"))
    used = sorted({device for _, of_task in found.values() for device in of_task})
    probabilities = np.concatenate([found[start][0] for start in starts])
    return probabilities, tuple(used), time.perf_counter() - began


def _pool(config: TransferConfig, kind: str, note: Note) -> TaskPool:
    return TaskPool(kind, config.cpus_per_shard, config.gpus_per_shard, config.max_failures, note)


def _read_stored(
    store: Store, key: str, shards: Sequence[features.FeatureShard], out: np.ndarray, progress: Progress
) -> list[features.FeatureShard]:
    """Copies the shards that the store has into ``out``; returns the others."""
    try:
        known = features.stored_shards(store, key)
    except StoreError as error:
        progress.note(f"{error}; computed again")
        return list(shards)

    def read(shard: features.FeatureShard) -> bool:
        path = features.shard_path(key, shard)
        if path not in known:
            return False
        try:
            out[shard.positions] = features.read_shard(store, path)
        except (IntegrityError, StoreError) as error:
            progress.note(f"{error}; computed again")
            return False
        return True

    missing = []
    with ThreadPoolExecutor(4) as pool:
        for shard, was_read in zip(shards, pool.map(read, shards), strict=True):
            if was_read:
                progress.advance()
            else:
                missing.append(shard)
    return missing
