"""The results of a search and of the winner's retraining: metrics, and the files of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields, replace
from functools import partial

from fmnist.data.preparation import PreparedData
from fmnist.distributed.session import Figures, StartedRun
from fmnist.runs import TRIALS
from fmnist.workflows.train.config import TrainConfig
from fmnist.workflows.train.job import TrainOutcome
from fmnist.workflows.train.results import TrainMetrics, finish, measure
from fmnist.workflows.tune.config import TUNE, TuneConfig
from fmnist.workflows.tune.page import render_tune
from fmnist.workflows.tune.records import TrialRecord, pareto_front


@dataclass(frozen=True)
class SizedTrial:
    """A trial of the Pareto front of validation accuracy and size."""

    trial: int
    model_parameters: int
    val_accuracy: float


@dataclass(frozen=True)
class SearchSummary:
    """The metrics of a search; the first five are settings, and so are sampler and time budget."""

    space: str
    scheduler: str
    max_epochs: int
    factor: int
    iterations: int
    trials: int
    failed: int
    epochs: int  # of all trials together
    winner: int  # number of the trial whose hyper-parameters were retrained
    val_accuracy: float  # of the winner's best epoch in the search
    seconds: float  # from the job's start to the search's end
    sampler: str = "random"
    time_budget: str | None = None
    front: tuple[SizedTrial, ...] | None = None  # smallest model first; None if parameters were not counted


@dataclass(frozen=True, kw_only=True)
class TuneMetrics(TrainMetrics):
    """The content of a tune run's ``metrics.json``: the winner's retraining, and the search."""

    search: SearchSummary


@dataclass(frozen=True)
class SearchOutcome:
    """The result of a search: every trial in the order of the numbers, and the best one."""

    config: TuneConfig
    records: Sequence[TrialRecord]
    winner: TrialRecord
    seconds: float  # from the job's start to the search's end
    figures: Future[Figures]  # of the trials, drawn during the retraining

    def summary(self) -> SearchSummary:
        """Returns the search's metrics."""
        assert self.winner.best
        config = self.config
        return SearchSummary(
            *(config.space, config.scheduler, config.max_epochs, config.factor, config.iterations),
            trials=len(self.records),
            failed=sum(record.status == "failed" for record in self.records),
            epochs=sum(record.epochs for record in self.records),
            winner=self.winner.trial,
            val_accuracy=self.winner.best["val_accuracy"],
            seconds=self.seconds,
            sampler=config.sampler,
            time_budget=config.time_budget,
            front=tuple(map(_sized, pareto_front(self.records))) if config.prefer_small else None,
        )


def _sized(record: TrialRecord) -> SizedTrial:
    assert record.best and record.model_parameters
    return SizedTrial(record.trial, record.model_parameters, record.best["val_accuracy"])


def write_tune_results(
    started: StartedRun[PreparedData], search: SearchOutcome, config: TrainConfig, outcome: TrainOutcome
) -> None:
    """Evaluates the retraining, of which ``config`` and ``outcome`` are, and writes every file of the run."""
    # Matplotlib is not thread-safe: this thread draws after the other one.
    plots = search.figures.result()
    trained, results = measure(started, config, outcome)
    retraining = {one.name: getattr(trained, one.name) for one in fields(trained)}
    metrics = TuneMetrics(**{**retraining, "job": TUNE}, search=search.summary())
    # A search resumes from the trials' states.
    results = replace(results, plots={**plots, **results.plots}, temporary=[*results.temporary, TRIALS])
    title = f"Hyper-parameter search over {search.config.space}"
    finish(started, results, metrics, title, search.config, partial(render_tune, records=search.records))
