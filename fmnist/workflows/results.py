"""From what training brought back to the files of a finished run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from fmnist.artifacts import (
    CHECKPOINTS,
    ENVIRONMENT,
    HISTORY,
    METRICS,
    MODEL,
    PLOTS,
    PREDICTIONS,
    REPORT,
    TRIALS,
    utc,
)
from fmnist.config import TRAIN, TUNE, TrainConfig, TuneConfig
from fmnist.evaluation import Evaluation, evaluate, predictions_table
from fmnist.report.page import TrainReport, TuneReport, render, render_tune
from fmnist.report.plots import train_plots
from fmnist.trials import TrialRecord
from fmnist.workflows.outcome import TrainOutcome
from fmnist.workflows.preparation import PreparedData
from fmnist.workflows.session import Figures, StartedRun, finish_run


@dataclass(frozen=True)
class SearchOutcome:
    """What a search brings back.

    Attributes:
        config: of the tune job.
        records: every trial, in the order of the numbers.
        winner: the trial whose hyper-parameters were trained.
        seconds: from the job's start to the search's end.
        figures: of the trials, as PNG by name; drawn while the winner is trained.
    """

    config: TuneConfig
    records: Sequence[TrialRecord]
    winner: TrialRecord
    seconds: float
    figures: Future[Figures]

    def metrics(self) -> dict[str, Any]:
        """The content of ``metrics.json`` under ``search``."""
        assert self.winner.best
        return {
            "space": self.config.space,
            "scheduler": self.config.scheduler,
            "max_epochs": self.config.max_epochs,
            "factor": self.config.factor,
            "iterations": self.config.iterations,
            "trials": len(self.records),
            "failed": sum(record.status == "failed" for record in self.records),
            "epochs": sum(record.epochs for record in self.records),
            "winner": self.winner.trial,
            "val_accuracy": self.winner.best["val_accuracy"],
            "seconds": self.seconds,
        }


def write_results(
    started_run: StartedRun[PreparedData],
    config: TrainConfig,
    outcome: TrainOutcome,
    search: SearchOutcome | None = None,
) -> None:
    """Evaluates, writes every file of the run, the manifest last, and says where they are.

    Args:
        config: of the training.
        search: what found the training's hyper-parameters, in a tune job.
    """
    reporting = time.time()
    run, data = started_run.run, started_run.data
    assert outcome.test_probabilities is not None
    evaluation = evaluate(data.test.labels, outcome.test_probabilities)
    history = pd.DataFrame(outcome.history.rows)
    environment = {**started_run.environment, "devices": list(outcome.devices), "precision": outcome.precision}
    # Waited for before this thread draws: Matplotlib is not thread-safe.
    of_data = started_run.data_figures.result()
    of_search = search.figures.result() if search else {}
    of_training = train_plots(
        history, int(outcome.history.best["epoch"]), evaluation, data.test, outcome.test_probabilities
    )
    plots = of_search | of_training | of_data

    run.put_bytes(MODEL, outcome.model)
    run.put_bytes(HISTORY, csv_bytes(history))
    table = predictions_table(data.test.labels, outcome.test_probabilities)
    run.put_bytes(PREDICTIONS, csv_bytes(table, float_format="%.6g"))
    run.put_json(ENVIRONMENT, environment)
    for name, image in plots.items():
        run.put_bytes(f"{PLOTS}/{name}.png", image)

    metrics = _metrics(config, run.run_id, data, outcome, evaluation, started_run.started, reporting)
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
    lines = [
        f"test accuracy {evaluation.accuracy:.4f} (95 % interval {evaluation.accuracy_low:.4f}-"
        f"{evaluation.accuracy_high:.4f}), best epoch {metrics['best_epoch']} of {metrics['epochs']}"
        f" with val_accuracy {metrics['val']['accuracy']:.4f}",
        f"finished in {metrics['seconds']['total']:.0f} s: {run.location}/{REPORT}",
    ]
    # Ray Train's own notes on the checkpoints. Until the manifest is written, a resumption needs them and the trials.
    notes = [path for path in run.files() if path.startswith(f"{CHECKPOINTS}/") and path.count("/") == 1]
    finish_run(run, metrics["job"], lines, started_run.note, files=notes, folders=[TRIALS])


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


def csv_bytes(table: pd.DataFrame, **options: Any) -> bytes:
    """A table as a run's CSV files have it, without the index; ``options`` are those of ``DataFrame.to_csv``."""
    return table.to_csv(index=False, **options).encode()
