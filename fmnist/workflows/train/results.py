"""The results of a training: its metrics, and the files of a finished run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import TypeVar

import pandas as pd

from fmnist import clock
from fmnist.config import JobConfig, worker_range
from fmnist.data.preparation import PreparedData
from fmnist.distributed.session import StartedRun
from fmnist.report.card import card_file
from fmnist.report.page import Report
from fmnist.report.plots import train_plots
from fmnist.runs import CHECKPOINTS, HISTORY, MODEL, PREDICTIONS, utc
from fmnist.runs.results import ModelMetrics, Results, SetScores, write_results
from fmnist.training.evaluation import Evaluation, evaluate, predictions_table
from fmnist.workflows.train.config import TRAIN, TrainConfig
from fmnist.workflows.train.job import TrainOutcome
from fmnist.workflows.train.page import render


@dataclass(frozen=True, kw_only=True)
class TrainMetrics(ModelMetrics):
    """The content of a train run's ``metrics.json``."""

    stopped_early: bool  # whether training ended before the last epoch of its settings
    images_per_second: float  # of training, median over the epochs
    workers: int  # data-parallel processes, of the last epoch where their number changed


AnyTrainMetrics = TypeVar("AnyTrainMetrics", bound=TrainMetrics)


def write_train_results(started: StartedRun[PreparedData], config: TrainConfig, outcome: TrainOutcome) -> None:
    """Evaluates, writes every file of the run, the manifest last, and prints where they are."""
    metrics, results = measure(started, config, outcome)
    finish(started, results, metrics, f"Training {config.model}", config, render)


def measure(
    started: StartedRun[PreparedData], config: TrainConfig, outcome: TrainOutcome
) -> tuple[TrainMetrics, Results]:
    """Evaluates a training's model on the test images; returns the metrics, and the files, still without a page."""
    reporting = clock.now()
    test, probabilities = started.data.test, outcome.test_probabilities
    assert probabilities is not None
    evaluation = evaluate(test.labels, probabilities, test.class_names)
    history = pd.DataFrame(outcome.history.rows)
    # Matplotlib is not thread-safe: this thread draws after the other one.
    data_figures = started.data_figures.result()
    plots = train_plots(history, int(outcome.history.best["epoch"]), evaluation, test, probabilities)
    metrics = _metrics(started, config, outcome, evaluation, reporting)
    files = started.run.files()
    return metrics, Results(
        metrics=metrics,
        environment={**started.environment, "devices": list(outcome.devices), "precision": outcome.precision},
        page="",
        plots=plots | data_figures,
        tables={HISTORY: history, PREDICTIONS: predictions_table(test.labels, probabilities)},
        files={MODEL: outcome.model},
        # Ray Train's records of its checkpoints: a resumed run needs them until the manifest is written.
        temporary=[path for path in files if path.startswith(f"{CHECKPOINTS}/") and path.count("/") == 1],
    )


def finish(
    started: StartedRun[PreparedData],
    results: Results,
    metrics: AnyTrainMetrics,
    title: str,
    config: JobConfig,
    render: Callable[[Report[AnyTrainMetrics], pd.DataFrame], str],
) -> None:
    """Writes every file of a job that ends with a training: the ``results`` of `measure`, and the job's own page.

    Metrics and config are the job's; ``render`` returns the page from the report and the table of epochs.
    """
    report = Report(
        title=title,
        metrics=metrics,
        data=started.data.summary,
        config=asdict(config),
        environment=results.environment,
        plots=results.plots,
    )
    page, card = render(report, results.tables[HISTORY]), card_file(report)
    results = replace(results, metrics=metrics, page=page, files={**results.files, **card})
    write_results(started.run, results)
    test = metrics.test
    line = (
        f"test accuracy {test.accuracy:.4f} (95 % interval {test.accuracy_low:.4f}-{test.accuracy_high:.4f}), "
        f"best epoch {metrics.best_epoch} of {metrics.epochs} with val_accuracy {metrics.val.accuracy:.4f}"
    )
    started.finish(results, [line])


def _metrics(
    started: StartedRun[PreparedData],
    config: TrainConfig,
    outcome: TrainOutcome,
    evaluation: Evaluation,
    reporting: float,
) -> TrainMetrics:
    rows, best = outcome.history.rows, outcome.history.best
    finished = clock.now()
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
        workers=int(rows[-1].get("workers", worker_range(config.workers)[1])),
        restarts=outcome.restarts,
    )
