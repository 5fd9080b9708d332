"""The transfer job: a new head on a network trained on ImageNet, and if wanted its last stages trained on.

Top to bottom it is the method: `transfer` prepares the images and goes through the backbones; `_frozen` lets Ray tasks
compute what the frozen backbone makes of every image, once, and Ray Train's workers train a head on that; `_fine_tuned`
lets them go on with the backbone's last stages, from the images. What each phase leaves in the run folder becomes
artifacts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import ray
from ray.util.queue import Queue

from fmnist.console import plain_console
from fmnist.data import Images
from fmnist.data.preparation import PreparedData, prepare
from fmnist.distributed import cluster
from fmnist.distributed.events import open_events
from fmnist.distributed.session import Session, run_on_ray
from fmnist.distributed.workers import run_workers
from fmnist.errors import TrainingError
from fmnist.runs import CHECKPOINTS, RunFolder
from fmnist.runs.lifecycle import goes_on, is_done, open_run
from fmnist.training.progress import Progress
from fmnist.workflows.train.job import draw_data
from fmnist.workflows.transfer.comparison import find_comparison
from fmnist.workflows.transfer.config import BACKBONES, TRANSFER, TransferConfig
from fmnist.workflows.transfer.feature_shards import compute_features, inspect, predict
from fmnist.workflows.transfer.heads import FineTuneTask, HeadTask, TrainedModel, fine_tune, train_head
from fmnist.workflows.transfer.phases import PhaseOutcome, WeightsRecord, phase_model, read_phase, write_phase
from fmnist.workflows.transfer.recipes import FACTS, Recipe, recipe_of
from fmnist.workflows.transfer.records import Phase
from fmnist.workflows.transfer.tasks import BackboneReport, BackboneTask
from fmnist.workflows.transfer.weights import WeightsFile, obtain_weights


@dataclass(frozen=True)
class Job:
    """What all phases of a run share.

    Attributes:
        config: of the job.
        run: its folder.
        data: the images.
        cpus: processors of a worker.
        train, val, both, test: references to `Images`; ``both`` are train and behind them val.
        events: where workers say how they come on.
        note: shows a line.
    """

    config: TransferConfig
    run: RunFolder
    data: PreparedData
    cpus: float
    train: ray.ObjectRef
    val: ray.ObjectRef
    both: ray.ObjectRef
    test: ray.ObjectRef
    events: Queue
    note: Callable[[str], None]


@dataclass(frozen=True)
class Backbone:
    """A backbone of the run, looked at.

    Attributes:
        task: what its tasks are told.
        weights: reference to its weights; None for fresh ones.
        record: where they came from.
        report: what it makes of images.
    """

    task: BackboneTask
    weights: ray.ObjectRef | None
    record: WeightsRecord
    report: BackboneReport


def transfer(config: TransferConfig, resources: cluster.Resources | None = None) -> RunFolder:
    """Runs the transfer job.

    Args:
        config: the job's settings.
        resources: of a Ray cluster that is connected already; None connects to one.

    Returns:
        The finished run folder.

    Raises:
        UserError: if data, store, run id, weights, settings or resources are not as they must be; nothing has been
            trained then.
        TrainingError: if training cannot go on; the run folder keeps what was reached.
    """
    names = BACKBONES if config.backbone == "all" else (config.backbone,)
    recipes = {name: recipe_of(config, name) for name in names}
    run = open_run(TRANSFER, config)
    if is_done(run, config):
        return run
    comparison = find_comparison(run.store, config.compare_with)
    note = partial(plain_console().print, markup=False)
    inputs = {name: (recipes[name], obtain_weights(config.weights, name, note)) for name in names}
    run_on_ray(run, config, prepare, partial(_transfer, inputs, comparison), resources)
    return run


def _transfer(
    inputs: Mapping[str, tuple[Recipe, WeightsFile | None]],
    comparison: Mapping[str, Any] | None,
    session: Session[TransferConfig, PreparedData],
) -> None:
    """Trains what the run folder does not have of the backbones, and writes the results.

    Args:
        inputs: recipe and weights of each backbone.
        comparison: ``metrics.json`` of a train run to show beside them.
    """
    config, run, data, resources = session.config, session.run, session.data, session.resources
    phases: tuple[Phase, ...] = ("frozen", "fine-tuned") if config.fine_tune_epochs else ("frozen",)
    cluster.check_room(resources, "shard", 1, config.cpus_per_shard, config.gpus_per_shard)
    cpus = cluster.cpus_per_worker(resources, config.workers, config.cpus_per_worker, config.gpus_per_worker)
    session.note(f"Ray: {resources}; workers: {config.workers} of {cpus:g} CPUs, {config.gpus_per_worker:g} GPUs")
    resumed = goes_on(run, config)
    unfinished = [
        name for name in inputs if not resumed or any(read_phase(run, name, phase) is None for phase in phases)
    ]
    # All are looked at before the first is trained: wrong weights of the last one cost nothing.
    backbones = [_look_at(config, name, *inputs[name], data) for name in unfinished]
    started_run = session.begin(draw_data)
    job = _job(config, run, data, cpus, session.note)
    for backbone in backbones:
        _train(job, backbone)
    outcomes = [outcome for name in inputs for phase in phases if (outcome := read_phase(run, name, phase))]

    from fmnist.workflows.transfer.results import write_transfer_results

    write_transfer_results(started_run, config, outcomes, comparison)


def _look_at(
    config: TransferConfig, name: str, recipe: Recipe, file: WeightsFile | None, data: PreparedData
) -> Backbone:
    """Builds a backbone somewhere on the cluster, so that wrong weights are found now."""
    if file is None:
        task = BackboneTask(config, name, recipe, weights=f"none, seed {config.seed}")
        record, weights = WeightsRecord("none", None, published=False), None
    else:
        task = BackboneTask(config, name, recipe, file.sha256, file.source, file.name, file.published)
        record = WeightsRecord(file.source, file.sha256, file.published)
        # Once into the object store, from which every node takes it.
        weights = ray.put(np.frombuffer(file.path.read_bytes(), np.uint8))
    return Backbone(task, weights, record, inspect(task, weights, data.train))


def _job(
    config: TransferConfig,
    run: RunFolder,
    data: PreparedData,
    cpus: float,
    note: Callable[[str], None],
) -> Job:
    both = Images(
        np.concatenate([data.train.pixels, data.val.pixels]), np.concatenate([data.train.labels, data.val.labels])
    )
    train, val, together, test = (ray.put(images) for images in (data.train, data.val, both, data.test))
    return Job(config, run, data, cpus, train, val, together, test, open_events(), note)


def _train(job: Job, backbone: Backbone) -> None:
    """Trains what the run folder does not have of a backbone: a head on it, then its last stages."""
    name, config = backbone.task.backbone, job.config
    title = FACTS[name].title
    if read_phase(job.run, name, "frozen") is None:
        _frozen(job, backbone, title)
    else:
        job.note(f"{title}, frozen: trained before")
    if config.fine_tune_epochs and read_phase(job.run, name, "fine-tuned") is None:
        _fine_tuned(job, backbone, title)


def _frozen(job: Job, backbone: Backbone, title: str) -> None:
    config, data, task = job.config, job.data, backbone.task
    features, size = backbone.report.features, task.recipe.image_size
    job.note(f"{title}, frozen: {features:,} features an image of {size} pixels a side")
    computed = compute_features(task, backbone.report, backbone.weights, job.both, data.train, data.val, job.run.store)
    references = ray.put(computed.train), ray.put(computed.val)
    seconds, shards, found = computed.seconds, computed.computed, computed.found
    # The object store has them now; this process needs its copy no longer.
    del computed
    head = HeadTask(task, job.cpus, backbone.weights, *references, job.events)
    trained, restarts = _on_workers(job, train_head, head, f"{task.backbone}-frozen", config.epochs)
    _keep(job, backbone, "frozen", trained, restarts, seconds, shards, found)


def _fine_tuned(job: Job, backbone: Backbone, title: str) -> None:
    config, name = job.config, backbone.task.backbone
    stages = FACTS[name].stages[: FACTS[name].stages.index(backbone.task.recipe.feature_layer) + 1]
    job.note(f"{title}, fine-tuned: up to {', '.join(stages[-config.fine_tune_stages :])}")
    model = ray.put(np.frombuffer(phase_model(job.run, name, "frozen"), np.uint8))
    task = FineTuneTask(backbone.task, job.cpus, model, job.train, job.val, job.events)
    trained, restarts = _on_workers(job, fine_tune, task, f"{name}-fine-tuned", config.fine_tune_epochs)
    _keep(job, backbone, "fine-tuned", trained, restarts)


def _on_workers(
    job: Job, worker: Callable[[dict[str, Any]], TrainedModel | None], task: object, name: str, epochs: int
) -> tuple[TrainedModel, int]:
    with Progress("training", epochs, "epochs") as progress:
        trained, restarts = run_workers(
            worker,
            task,
            scale=job.config,
            cpus=job.cpus,
            run=job.run,
            checkpoints=f"{CHECKPOINTS}/{name}",
            events=job.events,
            progress=progress,
        )
    if trained.failure:
        raise TrainingError(
            f"run {job.run.run_id}: {name}: {trained.failure}; its last good checkpoint is epoch "
            f"{trained.history.epochs}"
        )
    return trained, restarts


def _keep(
    job: Job,
    backbone: Backbone,
    phase: Phase,
    trained: TrainedModel,
    restarts: int,
    feature_seconds: float = 0.0,
    computed: int = 0,
    found: int = 0,
) -> None:
    """Uses the test images, once, and leaves the phase in the run folder."""
    task = backbone.task
    model = f"{job.run.location}/{task.backbone}-{phase}"
    probabilities, devices, seconds = predict(job.config, model, trained.model, job.test, len(job.data.test), job.note)
    outcome = PhaseOutcome(
        backbone=task.backbone,
        phase=phase,
        recipe=job.config.recipe,
        image_size=task.recipe.image_size,
        feature_layer=task.recipe.feature_layer,
        features=backbone.report.features,
        weights=backbone.record,
        diagnoses=backbone.report.diagnoses,
        rows=trained.history.rows,
        best_epoch=int(trained.history.best["epoch"]),
        parameters=trained.parameters,
        trained_parameters=trained.trained_parameters,
        dead_units=trained.dead_units,
        precision=trained.precision,
        devices=devices,
        feature_seconds=feature_seconds,
        shards_computed=computed,
        shards_found=found,
        evaluation_seconds=seconds,
        restarts=restarts,
        probabilities=probabilities,
    )
    write_phase(job.run, outcome, trained.model)
    accuracy = float((probabilities.argmax(axis=1) == job.data.test.labels).mean())
    job.note(f"{FACTS[task.backbone].title}, {phase}: test accuracy {accuracy:.4f}, epoch {outcome.best_epoch} kept")
