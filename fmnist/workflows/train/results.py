"""From what training brought back to the files of a finished run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from fmnist.data.preparation import PreparedData
from fmnist.report.plots import train_plots
from fmnist.runs import (
    CHECKPOINTS,
    ENVIRONMENT,
    HISTORY,
    METRICS,
    MODEL,
    PLOTS,
    PREDICTIONS,
    REPORT,
    TRIALS,
    RunFolder,
    utc,
)
from fmnist.training.evaluation import Evaluation, evaluate, predictions_table
from fmnist.workflows.train.config import TRAIN, TrainConfig
from fmnist.workflows.train.outcome import TrainOutcome
from fmnist.workflows.train.page import TrainReport, render
from fmnist.workflows.tune.config import TUNE
from fmnist.workflows.tune.page import TuneReport, render_tune
from fmnist.workflows.tune.plots import tune_plots
from fmnist.workflows.tune.results import SearchOutcome


def write_results(
    config: TrainConfig,
    run: RunFolder,
    data: PreparedData,
    outcome: TrainOutcome,
    environment: Mapping[str, Any],
    figures: Mapping[str, bytes],
    started: float,
    note: Callable[[str], None],
    search: SearchOutcome | None = None,
) -> Evaluation:
    """Evaluates, writes every file of the run, the manifest last, and says where they are.

    Args:
        config: of the training.
        environment: of the driver, as written at the start.
        figures: of the data, as PNG by name.
        started: the job's start, seconds since the epoch.
        note: shows a line.
        search: what found the training's hyper-parameters, in a tune job.
    """
    reporting = time.time()
    assert outcome.test_probabilities is not None
    evaluation = evaluate(data.test.labels, outcome.test_probabilities)
    history = pd.DataFrame(outcome.history.rows)
    environment = {**environment, "devices": list(outcome.devices), "precision": outcome.precision}
    plots = train_plots(
        history, int(outcome.history.best["epoch"]), evaluation, data.test, outcome.test_probabilities
    ) | dict(figures)
    if search:
        plots = tune_plots(search.records, search.winner.trial) | plots

    run.put_bytes(MODEL, outcome.model)
    run.put_csv(HISTORY, history)
    table = predictions_table(data.test.labels, outcome.test_probabilities)
    run.put_csv(PREDICTIONS, table, float_format="%.6g")
    run.put_json(ENVIRONMENT, environment)
    for name, image in plots.items():
        run.put_bytes(f"{PLOTS}/{name}.png", image)

    metrics = _metrics(config, run.run_id, data, outcome, evaluation, started, reporting)
    parts: dict[str, Any] = {
        "run_id": run.run_id,
        "metrics": metrics,
        "data": data.summary,
        "environment": environment,
        "history": history,
        "plots": plots,
    }
    if search:
        metrics |= {"job": TUNE, "search": search.metrics()}
        title = f"Hyper-parameter search over {search.config.space}"
        page = render_tune(TuneReport(title=title, config=asdict(search.config), records=search.records, **parts))
    else:
        page = render(TrainReport(title=f"Training {config.model}", config=asdict(config), **parts))
    run.put_bytes(REPORT, page.encode())
    run.put_json(METRICS, metrics)
    for path in run.files():
        # Ray Train's own notes on the checkpoints are of no use once it has ended.
        if path.startswith(f"{CHECKPOINTS}/") and path.count("/") == 1:
            run.delete(path)
    # They are what a search resumes from, so they go last.
    run.finish(metrics["job"], without=TRIALS)
    run.store.delete_folder(f"{run.run_id}/{TRIALS}")
    note(
        f"test accuracy {evaluation.accuracy:.4f} (95 % interval {evaluation.accuracy_low:.4f}-"
        f"{evaluation.accuracy_high:.4f}), best epoch {metrics['best_epoch']} of {metrics['epochs']}"
        f" with val_accuracy {metrics['val']['accuracy']:.4f}"
    )
    note(f"finished in {metrics['seconds']['total']:.0f} s: {run.location}/{REPORT}")
    return evaluation


def _metrics(
    config: TrainConfig,
    run_id: str,
    data: PreparedData,
    outcome: TrainOutcome,
    evaluation: Evaluation,
    started: float,
    reporting: float,
) -> dict[str, Any]:
    rows, best = outcome.history.rows, outcome.history.best
    finished = time.time()
    training = sum(row["seconds"] for row in rows)
    return {
        "job": TRAIN,
        "run_id": run_id,
        "model": config.model,
        "parameters": outcome.parameters,
        "seed": config.seed,
        "precision": outcome.precision,
        "started": utc(started),
        "finished": utc(finished),
        "epochs": len(rows),
        "best_epoch": int(best["epoch"]),
        "stopped_early": len(rows) < config.epochs,
        "train": {"loss": best["loss"], "accuracy": best["accuracy"], "images": len(data.train)},
        "val": {"loss": best["val_loss"], "accuracy": best["val_accuracy"], "images": len(data.val)},
        "test": evaluation.as_dict(),
        "seconds": {
            "total": finished - started,
            "training": training,
            "evaluation": outcome.evaluation_seconds,
            "report": finished - reporting,
        },
        "images_per_second": float(np.median([row["images_per_second"] for row in rows])),
        "workers": config.workers,
        "restarts": outcome.restarts,
    }
