"""What a search's trials report while they run: records, the display, and whether to go on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray import tune as ray_tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from fmnist.boundary import explained, lasting
from fmnist.distributed.spaces import Point
from fmnist.distributed.waiting import room_limit, to_start
from fmnist.errors import StoreError, first_line
from fmnist.runs import RunFolder
from fmnist.training.history import History, Row
from fmnist.waiting import Wait
from fmnist.workflows.tune.budget import TimeBudget
from fmnist.workflows.tune.config import TuneConfig
from fmnist.workflows.tune.hyperband import Hyperband
from fmnist.workflows.tune.progress import SearchProgress
from fmnist.workflows.tune.records import Status, TrialRecord
from fmnist.workflows.tune.trial import FAILURE, OUT_OF_TIME, trial_state

# What Ray Tune's status of a trial means here; a trial of any other status has ended.
STATUSES: dict[str, Status] = {
    Trial.PENDING: "pending",
    Trial.RUNNING: "running",
    Trial.PAUSED: "paused",
    Trial.ERROR: "failed",
}


class Watcher(ray_tune.Callback):
    """Records what trials report, and displays it."""

    def __init__(
        self,
        config: TuneConfig,
        scheduler: TrialScheduler,
        progress: SearchProgress,
        run: RunFolder,
        known: dict[int, int],
        budget: TimeBudget | None,
    ) -> None:
        self.config, self.scheduler, self.progress, self.run = config, scheduler, progress, run
        self.known, self.budget = known, budget
        self.out_of_time: set[int] = set()
        self.records: list[TrialRecord] = []
        self._rows: dict[int, tuple[Row, ...]] = {}
        limit = partial(room_limit, config.cpus_per_trial, config.gpus_per_trial)
        self._wait = Wait(progress.note, self._waits_for, limit=limit)
        self._errors: dict[int, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks for its own way to resume, which this job does not use; a terminal has no pickle.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number, point = trial.config["trial"], Point(**trial.config["point"])
        if number not in self.known:
            self.known[number] = trial_state(self.run, number, point.values).history().epochs

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self._rows[trial.config["trial"]] = result["rows"]
        for note in result.get("notes", ()):
            self.progress.note(note)
        if OUT_OF_TIME in result:
            self.out_of_time.add(trial.config["trial"])
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
        if self.budget:
            self.budget.note()
        self._show(trials)
        if any(trial.status == Trial.RUNNING for trial in trials):
            self._wait.progressed()
        self._wait.look()

    def _waits_for(self) -> str:
        return to_start(1, "trial", self.config.cpus_per_trial, self.config.gpus_per_trial)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self._show(trials)

    def _show(self, trials: list[Trial]) -> None:
        records = sorted(map(self._record, trials), key=lambda record: record.trial)
        # A trial that had no time for an epoch has not begun.
        self.records = [record for record in records if record.rows or record.trial not in self.out_of_time]
        self.progress.update(self.records)

    def _record(self, trial: Trial) -> TrialRecord:
        number, point = trial.config["trial"], Point(**trial.config["point"])
        history = History(tuple(self._rows.get(number, ())))
        return TrialRecord(
            trial=number,
            bracket=self.scheduler.bracket_of(trial) if isinstance(self.scheduler, Hyperband) else 0,
            parameters=point.values,
            model_parameters=point.model_parameters,
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
        if trial.config["trial"] in self.out_of_time:
            return "out of time"
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
