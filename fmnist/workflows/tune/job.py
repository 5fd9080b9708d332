"""The tune job: a search of hyper-parameters under Ray Tune, then a training with the best, in one run folder.

In the order of the work: `tune` prepares the images, `_search` runs `SearchTrial` on as many processors as there are,
and the train job's `fit` trains with the best trial's hyper-parameters.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields, replace

import pandas as pd
import ray
from ray import tune as ray_tune
from ray.tune.execution import class_cache
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from fmnist import clock
from fmnist.boundary import spared
from fmnist.config import JobConfig, batch_size_of
from fmnist.console import duration
from fmnist.data.preparation import PreparedData, prepare
from fmnist.distributed import cluster
from fmnist.distributed.session import Figures, Session, run_on_ray
from fmnist.distributed.spaces import Point, Points
from fmnist.distributed.workers import LANES, keep_lanes
from fmnist.errors import TrainingError, UserError
from fmnist.options import settings_yaml
from fmnist.runs import BEST, CHECKPOINTS, SEARCH, TRIALS, TRIALS_HISTORY, TRIALS_TABLE, RunFolder
from fmnist.runs.documents import Names
from fmnist.runs.lifecycle import open_run
from fmnist.storage.arrow import store_filesystem
from fmnist.workflows.train.config import TrainConfig
from fmnist.workflows.train.job import fit
from fmnist.workflows.tune.budget import TimeBudget
from fmnist.workflows.tune.config import TUNE, TuneConfig, seconds_of
from fmnist.workflows.tune.hyperband import Hyperband, brackets
from fmnist.workflows.tune.progress import SearchProgress
from fmnist.workflows.tune.records import TrialRecord, best_trial, smallest_trial, trials_table
from fmnist.workflows.tune.sampler import AHEAD, TpeSearch, drawn_at_random
from fmnist.workflows.tune.trial import OBJECTIVE, SearchTask, SearchTrial, trial_state
from fmnist.workflows.tune.watcher import Watcher

# Of the run folder: why the retraining of a trial, by its number, failed; the next best was taken.
NOT_KEPT = f"{TRIALS}/not_kept.json"
WORKER_SETTINGS = ("workers", "cpus_per_worker", "gpus_per_worker")


def tune(config: TuneConfig, resources: cluster.Resources | None = None) -> RunFolder:
    """Runs the tune job and returns the finished run folder; arguments as in `fmnist.config.Job`.

    Raises:
        UserError: if space, data, store, run id or resources are wrong; nothing has been trained then.
        TrainingError: if every trial failed, or the retraining of the best one did.
    """
    with open_run(TUNE, config) as opened:
        if not opened.done:
            run_on_ray(opened, config, prepare, _tune, resources)
    return opened.folder


def _tune(session: Session[TuneConfig, PreparedData]) -> None:
    config, run, resources = session.config, session.run, session.resources
    cluster.check_room(resources, "trial", 1, config.cpus_per_trial, config.gpus_per_trial)
    cpus = cluster.cpus_per_worker(resources, config.workers, config.cpus_per_worker, config.gpus_per_worker)
    plan = brackets(config.max_epochs, config.factor)
    if resources.cpus < cpus * config.workers or resources.gpus < config.gpus_per_worker * config.workers:
        needs = f"{config.workers} workers of {cpus:g} CPUs and {config.gpus_per_worker:g} GPUs"
        session.note(f"the retraining needs room for {needs}; this cluster has {resources}")
    trials = config.iterations * sum(bracket.sizes[0] for bracket in plan)
    at_once = max(1, cluster.room(resources, config.cpus_per_trial, config.gpus_per_trial))
    ahead = session.opened.fact(AHEAD) or 2 * at_once
    at_random = drawn_at_random(trials, ahead) if config.sampler == "tpe" else trials
    with ExitStack() as drawing:
        source = drawing.enter_context(Points(config.space, config.seed, counted=config.prefer_small))
        points = source.random(at_random)
        if at_random == trials:
            drawing.close()
        if not points[0].values:
            raise UserError(f"{config.space}: found no hyper-parameter, expected at least one to search")
        problems = {trial: point.problem for trial, point in enumerate(points, start=1) if point.problem}
        if problems:
            trial, problem = next(iter(problems.items()))
            session.note(f"{len(problems)} of {at_random} points cannot be trained and kept; trial {trial}: {problem}")
        session.note(f"Ray: {resources}; a trial: {config.cpus_per_trial:g} CPUs, {config.gpus_per_trial:g} GPUs")
        from fmnist.report.data_plots import draw_data

        lanes = keep_lanes(session.opened, config, cpus)
        started_run = session.begin(draw_data, facts={LANES: lanes, AHEAD: ahead})
        sampler = TpeSearch(config, trials, points, ahead, source.drawn) if config.sampler == "tpe" else None
        with SearchProgress(publish=session.publish) as progress:
            records = _search(config, run, session.data, points, trials, sampler, progress)
    searched = clock.now()
    while True:
        records, winner, val_accuracy = _write_trials(config, run, records, len(session.data.val))
        rule = "smallest within one standard error of the best" if config.prefer_small else "best"
        size = f" and {winner.model_parameters:,} parameters" if winner.model_parameters else ""
        session.note(
            f"{rule} of {len(records)} trials: trial {winner.trial} with val_accuracy {val_accuracy:.4f}{size}; "
            f"training it for {config.retrain_epochs} epochs"
        )
        figures = session.background.submit(
            _draw_trials, records, winner.trial, len(session.data.val) if config.prefer_small else None
        )
        best = best_config(config, winner)
        outcome = fit(session, best, cpus, lanes)
        if not outcome.failure:
            break
        # Kept in the run folder, so that the run resumes with the next best.
        run.put_json(NOT_KEPT, {**_not_kept(run), str(winner.trial): outcome.failure})
        session.note(f"trial {winner.trial}: {outcome.failure}; taking the next best")

    from fmnist.workflows.tune.results import SearchOutcome, write_tune_results

    search = SearchOutcome(config, records, winner, searched - session.started, figures)
    write_tune_results(started_run, search, best, outcome)


def _draw_trials(records: list[TrialRecord], winner: int, images: int | None) -> Figures:
    """Draws the figures of the trials during the retraining."""
    from fmnist.workflows.tune.plots import tune_plots

    return tune_plots(records, winner, images)


def _search(
    config: TuneConfig,
    run: RunFolder,
    data: PreparedData,
    points: list[Point],
    trials: int,
    sampler: TpeSearch | None,
    progress: SearchProgress,
) -> list[TrialRecord]:
    """Runs the trials on the cluster and returns those that have begun, in the order of their numbers.

    A trial whose point has a problem fails before its first epoch.

    Args:
        points: of the trials, all of them or those that the ``sampler`` begins with.
        sampler: draws the other trials' points.
    """
    budget = TimeBudget(run, seconds_of(config.time_budget)) if config.time_budget else None
    task = SearchTask(config, run, ray.put(data.train), ray.put(data.val), budget.deadline if budget else None)
    scheduler: TrialScheduler
    if config.scheduler == "hyperband":
        scheduler = Hyperband(OBJECTIVE, config.max_epochs, config.factor)
        plan = brackets(config.max_epochs, config.factor)
        epochs = config.iterations * sum(bracket.budget for bracket in plan)
        sizes = ", ".join(str(bracket.sizes[0]) for bracket in plan)
        progress.note(f"Hyperband: trials in brackets of {sizes}, {trials} in all, and {epochs} epochs")
    else:
        scheduler = AsyncHyperBandScheduler(
            metric=OBJECTIVE, mode="max", max_t=config.max_epochs, reduction_factor=config.factor
        )
        epochs = trials * config.max_epochs
        progress.note(f"ASHA: trials of {config.max_epochs} epochs at most, {trials} in all")
    if budget:
        progress.note(f"time budget: {config.time_budget}, {duration(budget.left)} left")
    known = {
        trial: trial_state(run, trial, point.values).history().epochs for trial, point in enumerate(points, start=1)
    }
    progress.begin(trials, epochs, known, budget)
    watcher = Watcher(config, scheduler, progress, run, known, budget)
    filesystem, path = store_filesystem(run.store)
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(
            ray_tune.with_parameters(SearchTrial, task=task),
            {"CPU": config.cpus_per_trial, **({"GPU": config.gpus_per_trial} if config.gpus_per_trial else {})},
        ),
        param_space={}
        if sampler
        else {
            "trial": ray_tune.grid_search(list(range(1, trials + 1))),
            "point": ray_tune.sample_from(lambda config: asdict(points[config["trial"] - 1])),
        },
        tune_config=ray_tune.TuneConfig(
            search_alg=sampler,
            num_samples=trials if sampler else 1,
            scheduler=scheduler,
            # A new process for each trial, and after each pause, would import TensorFlow every time.
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"trial-{trial.config['trial']:04d}",
        ),
        run_config=ray_tune.RunConfig(
            name=SEARCH,
            storage_path=f"{path}/{run.run_id}",
            storage_filesystem=filesystem,
            failure_config=ray_tune.FailureConfig(max_failures=config.max_failures),
            callbacks=[watcher],
            verbose=0,
        ),
    )
    # Tune logs the trials that failed; the progress and trials.csv have them already.
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with _no_secrets():
            tuner.fit()
    finally:
        logger.setLevel(level)
    with spared(f"{run.location}/{SEARCH} was not removed"):
        run.store.delete_folder(f"{run.run_id}/{SEARCH}")
    if budget:
        budget.note(now=True)
    if watcher.out_of_time:
        progress.note(
            f"the time budget of {config.time_budget} is over: {len(watcher.records)} of {trials} trials began"
        )
        if not any(record.rows for record in watcher.records):
            raise TrainingError(f"time_budget: found {config.time_budget}, expected the time of an epoch at least")
    return watcher.records


@contextmanager
def _no_secrets() -> Iterator[None]:
    """Keeps Tune from copying credentials into its actors' environment, which Ray logs: they have their own."""
    names = class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.ENV_VARS_TO_PROPAGATE = {name for name in names if not name.startswith("AWS_")}
    try:
        yield
    finally:
        class_cache.ENV_VARS_TO_PROPAGATE = names


def _not_kept(run: RunFolder) -> dict[str, str]:
    return run.get_record(NOT_KEPT, dict[str, str]) if run.exists(NOT_KEPT) else {}


def _write_trials(
    config: TuneConfig, run: RunFolder, records: list[TrialRecord], val_images: int
) -> tuple[list[TrialRecord], TrialRecord, float]:
    """Writes the tables of the trials and ``best.yaml``.

    Returns all trials, and of those whose retraining has not failed the winner and its validation accuracy.
    """
    failures = _not_kept(run)
    records = [
        replace(record, status="failed", error=f"its retraining failed: {failures[str(record.trial)]}")
        if str(record.trial) in failures
        else record
        for record in records
    ]
    run.put_csv(TRIALS_TABLE, trials_table(records))
    winner = smallest_trial(records, val_images) if config.prefer_small else best_trial(records)
    if winner is None or winner.best is None:
        raise TrainingError(
            f"run {run.run_id}: every trial failed, {len(records)} in all; {TRIALS_TABLE} has the reasons; "
            f"trial 1: {records[0].error}"
        )
    rows = [{"trial": record.trial, **row} for record in records for row in record.rows]
    run.put_csv(TRIALS_HISTORY, pd.DataFrame(rows))
    epoch, val_accuracy = winner.best["epoch"], winner.best["val_accuracy"]
    comment = (
        f"# Trial {winner.trial} of run {run.run_id}: val_accuracy {val_accuracy:.4f} in epoch {epoch:g}.\n"
        f"# To train it: fmnist train --config {BEST}\n# To cross-validate it: fmnist crossval --config {BEST}\n"
    )
    # Without the settings of this run or this cluster only, and without what the space decides.
    left_out = {"artifacts", "run_id", "overwrite", "skip_finished", "wait", "track", "learning_rate", *WORKER_SETTINGS}
    settings = {name: value for name, value in asdict(best_config(config, winner)).items() if name not in left_out}
    before = run.get_yaml(BEST, Names) if run.exists(BEST) else None
    if before and before.get("hyperparameters") != settings["hyperparameters"]:
        # The run was interrupted while it retrained another trial, the best one then.
        run.store.delete_folder(f"{run.run_id}/{CHECKPOINTS}")
    run.put_bytes(BEST, (comment + settings_yaml(settings)).encode())
    return records, winner, val_accuracy


def best_config(config: TuneConfig, winner: TrialRecord) -> TrainConfig:
    """Returns the settings of the train job that trains with a trial's hyper-parameters."""
    shared = {field.name for field in fields(JobConfig)} | {*WORKER_SETTINGS, "max_failures"}
    return TrainConfig(
        **{name: getattr(config, name) for name in shared},
        model=config.space,
        hyperparameters=winner.parameters,
        epochs=config.retrain_epochs,
        batch_size=batch_size_of(winner.parameters, default=config.batch_size),
        patience=config.retrain_patience,
    )
