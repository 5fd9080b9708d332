"""The results of a training: its metrics, and the files of a finished run."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import pandas as pd

from fmnist.data.preparation import PreparedData
from fmnist.distributed.session import Figures, StartedRun
from fmnist.report.page import Report
from fmnist.report.plots import train_plots
from fmnist.runs import CHECKPOINTS, HISTORY, MODEL, PREDICTIONS, RunFolder, utc
from fmnist.runs.results import ModelMetrics, Results, SetScores, finish_run, write_results
from fmnist.training.evaluation import Evaluation, evaluate, predictions_table
from fmnist.workflows.train.config import TRAIN, TrainConfig
from fmnist.workflows.train.job import TrainOutcome
from fmnist.workflows.train.page import render


@dataclass(frozen=True, kw_only=True)
class TrainMetrics(ModelMetrics):
    """The content of a train run's ``metrics.json``.

    Attributes:
        stopped_early: whether training ended before the last epoch of its settings.
        images_per_second: training images per second, median over the epochs.
        workers: number of data-parallel processes.
    """

    stopped_early: bool
    images_per_second: float
    workers: int


@dataclass(frozen=True)
class TrainedModel:
    """A finished training, evaluated on the test images.

    Attributes:
        history: one row per epoch, with the columns of ``history.csv``.
        environment: content of ``environment.json``.
        metrics: content of a train run's ``metrics.json``.
        plots: of training and test, as PNG by name.
        tables, files: history, predictions and model by their paths in the run folder.
        temporary: Ray Train's records of its checkpoints.
    """

    history: pd.DataFrame
    environment: dict[str, Any]
    metrics: TrainMetrics
    plots: Figures
    tables: dict[str, pd.DataFrame]
    files: dict[str, bytes]
    temporary: tuple[str, ...]

    @property
    def line(self) -> str:
        """The result in one line."""
        metrics, test = self.metrics, self.metrics.test
        return (
            f"test accuracy {test.accuracy:.4f} (95 % interval {test.accuracy_low:.4f}-{test.accuracy_high:.4f}), "
            f"best epoch {metrics.best_epoch} of {metrics.epochs} with val_accuracy {metrics.val.accuracy:.4f}"
        )


def write_train_results(started: StartedRun[PreparedData], config: TrainConfig, outcome: TrainOutcome) -> None:
    """Evaluates, writes every file of the run, the manifest last, and prints where they are."""
    model = measure(started, config, outcome)
    plots = model.plots | started.data_figures.result()
    report = Report(
        title=f"Training {config.model}",
        metrics=model.metrics,
        data=started.data.summary,
        config=asdict(config),
        environment=model.environment,
        plots=plots,
    )
    results = Results(
        metrics=model.metrics,
        environment=model.environment,
        page=render(report, model.history),
        plots=plots,
        tables=model.tables,
        files=model.files,
        temporary=model.temporary,
    )
    write_results(started.run, results)
    finish_run(started.run, results, [model.line], started.note)


def measure(started: StartedRun[PreparedData], config: TrainConfig, outcome: TrainOutcome) -> TrainedModel:
    """Evaluates a training's model on the test images and draws its figures."""
    reporting = time.time()
    labels = started.data.test.labels
    assert outcome.test_probabilities is not None
    evaluation = evaluate(labels, outcome.test_probabilities)
    history = pd.DataFrame(outcome.history.rows)
    best_epoch = int(outcome.history.best["epoch"])
    # Matplotlib is not thread-safe: this thread draws after the other one.
    started.data_figures.result()
    plots = train_plots(history, best_epoch, evaluation, started.data.test, outcome.test_probabilities)
    return TrainedModel(
        history=history,
        environment={**started.environment, "devices": list(outcome.devices), "precision": outcome.precision},
        metrics=_metrics(started, config, outcome, evaluation, reporting),
        plots=plots,
        tables={HISTORY: history, PREDICTIONS: predictions_table(labels, outcome.test_probabilities)},
        files={MODEL: outcome.model},
        temporary=_checkpoint_notes(started.run),
    )


def _metrics(
    started: StartedRun[PreparedData],
    config: TrainConfig,
    outcome: TrainOutcome,
    evaluation: Evaluation,
    reporting: float,
) -> TrainMetrics:
    rows, best = outcome.history.rows, outcome.history.best
    finished = time.time()
    return TrainMetrics(
        job=TRAIN,
        run_id=started.run.run_id,
        started=utc(started.started),
        finished=utc(finished),
        seconds={
            "total": finished - started.started,
            "training": sum(row["seconds"] for row in rows),
            "evaluation": outcome.evaluation_seconds,
            "report": finished - reporting,
        },
        model=config.model,
        parameters=outcome.parameters,
        seed=config.seed,
        precision=outcome.precision,
        epochs=len(rows),
        best_epoch=int(best["epoch"]),
        stopped_early=len(rows) < config.epochs,
        train=SetScores(best["loss"], best["accuracy"], len(started.data.train)),
        val=SetScores(best["val_loss"], best["val_accuracy"], len(started.data.val)),
        test=evaluation,
        images_per_second=median(row["images_per_second"] for row in rows),
        workers=config.workers,
        restarts=outcome.restarts,
    )


def _checkpoint_notes(run: RunFolder) -> tuple[str, ...]:
    """Returns Ray Train's records of the checkpoints, which a resumed run needs until the manifest is written."""
    return tuple(path for path in run.files() if path.startswith(f"{CHECKPOINTS}/") and path.count("/") == 1)
