"""The tune job: a search of hyper-parameters under Ray Tune, then a training with the best, in one run folder.

In the order of the work: `tune` prepares the images, `_search` runs `SearchTrial` on as many processors as there are,
and the train job's `fit` trains with the best trial's hyper-parameters.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import ray
from ray import cloudpickle
from ray import tune as ray_tune
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from fmnist import clock
from fmnist.boundary import explained, lasting, spared
from fmnist.config import JobConfig, batch_size_of
from fmnist.data.preparation import PreparedData, prepare
from fmnist.distributed import cluster
from fmnist.distributed.session import Figures, Session, run_on_ray
from fmnist.distributed.spaces import draw_points
from fmnist.distributed.waiting import room_limit, to_start
from fmnist.distributed.workers import LANES, keep_lanes
from fmnist.errors import StoreError, TrainingError, UserError, first_line
from fmnist.options import settings_yaml
from fmnist.runs import BEST, CHECKPOINTS, SEARCH, TRIALS, TRIALS_HISTORY, TRIALS_TABLE, RunFolder
from fmnist.runs.documents import Names
from fmnist.runs.lifecycle import open_run
from fmnist.storage.arrow import store_filesystem
from fmnist.training.history import History, Row
from fmnist.waiting import Wait
from fmnist.workflows.train.config import TrainConfig
from fmnist.workflows.train.job import fit
from fmnist.workflows.tune.config import TUNE, TuneConfig
from fmnist.workflows.tune.hyperband import Hyperband, brackets
from fmnist.workflows.tune.progress import SearchProgress
from fmnist.workflows.tune.records import Status, TrialRecord, best_trial, trials_table
from fmnist.workflows.tune.trial import FAILURE, OBJECTIVE, SearchTask, SearchTrial, trial_state

# What Ray Tune's status of a trial means here; a trial of any other status has ended.
STATUSES: dict[str, Status] = {
    Trial.PENDING: "pending",
    Trial.RUNNING: "running",
    Trial.PAUSED: "paused",
    Trial.ERROR: "failed",
}
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
    points, problems = draw_points(config.space, config.seed, trials)
    if not points[0]:
        raise UserError(f"{config.space}: found no hyper-parameter, expected at least one to search")
    if problems:
        trial, problem = next(iter(problems.items()))
        session.note(f"{len(problems)} of {trials} points cannot be trained and kept; trial {trial}: {problem}")
    session.note(f"Ray: {resources}; a trial: {config.cpus_per_trial:g} CPUs, {config.gpus_per_trial:g} GPUs")
    from fmnist.report.data_plots import draw_data

    lanes = keep_lanes(session.opened, config, cpus)
    started_run = session.begin(draw_data, facts={LANES: lanes})
    with SearchProgress(publish=session.publish) as progress:
        records = _search(config, run, session.data, points, problems, progress)
    searched = clock.now()
    while True:
        records, winner, val_accuracy = _write_trials(config, run, records)
        session.note(
            f"best of {len(records)} trials: trial {winner.trial} with val_accuracy {val_accuracy:.4f}; "
            f"training it for {config.retrain_epochs} epochs"
        )
        figures = session.background.submit(_draw_trials, records, winner.trial)
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


def _draw_trials(records: list[TrialRecord], winner: int) -> Figures:
    """Draws the figures of the trials during the retraining."""
    from fmnist.workflows.tune.plots import tune_plots

    return tune_plots(records, winner)


def _search(
    config: TuneConfig,
    run: RunFolder,
    data: PreparedData,
    points: list[dict[str, Any]],
    problems: dict[int, str],
    progress: SearchProgress,
) -> list[TrialRecord]:
    """Runs a trial for each point on the cluster and returns them, in the order of their numbers.

    A trial whose point has a problem fails before its first epoch.
    """
    task = SearchTask(config, points, problems, run, ray.put(data.train), ray.put(data.val))
    trials = len(points)
    scheduler: TrialScheduler
    if config.scheduler == "hyperband":
        scheduler = Hyperband(OBJECTIVE, config.max_epochs, config.factor)
        plan = brackets(config.max_epochs, config.factor)
        budget = config.iterations * sum(bracket.budget for bracket in plan)
        sizes = ", ".join(str(bracket.sizes[0]) for bracket in plan)
        progress.note(f"Hyperband: trials in brackets of {sizes}, {trials} in all, and {budget} epochs")
    else:
        scheduler = AsyncHyperBandScheduler(
            metric=OBJECTIVE, mode="max", max_t=config.max_epochs, reduction_factor=config.factor
        )
        budget = trials * config.max_epochs
        progress.note(f"ASHA: trials of {config.max_epochs} epochs at most, {trials} in all")
    known = {trial: trial_state(run, trial, point).history().epochs for trial, point in enumerate(points, start=1)}
    progress.begin(trials, budget, known)
    watcher = _Watcher(config, points, scheduler, progress, run)
    filesystem, path = store_filesystem(run.store)
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(
            ray_tune.with_parameters(SearchTrial, task=task),
            {"CPU": config.cpus_per_trial, **({"GPU": config.gpus_per_trial} if config.gpus_per_trial else {})},
        ),
        param_space={"trial": ray_tune.grid_search(list(range(1, trials + 1)))},
        tune_config=ray_tune.TuneConfig(
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


class _Watcher(ray_tune.Callback):
    """Records what trials report, and displays it."""

    def __init__(
        self,
        config: TuneConfig,
        points: list[dict[str, Any]],
        scheduler: TrialScheduler,
        progress: SearchProgress,
        run: RunFolder,
    ) -> None:
        self.config, self.points, self.scheduler, self.progress, self.run = config, points, scheduler, progress, run
        self.records: list[TrialRecord] = []
        self._rows: dict[int, tuple[Row, ...]] = {}
        limit = partial(room_limit, config.cpus_per_trial, config.gpus_per_trial)
        self._wait = Wait(progress.note, self._waits_for, limit=limit)
        self._errors: dict[int, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks for its own way to resume, which this job does not use; a terminal has no pickle.
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self._rows[trial.config["trial"]] = result["rows"]
        for note in result.get("notes", ()):
            self.progress.note(note)
        if FAILURE in result:
            self._errors[trial.config["trial"]] = result[FAILURE]
        self._show(trials)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        # The trial may have failed since another process has taken the run over.
        self.run.ensure_lease(ask=True)
        _end_if_lasting(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.run.ensure_lease(ask=True)
        _end_if_lasting(trial)
        self._errors[trial.config["trial"]] = _error_line(trial)
        self._show(trials)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self.run.ensure_lease()
        self._show(trials)
        if any(trial.status == Trial.RUNNING for trial in trials):
            self._wait.progressed()
        self._wait.look()

    def _waits_for(self) -> str:
        return to_start(1, "trial", self.config.cpus_per_trial, self.config.gpus_per_trial)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self._show(trials)

    def _show(self, trials: list[Trial]) -> None:
        self.records = sorted(map(self._record, trials), key=lambda record: record.trial)
        self.progress.update(self.records)

    def _record(self, trial: Trial) -> TrialRecord:
        number = trial.config["trial"]
        history = History(tuple(self._rows.get(number, ())))
        return TrialRecord(
            trial=number,
            bracket=self.scheduler.bracket_of(trial) if isinstance(self.scheduler, Hyperband) else 0,
            parameters=self.points[number - 1],
            status=self._status(trial, history),
            rows=history.rows,
            error=self._errors.get(number),
        )

    def _status(self, trial: Trial, history: History) -> Status:
        if trial.status in STATUSES:
            return STATUSES[trial.status]
        if trial.config["trial"] in self._errors:
            return "failed"
        if history.epochs >= self.config.max_epochs:
            return "finished"
        return "stopped early" if history.should_stop(self.config.patience) else "stopped"


def _error_line(trial: Trial) -> str:
    """Returns a failed trial's last error in one line."""
    cause = _error(trial)
    return str(explained(cause) or f"{type(cause).__name__}: {first_line(cause)}")


def _end_if_lasting(trial: Trial) -> None:
    """Ends the search if its store failed: every other trial would fail as well."""
    if isinstance(known := lasting(_error(trial)), StoreError):
        raise known


def _error(trial: Trial) -> BaseException:
    # Tune's own `get_error` reads the file from the store, where it is not yet.
    file = trial.pickled_error_file
    error = cloudpickle.loads(Path(file).read_bytes()) if file else RuntimeError("Ray Tune kept no error")
    return getattr(error, "cause", None) or error


def _not_kept(run: RunFolder) -> dict[str, str]:
    return run.get_record(NOT_KEPT, dict[str, str]) if run.exists(NOT_KEPT) else {}


def _write_trials(
    config: TuneConfig, run: RunFolder, records: list[TrialRecord]
) -> tuple[list[TrialRecord], TrialRecord, float]:
    """Writes the tables of the trials and ``best.yaml``.

    Returns all trials, and of those whose retraining has not failed the best one and its validation accuracy.
    """
    failures = _not_kept(run)
    records = [
        replace(record, status="failed", error=f"its retraining failed: {failures[str(record.trial)]}")
        if str(record.trial) in failures
        else record
        for record in records
    ]
    run.put_csv(TRIALS_TABLE, trials_table(records))
    winner = best_trial(records)
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
