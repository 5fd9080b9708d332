"""From the folds' outcomes to the files of a finished cross-validation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from statistics import mean
from typing import Any

import numpy as np
import pandas as pd

from fmnist.artifacts import (
    ENVIRONMENT,
    FOLDS,
    FOLDS_TABLE,
    HISTORY,
    METRICS,
    PLOTS,
    PREDICTIONS,
    REPORT,
    utc,
)
from fmnist.config import CROSSVAL, CrossvalConfig
from fmnist.evaluation import Evaluation, evaluate, predictions_table
from fmnist.folds import INTERVAL_METHOD, FoldRecord, folds_table, held_out_share, history_table, spread
from fmnist.report.crossval_page import CrossvalReport, render_crossval
from fmnist.report.crossval_plots import crossval_plots
from fmnist.workflows.fold import FoldOutcome
from fmnist.workflows.preparation import PreparedFolds
from fmnist.workflows.results import csv_bytes
from fmnist.workflows.session import StartedRun, finish_run


def write_crossval_results(
    started_run: StartedRun[PreparedFolds], config: CrossvalConfig, outcomes: Sequence[FoldOutcome], restarts: int
) -> None:
    """Measures the folds, writes every file of the run, the manifest last, and says where they are.

    Args:
        outcomes: of all folds; those with carried weights, if any, beside the others.
        restarts: how often folds were started again.
    """
    reporting = time.time()
    run, data = started_run.run, started_run.data
    records = [_record(outcome, data) for outcome in outcomes]
    fresh = [record for record in records if record.weights == "fresh"]
    probabilities = _probabilities_of_all(outcomes, data)
    pooled = evaluate(data.images.labels, probabilities)
    precisions = sorted({outcome.precision for outcome in outcomes})
    devices = sorted({device for outcome in outcomes for device in outcome.devices})
    environment = {**started_run.environment, "devices": devices, "precision": ", ".join(precisions)}
    # Waited for before this thread draws: Matplotlib is not thread-safe.
    of_data = started_run.data_figures.result()
    plots = crossval_plots(records, pooled, data.images, probabilities) | of_data

    run.put_bytes(FOLDS_TABLE, csv_bytes(folds_table(records)))
    run.put_bytes(HISTORY, csv_bytes(history_table(records)))
    run.put_bytes(PREDICTIONS, csv_bytes(_predictions(data, probabilities), float_format="%.6g"))
    run.put_json(ENVIRONMENT, environment)
    for name, image in plots.items():
        run.put_bytes(f"{PLOTS}/{name}.png", image)
    finished = time.time()
    metrics = {
        "job": CROSSVAL,
        "run_id": run.run_id,
        "model": config.model,
        "parameters": outcomes[0].parameters,
        "seed": config.seed,
        "precision": environment["precision"],
        "started": utc(started_run.started),
        "finished": utc(finished),
        "folds": len(fresh),
        "epochs": sum(len(record.rows) for record in fresh),
        "train": {name: mean(record.kept[name] for record in fresh) for name in ("loss", "accuracy")},
        "val": {name: mean(record.kept[f"val_{name}"] for record in fresh) for name in ("loss", "accuracy")},
        "held_out": _held_out(fresh, pooled),
        "carried": _carried([record for record in records if record.weights == "carried"]),
        "seconds": {
            "total": finished - started_run.started,
            "training": sum(record.seconds for record in records),
            "report": finished - reporting,
        },
        "restarts": restarts,
    }
    page = render_crossval(
        CrossvalReport(
            run_id=run.run_id,
            metrics=metrics,
            data=data.summary,
            config=asdict(config),
            environment=environment,
            records=records,
            plots=plots,
        )
    )
    run.put_bytes(REPORT, page.encode())
    run.put_json(METRICS, metrics)
    held_out = metrics["held_out"]
    lines = [
        f"held-out accuracy {held_out['accuracy']:.4f} +- {held_out['accuracy_sd']:.4f} over {len(fresh)} folds "
        f"(95 % interval of the mean {held_out['accuracy_low']:.4f}-{held_out['accuracy_high']:.4f})"
    ]
    if carried := metrics["carried"]:
        lines.append(
            f"with weights carried from fold to fold, as in the study, it seems to be {carried['accuracy'][0]:.4f} in "
            f"the first and {carried['accuracy'][-1]:.4f} in the last"
        )
    lines.append(f"finished in {metrics['seconds']['total']:.0f} s: {run.location}/{REPORT}")
    # The folds are what a run resumes from.
    finish_run(run, CROSSVAL, lines, started_run.note, folders=[FOLDS])


def _record(outcome: FoldOutcome, data: PreparedFolds) -> FoldRecord:
    fold = data.folds[outcome.fold - 1]
    held_out = evaluate(data.images.labels[fold.held_out], outcome.probabilities)
    fresh = outcome.weights == "fresh"
    return FoldRecord(
        fold=outcome.fold,
        weights=outcome.weights,
        seed=outcome.seed,
        rows=outcome.rows,
        kept_epoch=outcome.kept_epoch,
        train_images=len(fold.train) + (0 if fresh else len(fold.val)),
        val_images=len(fold.val) if fresh else len(fold.held_out),
        held_out_images=len(fold.held_out),
        held_out_loss=held_out.loss,
        held_out_accuracy=held_out.accuracy,
    )


def _probabilities_of_all(outcomes: Sequence[FoldOutcome], data: PreparedFolds) -> np.ndarray:
    """Every image's probabilities, from the fold that it was held out in: float32 [n, 10]."""
    of_all = np.empty((len(data.images), 10), np.float32)
    for outcome in outcomes:
        if outcome.weights == "fresh":
            of_all[data.folds[outcome.fold - 1].held_out] = outcome.probabilities
    return of_all


def _predictions(data: PreparedFolds, probabilities: np.ndarray) -> pd.DataFrame:
    table = predictions_table(data.images.labels, probabilities)
    folds = np.empty(len(data.images), int)
    for fold in data.folds:
        folds[fold.held_out] = fold.number
    table.insert(1, "fold", folds)
    return table


def _held_out(fresh: Sequence[FoldRecord], pooled: Evaluation) -> dict[str, Any]:
    share = held_out_share(fresh)
    accuracy = spread([record.held_out_accuracy for record in fresh], share)
    loss = spread([record.held_out_loss for record in fresh], share)
    images = pooled.as_dict()
    return {
        "accuracy": accuracy.mean,
        "accuracy_sd": accuracy.sd,
        # Of very few folds the interval would reach beyond what an accuracy can be.
        "accuracy_low": max(0.0, accuracy.low),
        "accuracy_high": min(1.0, accuracy.high),
        "interval": INTERVAL_METHOD,
        "loss": loss.mean,
        "loss_sd": loss.sd,
        **{name: images[name] for name in ("images", "per_class", "confusion_matrix")},
    }


def _carried(records: Sequence[FoldRecord]) -> dict[str, Any] | None:
    """What the study's protocol says, fold by fold; None where it was not repeated."""
    if not records:
        return None
    return {
        "accuracy": [record.held_out_accuracy for record in records],
        "loss": [record.held_out_loss for record in records],
        "epochs": sum(len(record.rows) for record in records),
    }
