"""Running a transfer job's tasks from the driver: features and predictions, shard by shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import ray

from fmnist.console import plain_console
from fmnist.data import Images
from fmnist.distributed import cluster
from fmnist.errors import FmnistError, IntegrityError, TrainingError, first_line
from fmnist.storage import Store
from fmnist.training.progress import Progress
from fmnist.workflows.transfer.config import TransferConfig
from fmnist.workflows.transfer.features import (
    Features,
    Shard,
    feature_dtype,
    read_shard,
    shard_path,
    shards,
    stored_shards,
)
from fmnist.workflows.transfer.tasks import BackboneReport, BackboneTask, compute_shard, inspect_backbone, predict_shard

Key = TypeVar("Key")

# Tasks at Ray at a time, those that run and those that wait for a processor; a cluster that can grow sees them.
MOST_WAITING = 256
# Enough to tell the spread of a feature, and quick.
SAMPLE_IMAGES = 1000


@dataclass(frozen=True, eq=False)
class ComputedFeatures:
    """Features of the training and the validation images.

    Attributes:
        train, val: in the order of the images.
        seconds: of computing, over all tasks that computed.
        computed, found: shards that were computed, and that the store had.
    """

    train: Features
    val: Features
    seconds: float
    computed: int
    found: int


def inspect(task: BackboneTask, weights: ray.ObjectRef | None, train: Images) -> BackboneReport:
    """Looks at a backbone on the cluster; see `inspect_backbone`."""
    sample = train.select(np.arange(min(SAMPLE_IMAGES, len(train))))
    run = _remote(inspect_backbone, task.config)
    looking = iter([(task.backbone, run.remote(task, weights, sample))])
    [(_, report)] = _completed(looking, f"the look at {task.backbone}", plain_console().print)
    return report


def compute_features(
    task: BackboneTask,
    report: BackboneReport,
    weights: ray.ObjectRef | None,
    images: ray.ObjectRef,
    train: Images,
    val: Images,
    store: Store,
    at_once: int | None,
) -> ComputedFeatures:
    """Computes the features that the store has not, as many shards at once as there is room for.

    Args:
        images: reference to the training and, behind them, the validation images.
        store: where features are kept, by what they depend on.
        at_once: shards at a time at most; None for as many as there is room for.

    Raises:
        TrainingError: if a task was killed more often than the configuration bears.
    """
    out = np.empty((len(train) + len(val), report.features), feature_dtype(report.precision))
    dealt = shards([train, val], task.config.images_per_shard)
    title, images_per_shard = f"features of {task.backbone}", task.config.images_per_shard
    with Progress(title, len(dealt), "shards", images=images_per_shard) as progress:
        missing = _read_stored(store, report.key, dealt, out, progress)
        if found := len(dealt) - len(missing):
            progress.note(f"features of {task.backbone}: {found} of {len(dealt)} shards found in {store.location}")
        run = _remote(compute_shard, task.config)
        seconds = 0.0
        tasks = (
            (shard, run.remote(task, weights, images, shard.positions, store, shard_path(report.key, shard)))
            for shard in missing
        )
        for shard, (features, took) in _completed(tasks, f"features of {task.backbone}", progress.note, at_once):
            out[shard.positions] = features
            seconds += took
            progress.advance()
    return ComputedFeatures(
        Features(out[: len(train)], train.labels),
        Features(out[len(train) :], val.labels),
        seconds,
        computed=len(missing),
        found=found,
    )


def predict(
    config: TransferConfig,
    name: str,
    model: bytes,
    images: ray.ObjectRef,
    count: int,
    note: Callable[[str], None],
    at_once: int | None,
) -> tuple[np.ndarray, tuple[str, ...], float]:
    """Uses a saved model on raw images, as many shards at once as there is room for.

    Args:
        name: of the model, unlike any other's.
        model: the content of its ``model.keras``.
        images: reference to the test images.
        count: how many there are.
        note: shows a line.
        at_once: shards at a time at most; None for as many as there is room for.

    Returns:
        Probabilities float32 [count, 10], what TensorFlow computed on, and the wall time in seconds.
    """
    began = time.perf_counter()
    run = _remote(predict_shard, config)
    reference = ray.put(np.frombuffer(model, np.uint8))
    starts = range(0, count, config.images_per_shard)
    tasks = (
        (start, run.remote(config.cpus_per_shard, name, reference, images, start, start + config.images_per_shard))
        for start in starts
    )
    found = dict(_completed(tasks, "the test images", note, at_once))
    devices = sorted({device for _, of_task in found.values() for device in of_task})
    probabilities = np.concatenate([found[start][0] for start in starts])
    return probabilities, tuple(devices), time.perf_counter() - began


def _read_stored(store: Store, key: str, dealt: Sequence[Shard], out: np.ndarray, progress: Progress) -> list[Shard]:
    """Puts the shards that the store has where they belong; returns the others."""
    known = stored_shards(store, key)

    def read(shard: Shard) -> bool:
        path = shard_path(key, shard)
        if path not in known:
            return False
        try:
            out[shard.positions] = read_shard(store, path)
        except IntegrityError as error:
            progress.note(f"{error}; computed again")
            return False
        return True

    missing = []
    with ThreadPoolExecutor(4) as pool:
        for shard, there in zip(dealt, pool.map(read, dealt), strict=True):
            if there:
                progress.advance()
            else:
                missing.append(shard)
    return missing


def _remote(function: Callable[..., Any], config: TransferConfig) -> Any:
    return ray.remote(
        num_cpus=config.cpus_per_shard,
        num_gpus=config.gpus_per_shard,
        # Of processes that were killed: what they were at is computed again.
        max_retries=config.max_failures,
    )(function)


def _completed(
    tasks: Iterator[tuple[Key, ray.ObjectRef]], what: str, note: Callable[[str], None], at_once: int | None = None
) -> Iterator[tuple[Key, Any]]:
    """Yields what tasks return, as they end; starts more of them only as others end.

    Raises:
        FmnistError: that a task ended with.
        TrainingError: if a task was lost.
    """
    running: dict[ray.ObjectRef, Key] = {}
    exhausted = False
    heard = time.monotonic()
    while not exhausted or running:
        while not exhausted and len(running) < (at_once or MOST_WAITING):
            if (started := next(tasks, None)) is None:
                exhausted = True
            else:
                running[started[1]] = started[0]
        ended, _ = ray.wait(list(running), timeout=5) if running else ([], [])
        if not ended and time.monotonic() - heard > cluster.WAIT_SECONDS:
            quiet = f"no task has ended for {cluster.WAIT_SECONDS} s"
            note(f"{what}: {quiet}; `ray status` tells what the cluster waits for")
            heard = time.monotonic()
        for reference in ended:
            key = running.pop(reference)
            heard = time.monotonic()
            try:
                value = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, FmnistError):
                    raise error.cause from error
                raise
            except ray.exceptions.RayError as error:
                raise TrainingError(
                    f"{what}: a task was lost ({first_line(error)}); what the others computed is kept, and the same "
                    "command with this --run-id goes on"
                ) from error
            del reference
            yield key, value
