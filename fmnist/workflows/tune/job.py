"""The tune job: a search for hyper-parameters under Ray Tune, then a training of the best, in one run folder.

Top to bottom it is the method: `tune` prepares the images, lets `_search` run `SearchTrial` on as many processors as
there are, and hands the best trial's hyper-parameters to the train job's `fit`.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd
import ray
import yaml
from ray import cloudpickle
from ray import tune as ray_tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator

from fmnist.config import JobConfig
from fmnist.data.preparation import PreparedData, prepare
from fmnist.distributed import cluster
from fmnist.distributed.session import Figures, Session, run_on_ray
from fmnist.distributed.spaces import discover_space
from fmnist.errors import FmnistError, TrainingError, UserError, first_line
from fmnist.models.hyperparameters import Space, active_values, param_space
from fmnist.options import settings_yaml
from fmnist.runs import BEST, CHECKPOINTS, TRIALS_HISTORY, TRIALS_TABLE, RunFolder
from fmnist.runs.lifecycle import is_done, open_run
from fmnist.storage.arrow import store_filesystem
from fmnist.training.history import History, Row
from fmnist.workflows.train.config import TrainConfig
from fmnist.workflows.train.job import fit
from fmnist.workflows.tune.config import TUNE, TuneConfig
from fmnist.workflows.tune.hyperband import Hyperband, brackets
from fmnist.workflows.tune.progress import SearchProgress
from fmnist.workflows.tune.records import Status, TrialRecord, best_trial, trials_table
from fmnist.workflows.tune.trial import OBJECTIVE, SearchTask, SearchTrial, trial_number

# Folder of Ray Tune's own notes in the run folder; they go when the search has ended.
NOTES = "search"


def tune(config: TuneConfig) -> RunFolder:
    """Runs the tune job.

    Args:
        config: the job's settings.

    Returns:
        The finished run folder.

    Raises:
        UserError: if space, data, store, run id or resources are not as they must be; nothing has been trained then.
        TrainingError: if every trial failed, or the training of the best one did.
    """
    run = open_run(TUNE, config)
    if not is_done(run, config):
        run_on_ray(run, config, prepare, _tune)
    return run


def _tune(session: Session[TuneConfig, PreparedData]) -> None:
    """Searches, trains the best, and writes the results."""
    config, run, resources = session.config, session.run, session.resources
    cluster.check_room(resources, "trial", 1, config.cpus_per_trial, config.gpus_per_trial)
    cpus = cluster.cpus_per_worker(resources, config.workers, config.cpus_per_worker, config.gpus_per_worker)
    space = discover_space(config.space)
    if not space["space"]:
        raise UserError(f"{config.space}: found no hyper-parameter, expected at least one to search")
    session.note(f"Ray: {resources}; a trial: {config.cpus_per_trial:g} CPUs, {config.gpus_per_trial:g} GPUs")
    from fmnist.report.data_plots import draw_data

    started_run = session.begin(draw_data)
    with SearchProgress() as progress:
        records = _search(config, run, session.data, space, progress)
    searched = time.time()
    winner, reached = _write_trials(config, run, records)
    session.note(
        f"best of {len(records)} trials: trial {winner.trial} with val_accuracy {reached['val_accuracy']:.4f}; "
        f"training it for {config.retrain_epochs} epochs"
    )
    figures = session.beside.submit(_draw_trials, records, winner.trial)
    best = best_config(config, winner)
    outcome = fit(best, run, session.data, cpus)

    from fmnist.workflows.tune.results import SearchOutcome, write_tune_results

    search = SearchOutcome(config, records, winner, searched - session.started, figures)
    write_tune_results(started_run, search, best, outcome)


def _draw_trials(records: list[TrialRecord], winner: int) -> Figures:
    """Draws the trials' figures while the best of them is trained."""
    from fmnist.workflows.tune.plots import tune_plots

    return tune_plots(records, winner)


def _search(
    config: TuneConfig, run: RunFolder, data: PreparedData, space: Space, progress: SearchProgress
) -> list[TrialRecord]:
    """Runs all trials on the cluster and returns them, in the order of their numbers."""
    task = SearchTask(config, space, run, ray.put(data.train), ray.put(data.val))
    plan = brackets(config.max_epochs, config.factor)
    trials = config.iterations * sum(bracket.sizes[0] for bracket in plan)
    scheduler: TrialScheduler
    if config.scheduler == "hyperband":
        scheduler = Hyperband(OBJECTIVE, config.max_epochs, config.factor)
        budget = config.iterations * sum(bracket.budget for bracket in plan)
        sizes = ", ".join(str(bracket.sizes[0]) for bracket in plan)
        progress.note(f"Hyperband: trials in brackets of {sizes}, {trials} in all, and {budget} epochs")
    else:
        scheduler = AsyncHyperBandScheduler(
            metric=OBJECTIVE, mode="max", max_t=config.max_epochs, reduction_factor=config.factor
        )
        budget = trials * config.max_epochs
        progress.note(f"ASHA: trials of {config.max_epochs} epochs at most, {trials} in all")
    progress.begin(trials, budget)
    watcher = _Watcher(config, space, scheduler, progress)
    filesystem, path = store_filesystem(run.store)
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(
            ray_tune.with_parameters(SearchTrial, task=task),
            {"CPU": config.cpus_per_trial, **({"GPU": config.gpus_per_trial} if config.gpus_per_trial else {})},
        ),
        param_space=param_space(space),
        tune_config=ray_tune.TuneConfig(
            num_samples=trials,
            # Draws the same hyper-parameters for a trial's number whenever the search is started again.
            search_alg=BasicVariantGenerator(random_state=config.seed),
            scheduler=scheduler,
            # A process for each trial, and each pause, would import TensorFlow every time.
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"trial-{trial_number(trial.trial_id):04d}",
        ),
        run_config=ray_tune.RunConfig(
            name=NOTES,
            storage_path=f"{path}/{run.run_id}",
            storage_filesystem=filesystem,
            failure_config=ray_tune.FailureConfig(max_failures=config.max_failures),
            callbacks=[watcher],
            verbose=0,
        ),
    )
    # Tune names the trials that failed in lines of its own; here they are on the screen and in trials.csv.
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        tuner.fit()
    finally:
        logger.setLevel(level)
    run.store.delete_folder(f"{run.run_id}/{NOTES}")
    return watcher.records


class _Watcher(ray_tune.Callback):
    """Keeps what trials report, and shows it."""

    def __init__(self, config: TuneConfig, space: Space, scheduler: TrialScheduler, progress: SearchProgress) -> None:
        self.config, self.space, self.scheduler, self.progress = config, space, scheduler, progress
        self.records: list[TrialRecord] = []
        self._rows: dict[int, tuple[Row, ...]] = {}
        self._ran = time.monotonic()
        self._errors: dict[int, str] = {}
        self._parameters: dict[int, dict[str, Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes its callbacks down for a resumption of its own; a terminal cannot be, and ours does without.
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        # All that the trial has trained, in a replay more than what it was asked for.
        self._rows[trial_number(trial.trial_id)] = result["rows"]
        self._show(trials)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._errors[trial_number(trial.trial_id)] = _why(trial)
        self._show(trials)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._show(trials)
        if any(trial.status == Trial.RUNNING for trial in trials):
            self._ran = time.monotonic()
        elif time.monotonic() - self._ran > cluster.WAIT_SECONDS:
            self._ran = math.inf
            self.progress.note(
                f"still waiting: no room yet for a trial of {self.config.cpus_per_trial:g} CPUs and "
                f"{self.config.gpus_per_trial:g} GPUs on this cluster"
            )

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self._show(trials)

    def _show(self, trials: list[Trial]) -> None:
        ordered = sorted(trials, key=lambda trial: trial_number(trial.trial_id))
        self.records = [self._record(trial) for trial in ordered]
        self.progress.update(self.records)

    def _record(self, trial: Trial) -> TrialRecord:
        number = trial_number(trial.trial_id)
        if number not in self._parameters:
            self._parameters[number] = active_values(self.space, trial.config)
        history = History(tuple(self._rows.get(number, ())))
        return TrialRecord(
            trial=number,
            bracket=self.scheduler.bracket_of(trial) if isinstance(self.scheduler, Hyperband) else 0,
            parameters=self._parameters[number],
            status=self._status(trial, history),
            rows=history.rows,
            error=self._errors.get(number),
        )

    def _status(self, trial: Trial, history: History) -> Status:
        if trial.status == Trial.ERROR:
            return "failed"
        if trial.status == Trial.PAUSED:
            return "paused"
        if trial.status == Trial.RUNNING:
            return "running"
        if trial.status == Trial.PENDING:
            return "pending"
        if history.epochs >= self.config.max_epochs:
            return "finished"
        return "stopped early" if history.should_stop(self.config.patience) else "stopped"


def _why(trial: Trial) -> str:
    """A failed trial's last error in one line."""
    # Tune's own `get_error` looks into the store, where the file is not yet.
    file = trial.pickled_error_file
    error = cloudpickle.loads(Path(file).read_bytes()) if file else RuntimeError("no reason was kept")
    cause: BaseException = getattr(error, "cause", None) or error
    if isinstance(cause, FmnistError):
        return str(cause)
    return f"{type(cause).__name__}: {first_line(cause)}"


def _write_trials(config: TuneConfig, run: RunFolder, records: list[TrialRecord]) -> tuple[TrialRecord, Row]:
    """Writes what the search has found, and returns the best trial and its best epoch.

    Raises:
        TrainingError: if none has come through.
    """
    run.put_bytes(TRIALS_TABLE, trials_table(records).to_csv(index=False).encode())
    winner = best_trial(records)
    if winner is None or winner.best is None:
        raise TrainingError(
            f"run {run.run_id}: every trial failed, {len(records)} in all; {TRIALS_TABLE} has the reasons; "
            f"trial 1: {records[0].error}"
        )
    rows = [{"trial": record.trial, **row} for record in records for row in record.rows]
    run.put_bytes(TRIALS_HISTORY, pd.DataFrame(rows).to_csv(index=False).encode())
    reached = winner.best
    found = f"# Trial {winner.trial} of run {run.run_id}: val_accuracy {reached['val_accuracy']:.4f} in epoch "
    found += f"{reached['epoch']:g}.\n# To train it: fmnist train --config {BEST}\n"
    found += f"# To cross-validate it: fmnist crossval --config {BEST}\n"
    # Not what is of this run or this cluster only, and not what the space decides.
    left_out = {"artifacts", "run_id", "overwrite", "skip_finished", "learning_rate"}
    left_out |= {"workers", "cpus_per_worker", "gpus_per_worker"}
    settings = {name: value for name, value in asdict(best_config(config, winner)).items() if name not in left_out}
    before = yaml.safe_load(run.get_bytes(BEST)) if run.exists(BEST) else None
    if before and before["hyperparameters"] != settings["hyperparameters"]:
        # The run was interrupted while it trained what was the best then.
        run.store.delete_folder(f"{run.run_id}/{CHECKPOINTS}")
    run.put_bytes(BEST, (found + settings_yaml(settings)).encode())
    return winner, reached


def best_config(config: TuneConfig, winner: TrialRecord) -> TrainConfig:
    """The training of a trial's hyper-parameters, as `fmnist train` would do it."""
    shared = {field.name for field in fields(JobConfig)} | {
        *("workers", "cpus_per_worker", "gpus_per_worker", "max_failures")
    }
    return TrainConfig(
        **{name: getattr(config, name) for name in shared},
        model=config.space,
        hyperparameters=winner.parameters,
        epochs=config.retrain_epochs,
        batch_size=int(winner.parameters.get("batch_size", config.batch_size)),
        patience=config.retrain_patience,
    )
