"""The transfer job: a new head on a network trained on ImageNet, then its last stages if configured.

Top to bottom it is the method: `transfer` prepares the images and trains the backbones one after the other. In the
phase *frozen*, Ray tasks compute the features of every image once, and Ray Train's workers train a head on them. In the
phase *fine-tuned*, the workers train the backbone's last stages too, from the images. Each phase leaves its outcome in
the run folder; the results are written from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import ray
from ray.util.queue import Queue

from fmnist.boundary import spared
from fmnist.console import console
from fmnist.data import Images
from fmnist.data.preparation import PreparedData, prepare
from fmnist.distributed import cluster
from fmnist.distributed.events import open_events
from fmnist.distributed.session import Session, run_on_ray
from fmnist.distributed.workers import LANES, keep_lanes, run_workers
from fmnist.errors import RunError, TrainingError
from fmnist.runs import CHECKPOINTS, RunFolder, list_runs
from fmnist.runs.lifecycle import open_run
from fmnist.runs.results import ModelMetrics, read_metrics
from fmnist.storage import Store
from fmnist.training.progress import Progress
from fmnist.workflows.transfer import tasks
from fmnist.workflows.transfer.config import BACKBONES, TRANSFER, TransferConfig
from fmnist.workflows.transfer.heads import TrainTask, train_phase
from fmnist.workflows.transfer.recipes import FACTS, Recipe, recipe_of
from fmnist.workflows.transfer.records import Phase, PhaseOutcome, phase_model, read_phase, write_phase
from fmnist.workflows.transfer.weights import WeightsFile, obtain_weights

TransferSession = Session[TransferConfig, PreparedData]
Outcomes = dict[tuple[str, Phase], PhaseOutcome]


@dataclass(frozen=True)
class Inputs:
    """What all phases of a run read: a worker's processors, all lanes, references to `Images`, and a queue for epochs.

    ``both`` is train followed by val.
    """

    cpus: float
    lanes: int
    train: ray.ObjectRef
    val: ray.ObjectRef
    both: ray.ObjectRef
    test: ray.ObjectRef
    events: Queue


def check_weights(config: TransferConfig) -> None:
    """Obtains the weights, so that a missing file is reported before anything is trained."""
    for backbone in BACKBONES if config.backbone == "all" else (config.backbone,):
        obtain_weights(config.weights, backbone, console.print)


def transfer(config: TransferConfig, resources: cluster.Resources | None = None) -> RunFolder:
    """Runs the transfer job.

    Args:
        config: the job's settings.
        resources: of a Ray cluster that is connected already; None connects to one.

    Returns:
        The finished run folder.

    Raises:
        UserError: if data, store, run id, weights, settings or resources are wrong; nothing has been trained then.
        TrainingError: if training fails; the run folder keeps what was reached.
    """
    names = BACKBONES if config.backbone == "all" else (config.backbone,)
    recipes = {name: recipe_of(config, name) for name in names}
    with open_run(TRANSFER, config) as opened:
        if not opened.done:
            comparison = find_comparison(opened.folder.store, config.compare_with)
            note = console.print
            sources = {name: (recipes[name], obtain_weights(config.weights, name, note)) for name in names}
            work = partial(_transfer, sources, comparison)
            sums = {f"weights of {name}": file.record.sha256 for name, (_, file) in sources.items() if file}
            run_on_ray(opened, config, prepare, work, resources, {name: one for name, one in sums.items() if one})
    return opened.folder


def find_comparison(store: Store, run_id: str | None) -> ModelMetrics | None:
    """Returns the metrics of a finished train run of the same store; without an id of the newest one of lenet5, if any.

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
        # A run that nobody named, of a store that others write to, too.
        with spared(f"{run.location} is not compared with"):
            if (metrics := read_metrics(run, ModelMetrics)).model == "lenet5":
                return metrics
    return None


def _transfer(
    sources: Mapping[str, tuple[Recipe, WeightsFile | None]],
    comparison: ModelMetrics | None,
    session: TransferSession,
) -> None:
    """Trains the phases that the run folder does not have, and writes the results.

    ``sources`` are recipe and weights of each backbone, ``comparison`` is a train run for the report.
    """
    config, run, data, resources = session.config, session.run, session.data, session.resources
    phases: tuple[Phase, ...] = ("frozen", "fine-tuned") if config.fine_tune_epochs else ("frozen",)
    cluster.check_room(resources, "shard", 1, config.cpus_per_shard, config.gpus_per_shard)
    cpus = cluster.cpus_per_worker(resources, config.workers, config.cpus_per_worker, config.gpus_per_worker)
    session.note(f"Ray: {resources}; workers: {config.workers} of {cpus:g} CPUs, {config.gpus_per_worker:g} GPUs")
    outcomes: Outcomes = {}
    if session.opened.is_resumed:
        every = {(name, phase): read_phase(run, name, phase, session.note) for name in sources for phase in phases}
        outcomes = {key: outcome for key, outcome in every.items() if outcome}
    unfinished = [name for name in sources if any((name, phase) not in outcomes for phase in phases)]
    # All are inspected before the first is trained: wrong weights of the last one cost no training.
    backbones = [tasks.inspect(config, name, *sources[name], data.train) for name in unfinished]
    # Imported here: Matplotlib takes a second, and settings are checked before.
    from fmnist.report.data_plots import draw_data

    lanes = keep_lanes(session.opened, config, cpus)
    started = session.begin(draw_data, facts={LANES: lanes})
    inputs = _inputs(data, cpus, lanes)
    for backbone in backbones:
        name = backbone.task.backbone
        if (name, "frozen") in outcomes:
            session.note(f"{FACTS[name].title}, frozen: trained before")
        for phase in phases:
            if (name, phase) not in outcomes:
                outcomes[name, phase] = _train_phase(session, inputs, backbone, phase)

    from fmnist.workflows.transfer.results import write_transfer_results

    write_transfer_results(started, config, [outcomes[name, phase] for name in sources for phase in phases], comparison)


def _inputs(data: PreparedData, cpus: float, lanes: int) -> Inputs:
    both = Images(
        np.concatenate([data.train.pixels, data.val.pixels]), np.concatenate([data.train.labels, data.val.labels])
    )
    train, val, together, test = (ray.put(images) for images in (data.train, data.val, both, data.test))
    return Inputs(cpus, lanes, train, val, together, test, open_events())


def _train_phase(session: TransferSession, inputs: Inputs, backbone: tasks.Backbone, phase: Phase) -> PhaseOutcome:
    """Trains a phase on Ray Train's workers, predicts the test images, once, and writes the phase's outcome."""
    config, run, task, report = session.config, session.run, backbone.task, backbone.report
    facts, recipe, name = FACTS[task.backbone], task.recipe, f"{task.backbone}-{phase}"
    cost, epochs = tasks.FeatureCost(), config.fine_tune_epochs
    if phase == "frozen":
        size = f"{recipe.image_size} pixels a side"
        session.note(f"{facts.title}, frozen: {report.features:,} features an image of {size}")
        start, epochs = backbone.weights, config.epochs
        train, val, cost = tasks.compute_features(backbone, inputs.both, session.data, run.store)
    else:
        stages = facts.stages[: facts.stages.index(recipe.feature_layer) + 1]
        session.note(f"{facts.title}, fine-tuned: up to {', '.join(stages[-config.fine_tune_stages :])}")
        start = ray.put(np.frombuffer(phase_model(run, task.backbone, "frozen"), np.uint8))
        train, val = inputs.train, inputs.val
    with Progress("training", epochs, "epochs", publish=session.publish) as progress:
        trained, restarts = run_workers(
            train_phase,
            TrainTask(phase, task, inputs.cpus, inputs.lanes, start, train, val, inputs.events),
            scale=config,
            cpus=inputs.cpus,
            run=run,
            checkpoints=f"{CHECKPOINTS}/{name}",
            events=inputs.events,
            progress=progress,
        )
    if trained.failure and not trained.history.epochs:
        raise TrainingError(f"run {run.run_id}: {name}: {trained.failure}")
    if trained.failure:
        session.note(f"{facts.title}, {phase}: {trained.failure}; its epochs before that count")
    labels, model = session.data.test.labels, f"{run.location}/{name}"
    test = (inputs.test, len(labels))
    probabilities, devices, seconds = tasks.predict(config, model, trained.model, test, session.note)
    outcome = PhaseOutcome(
        backbone=task.backbone,
        phase=phase,
        recipe=config.recipe,
        image_size=recipe.image_size,
        feature_layer=recipe.feature_layer,
        features=report.features,
        weights=task.weights,
        diagnoses=report.diagnoses,
        rows=trained.history.rows,
        best_epoch=int(trained.history.best["epoch"]),
        parameters=trained.parameters,
        trained_parameters=trained.trained_parameters,
        dead_units=trained.dead_units,
        precision=trained.precision,
        devices=devices,
        evaluation_seconds=seconds,
        restarts=restarts,
        diverged=trained.failure,
        probabilities=probabilities,
        **asdict(cost),
    )
    write_phase(run, outcome, trained.model)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    session.note(f"{facts.title}, {phase}: test accuracy {accuracy:.4f}, epoch {outcome.best_epoch} kept")
    return outcome
