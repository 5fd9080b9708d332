"""From the phases' outcomes to the files of a finished transfer run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fmnist.artifacts import (
    CANDIDATES,
    CANDIDATES_TABLE,
    CHECKPOINTS,
    ENVIRONMENT,
    HISTORY,
    METRICS,
    MODEL,
    PHASES,
    PLOTS,
    PREDICTIONS,
    REPORT,
    utc,
)
from fmnist.candidates import CandidateRecord, candidates_table, history_table, winner
from fmnist.config import TRANSFER, TransferConfig
from fmnist.evaluation import evaluate, predictions_table
from fmnist.report.transfer_page import TransferReport, render_transfer
from fmnist.report.transfer_plots import transfer_plots
from fmnist.workflows.phases import PhaseOutcome, phase_model
from fmnist.workflows.preparation import PreparedData
from fmnist.workflows.results import csv_bytes
from fmnist.workflows.session import StartedRun, finish_run


def write_transfer_results(
    started_run: StartedRun[PreparedData],
    config: TransferConfig,
    outcomes: Sequence[PhaseOutcome],
    comparison: Mapping[str, Any] | None,
) -> None:
    """Measures the candidates, writes every file of the run, the manifest last, and says where they are.

    The run's model is the candidate of the highest validation accuracy; the others are in a folder each.

    Args:
        outcomes: of all phases.
        comparison: ``metrics.json`` of a train run to show beside them.
    """
    reporting = time.time()
    run, data = started_run.run, started_run.data
    labels = data.test.labels
    records = [outcome.record(labels) for outcome in outcomes]
    best = winner(records)
    kept = outcomes[records.index(best)]
    evaluation = evaluate(labels, kept.probabilities)
    devices = sorted({device for outcome in outcomes for device in outcome.devices})
    precision = ", ".join(sorted({outcome.precision for outcome in outcomes}))
    environment = {**started_run.environment, "devices": devices, "precision": precision}
    # Waited for before this thread draws: Matplotlib is not thread-safe.
    of_data = started_run.data_figures.result()
    plots = transfer_plots(records, comparison, evaluation, data.test, kept.probabilities) | of_data

    for outcome in outcomes:
        folder = "" if outcome is kept else f"{CANDIDATES}/{outcome.backbone}-{outcome.phase}/"
        run.put_bytes(f"{folder}{MODEL}", phase_model(run, outcome.backbone, outcome.phase))
        table = predictions_table(labels, outcome.probabilities)
        run.put_bytes(f"{folder}{PREDICTIONS}", csv_bytes(table, float_format="%.6g"))
    run.put_bytes(CANDIDATES_TABLE, csv_bytes(candidates_table(records)))
    run.put_bytes(HISTORY, csv_bytes(history_table(records)))
    run.put_json(ENVIRONMENT, environment)
    for name, image in plots.items():
        run.put_bytes(f"{PLOTS}/{name}.png", image)
    metrics = _metrics(config, run.run_id, data, outcomes, records, best, started_run.started, reporting)
    metrics |= {"precision": precision, "test": evaluation.as_dict()}
    page = render_transfer(
        TransferReport(
            run_id=run.run_id,
            metrics=metrics,
            data=data.summary,
            config=asdict(config),
            environment=environment,
            records=records,
            diagnoses=_diagnoses(outcomes),
            comparison=comparison,
            plots=plots,
        )
    )
    run.put_bytes(REPORT, page.encode())
    run.put_json(METRICS, metrics)
    lines = [
        f"best by validation: {best.backbone}, {best.phase}: test accuracy {evaluation.accuracy:.4f} (95 % interval "
        f"{evaluation.accuracy_low:.4f}-{evaluation.accuracy_high:.4f})",
        f"finished in {metrics['seconds']['total']:.0f} s: {run.location}/{REPORT}",
    ]
    # Checkpoints have gone into the models; the phases are what a run resumes from.
    finish_run(run, TRANSFER, lines, started_run.note, folders=[CHECKPOINTS, PHASES])


def _metrics(
    config: TransferConfig,
    run_id: str,
    data: PreparedData,
    outcomes: Sequence[PhaseOutcome],
    records: Sequence[CandidateRecord],
    best: CandidateRecord,
    started: float,
    reporting: float,
) -> dict[str, Any]:
    finished = time.time()
    row = best.best
    return {
        "job": TRANSFER,
        "run_id": run_id,
        "model": best.backbone,
        "phase": best.phase,
        "recipe": config.recipe,
        "parameters": best.parameters,
        "trained_parameters": best.trained_parameters,
        "seed": config.seed,
        "started": utc(started),
        "finished": utc(finished),
        "epochs": len(best.rows),
        "best_epoch": best.best_epoch,
        "train": {"loss": row["loss"], "accuracy": row["accuracy"], "images": len(data.train)},
        "val": {"loss": row["val_loss"], "accuracy": row["val_accuracy"], "images": len(data.val)},
        "weights": {outcome.backbone: asdict(outcome.weights) for outcome in outcomes},
        "candidates": [_candidate(record) for record in records],
        "diagnoses": [asdict(diagnosis) for diagnosis in _diagnoses(outcomes)],
        "seconds": {
            "total": finished - started,
            "features": sum(record.feature_seconds for record in records),
            "training": sum(record.seconds for record in records),
            "evaluation": sum(outcome.evaluation_seconds for outcome in outcomes),
            "report": finished - reporting,
        },
        "restarts": sum(outcome.restarts for outcome in outcomes),
    }


def _candidate(record: CandidateRecord) -> dict[str, Any]:
    """A candidate as ``metrics.json`` has it: its epochs are in ``history.csv``, and what the test says in brief."""
    values = asdict(record)
    rows, test = values.pop("rows"), values.pop("test")
    short = {name: test[name] for name in ("loss", "accuracy", "accuracy_low", "accuracy_high", "images")}
    return {**values, "epochs": len(rows), "val_accuracy": record.best["val_accuracy"], "test": short}


def _diagnoses(outcomes: Sequence[PhaseOutcome]) -> list[Any]:
    return [diagnosis for outcome in outcomes if outcome.phase == "frozen" for diagnosis in outcome.diagnoses]
