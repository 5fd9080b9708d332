"""The transfer job: a new head on a network trained on ImageNet, then its last stages if configured.

Top to bottom it is the method: `transfer` prepares the images and trains the backbones one after the other. In the
phase *frozen*, Ray tasks compute the features of every image once, and Ray Train's workers train a head on them. In the
phase *fine-tuned*, the workers train the backbone's last stages too, from the images. Each phase leaves its outcome in
the run folder; the results are written from these.
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
from fmnist.errors import RunError, TrainingError
from fmnist.runs import CHECKPOINTS, METRICS, RunFolder, list_runs
from fmnist.runs.lifecycle import goes_on, is_done, open_run
from fmnist.runs.results import ModelMetrics, read_metrics
from fmnist.storage import Store
from fmnist.training.progress import EpochProgress
from fmnist.workflows.transfer.config import BACKBONES, TRANSFER, TransferConfig
from fmnist.workflows.transfer.heads import FineTuneTask, HeadTask, TrainedModel, fine_tune, train_head
from fmnist.workflows.transfer.recipes import FACTS, Recipe, recipe_of
from fmnist.workflows.transfer.records import (
    Phase,
    PhaseOutcome,
    WeightsRecord,
    phase_model,
    read_phase,
    write_phase,
)
from fmnist.workflows.transfer.tasks import (
    BackboneReport,
    BackboneTask,
    FeatureCost,
    compute_features,
    inspect,
    predict,
)
from fmnist.workflows.transfer.weights import WeightsFile, obtain_weights

TransferSession = Session[TransferConfig, PreparedData]
Outcomes = dict[tuple[str, Phase], PhaseOutcome]


@dataclass(frozen=True)
class Inputs:
    """What all phases of a run read.

    Attributes:
        cpus: processors of a worker.
        train, val, both, test: references to `Images`; ``both`` is train followed by val.
        events: workers post epochs to it.
    """

    cpus: float
    train: ray.ObjectRef
    val: ray.ObjectRef
    both: ray.ObjectRef
    test: ray.ObjectRef
    events: Queue


@dataclass(frozen=True)
class Backbone:
    """An inspected backbone.

    Attributes:
        task: the backbone, its weights and its recipe.
        weights: reference to the weights' file, uint8 [bytes]; None for random weights.
        report: of the inspection.
    """

    task: BackboneTask
    weights: ray.ObjectRef | None
    report: BackboneReport


def transfer(config: TransferConfig) -> RunFolder:
    """Runs the transfer job.

    Args:
        config: the job's settings.

    Returns:
        The finished run folder.

    Raises:
        UserError: if data, store, run id, weights, settings or resources are wrong; nothing has been trained then.
        TrainingError: if training fails; the run folder keeps what was reached.
    """
    names = BACKBONES if config.backbone == "all" else (config.backbone,)
    recipes = {name: recipe_of(config, name) for name in names}
    run = open_run(TRANSFER, config)
    if is_done(run, config):
        return run
    comparison = find_comparison(run.store, config.compare_with)
    note = partial(plain_console().print, markup=False)
    sources = {name: (recipes[name], obtain_weights(config.weights, name, note)) for name in names}
    run_on_ray(run, config, prepare, partial(_transfer, sources, comparison))
    return run


def find_comparison(store: Store, run_id: str | None) -> ModelMetrics | None:
    """Returns the metrics of a finished train run of the same store.

    Args:
        run_id: of the run; None for the newest one of lenet5, if there is any.

    Raises:
        RunError: if the run is not a finished train run.
    """
    if run_id is not None:
        run = RunFolder(store, run_id)
        if (job := run.manifest().job) != "train":
            raise RunError(f"compare_with: {run.location} is a {job} run, expected a train run")
        return read_metrics(run, ModelMetrics)
    trained = [known for known in list_runs(store) if known.job == "train" and known.status == "finished"]
    for known in sorted(trained, key=lambda known: known.finished or "", reverse=True):
        run = RunFolder(store, known.run_id)
        if run.get_json(METRICS)["model"] == "lenet5":
            return read_metrics(run, ModelMetrics)
    return None


def _transfer(
    sources: Mapping[str, tuple[Recipe, WeightsFile | None]],
    comparison: ModelMetrics | None,
    session: TransferSession,
) -> None:
    """Trains the phases that the run folder does not have, and writes the results.

    Args:
        sources: recipe and weights of each backbone.
        comparison: metrics of a train run for the report.
    """
    config, run, data, resources = session.config, session.run, session.data, session.resources
    phases: tuple[Phase, ...] = ("frozen", "fine-tuned") if config.fine_tune_epochs else ("frozen",)
    cluster.check_room(resources, "shard", 1, config.cpus_per_shard, config.gpus_per_shard)
    cpus = cluster.cpus_per_worker(resources, config.workers, config.cpus_per_worker, config.gpus_per_worker)
    session.note(f"Ray: {resources}; workers: {config.workers} of {cpus:g} CPUs, {config.gpus_per_worker:g} GPUs")
    outcomes: Outcomes = {}
    # Without a check, a run that is about to be overwritten would count.
    if goes_on(run, config):
        every = {(name, phase): read_phase(run, name, phase) for name in sources for phase in phases}
        outcomes = {key: outcome for key, outcome in every.items() if outcome}
    unfinished = [name for name in sources if any((name, phase) not in outcomes for phase in phases)]
    # All are inspected before the first is trained: wrong weights of the last one cost no training.
    backbones = [_inspected(config, name, *sources[name], data.train) for name in unfinished]
    # Imported here: Matplotlib takes a second, and settings are checked before.
    from fmnist.report.data_plots import draw_data

    started = session.begin(draw_data)
    inputs = _inputs(data, cpus)
    for backbone in backbones:
        name = backbone.task.backbone
        if (name, "frozen") in outcomes:
            session.note(f"{FACTS[name].title}, frozen: trained before")
        for phase in phases:
            if (name, phase) not in outcomes:
                train_phase = _frozen if phase == "frozen" else _fine_tuned
                outcomes[name, phase] = train_phase(session, inputs, backbone)

    from fmnist.workflows.transfer.results import write_transfer_results

    write_transfer_results(started, config, [outcomes[name, phase] for name in sources for phase in phases], comparison)


def _inspected(config: TransferConfig, name: str, recipe: Recipe, file: WeightsFile | None, train: Images) -> Backbone:
    """Builds a backbone in a task, so that wrong weights are found now."""
    if file is None:
        task, weights = BackboneTask(config, name, recipe, WeightsRecord("none", None, published=False)), None
    else:
        task = BackboneTask(config, name, recipe, file.record, file.path.name)
        weights = ray.put(np.frombuffer(file.path.read_bytes(), np.uint8))
    return Backbone(task, weights, inspect(task, weights, train))


def _inputs(data: PreparedData, cpus: float) -> Inputs:
    both = Images(
        np.concatenate([data.train.pixels, data.val.pixels]), np.concatenate([data.train.labels, data.val.labels])
    )
    train, val, together, test = (ray.put(images) for images in (data.train, data.val, both, data.test))
    return Inputs(cpus, train, val, together, test, open_events())


def _frozen(session: TransferSession, inputs: Inputs, backbone: Backbone) -> PhaseOutcome:
    data, task, report = session.data, backbone.task, backbone.report
    title, size = FACTS[task.backbone].title, task.recipe.image_size
    session.note(f"{title}, frozen: {report.features:,} features an image of {size} pixels a side")
    images = (inputs.both, data.train, data.val)
    train, val, cost = compute_features(task, report, backbone.weights, images, session.run.store)
    references = ray.put(train), ray.put(val)
    # The object store has the features now; this process does not need its copy.
    del train, val
    head = HeadTask(task, inputs.cpus, backbone.weights, *references, inputs.events)
    trained = _run_workers(session, inputs, train_head, head, f"{task.backbone}-frozen", session.config.epochs)
    return _finish_phase(session, inputs, backbone, "frozen", trained, cost)


def _fine_tuned(session: TransferSession, inputs: Inputs, backbone: Backbone) -> PhaseOutcome:
    config, name = session.config, backbone.task.backbone
    stages = FACTS[name].stages[: FACTS[name].stages.index(backbone.task.recipe.feature_layer) + 1]
    session.note(f"{FACTS[name].title}, fine-tuned: up to {', '.join(stages[-config.fine_tune_stages :])}")
    model = ray.put(np.frombuffer(phase_model(session.run, name, "frozen"), np.uint8))
    task = FineTuneTask(backbone.task, inputs.cpus, model, inputs.train, inputs.val, inputs.events)
    trained = _run_workers(session, inputs, fine_tune, task, f"{name}-fine-tuned", config.fine_tune_epochs)
    return _finish_phase(session, inputs, backbone, "fine-tuned", trained, FeatureCost())


def _run_workers(
    session: TransferSession,
    inputs: Inputs,
    worker: Callable[[dict[str, Any]], TrainedModel | None],
    task: object,
    name: str,
    epochs: int,
) -> tuple[TrainedModel, int]:
    """Trains on Ray Train's workers; returns the model and how often workers were started again."""
    run = session.run
    with EpochProgress(epochs) as progress:
        trained, restarts = run_workers(
            worker,
            task,
            scale=session.config,
            cpus=inputs.cpus,
            run=run,
            checkpoints=f"{CHECKPOINTS}/{name}",
            events=inputs.events,
            progress=progress,
        )
    if trained.failure:
        raise TrainingError(
            f"run {run.run_id}: {name}: {trained.failure}; its last good checkpoint is epoch {trained.history.epochs}"
        )
    return trained, restarts


def _finish_phase(
    session: TransferSession,
    inputs: Inputs,
    backbone: Backbone,
    phase: Phase,
    result: tuple[TrainedModel, int],
    cost: FeatureCost,
) -> PhaseOutcome:
    """Predicts the test images, once, and writes the phase's outcome."""
    run, task, (trained, restarts) = session.run, backbone.task, result
    labels = session.data.test.labels
    model = f"{run.location}/{task.backbone}-{phase}"
    probabilities, devices, seconds = predict(
        session.config, model, trained.model, (inputs.test, len(labels)), session.note
    )
    outcome = PhaseOutcome(
        backbone=task.backbone,
        phase=phase,
        recipe=session.config.recipe,
        image_size=task.recipe.image_size,
        feature_layer=task.recipe.feature_layer,
        features=backbone.report.features,
        weights=task.weights,
        diagnoses=backbone.report.diagnoses,
        rows=trained.history.rows,
        best_epoch=int(trained.history.best["epoch"]),
        parameters=trained.parameters,
        trained_parameters=trained.trained_parameters,
        dead_units=trained.dead_units,
        precision=trained.precision,
        devices=devices,
        feature_seconds=cost.seconds,
        shards_computed=cost.computed,
        shards_found=cost.found,
        evaluation_seconds=seconds,
        restarts=restarts,
        probabilities=probabilities,
    )
    write_phase(run, outcome, trained.model)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    session.note(
        f"{FACTS[task.backbone].title}, {phase}: test accuracy {accuracy:.4f}, epoch {outcome.best_epoch} kept"
    )
    return outcome
