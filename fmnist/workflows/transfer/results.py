"""From the outcomes of the phases to the files of a finished transfer run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import pandas as pd

from fmnist import clock
from fmnist.data.preparation import PreparedData
from fmnist.distributed.session import StartedRun
from fmnist.report.card import card_file
from fmnist.report.page import Report
from fmnist.runs import CANDIDATES, CANDIDATES_TABLE, CHECKPOINTS, HISTORY, MODEL, PHASES, PREDICTIONS, utc
from fmnist.runs.results import ModelMetrics, Results, SetScores, write_results
from fmnist.training.evaluation import Evaluation, evaluate, predictions_table
from fmnist.workflows.transfer import records
from fmnist.workflows.transfer.config import TRANSFER, TransferConfig
from fmnist.workflows.transfer.page import render_transfer
from fmnist.workflows.transfer.plots import transfer_plots
from fmnist.workflows.transfer.records import CandidateMetrics, PhaseOutcome

CANDIDATE_COLUMNS = [
    *("backbone", "phase", "recipe", "image_size", "feature_layer", "features", "parameters", "trained_parameters"),
    *("epochs", "best_epoch", "loss", "accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy"),
    *("test_accuracy_low", "test_accuracy_high", "feature_seconds", "training_seconds"),
    "diverged",
]


@dataclass(frozen=True, kw_only=True)
class TransferMetrics(ModelMetrics):
    """The content of a transfer run's ``metrics.json``; the scores are those of the winner.

    Attributes:
        phase, trained_parameters: of the winner.
        recipe: ``sound`` or ``notebook``.
        weights: pretrained weights by backbone.
        candidates: all of them, in the order of training.
        diagnoses: of every backbone's input in each recipe.
    """

    phase: str
    recipe: str
    trained_parameters: int
    weights: dict[str, records.WeightsRecord]
    candidates: tuple[CandidateMetrics, ...]
    diagnoses: tuple[records.InputDiagnosis, ...]


def write_transfer_results(
    started: StartedRun[PreparedData],
    config: TransferConfig,
    outcomes: Sequence[PhaseOutcome],
    comparison: ModelMetrics | None,
) -> None:
    """Evaluates the candidates, writes every file of the run, the manifest last, and says where they are.

    The run's model is the candidate of the highest validation accuracy; each other candidate has a folder. The
    report shows ``comparison``, the metrics of a train run, next to the candidates.
    """
    reporting = clock.now()
    run, data = started.run, started.data
    labels, names = data.test.labels, data.test.class_names
    candidates = tuple(candidate_metrics(one, evaluate(labels, one.probabilities, names)) for one in outcomes)
    best = records.winner(candidates)
    kept = outcomes[candidates.index(best)]
    history = history_table(outcomes)
    # Waited for before this thread draws: Matplotlib is not thread-safe.
    data_figures = started.data_figures.result()
    plots = transfer_plots(candidates, history, comparison, data.test, kept.probabilities) | data_figures
    tables = {CANDIDATES_TABLE: candidates_table(candidates), HISTORY: history}
    for outcome in outcomes:
        folder = "" if outcome is kept else f"{CANDIDATES}/{outcome.backbone}-{outcome.phase}/"
        tables[f"{folder}{PREDICTIONS}"] = predictions_table(labels, outcome.probabilities)
        # One at a time: together they may not fit into memory.
        run.put_bytes(f"{folder}{MODEL}", records.phase_model(run, outcome.backbone, outcome.phase))
    finished = clock.now()
    metrics = TransferMetrics(
        job=TRANSFER,
        run_id=run.run_id,
        started=utc(started.started),
        finished=utc(finished),
        seconds={
            "total": finished - started.started,
            "features": sum(candidate.feature_seconds for candidate in candidates),
            "training": sum(candidate.training_seconds for candidate in candidates),
            "evaluation": sum(outcome.evaluation_seconds for outcome in outcomes),
            "report": finished - reporting,
        },
        model=best.backbone,
        phase=best.phase,
        recipe=config.recipe,
        parameters=best.parameters,
        trained_parameters=best.trained_parameters,
        seed=config.seed,
        precision=", ".join(sorted({outcome.precision for outcome in outcomes})),
        epochs=best.epochs,
        best_epoch=best.best_epoch,
        train=SetScores(best.loss, best.accuracy, len(data.train)),
        val=SetScores(best.val_loss, best.val_accuracy, len(data.val)),
        test=best.test,
        weights={outcome.backbone: outcome.weights for outcome in outcomes},
        candidates=candidates,
        diagnoses=tuple(one for outcome in outcomes if outcome.phase == "frozen" for one in outcome.diagnoses),
        restarts=sum(outcome.restarts for outcome in outcomes),
    )
    devices = sorted({device for outcome in outcomes for device in outcome.devices})
    report = Report(
        title="Transfer learning on Fashion-MNIST",
        metrics=metrics,
        data=data.summary,
        config=asdict(config),
        environment={**started.environment, "devices": devices, "precision": metrics.precision},
        plots=plots,
    )
    results = Results(
        metrics=metrics,
        environment=report.environment,
        page=render_transfer(report, history, comparison),
        plots=plots,
        tables=tables,
        files=card_file(report),
        # The models are made of the checkpoints; a run resumes from the phases.
        temporary=(CHECKPOINTS, PHASES),
    )
    write_results(run, results)
    line = (
        f"best by validation: {best.backbone}, {best.phase}: test accuracy {best.test.accuracy:.4f} (95 % interval "
        f"{best.test.accuracy_low:.4f}-{best.test.accuracy_high:.4f})"
    )
    started.finish(results, [line])


def candidate_metrics(outcome: PhaseOutcome, test: Evaluation) -> CandidateMetrics:
    """Returns a phase's outcome as ``metrics.json`` has it."""
    best = next(row for row in outcome.rows if row["epoch"] == outcome.best_epoch)
    values: dict[str, Any] = {one.name: getattr(outcome, one.name) for one in fields(records.Candidate)}
    values |= {name: best[name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
    return CandidateMetrics(
        **values,
        epochs=len(outcome.rows),
        training_seconds=sum(row["seconds"] for row in outcome.rows),
        test=test,
    )


def candidates_table(candidates: Sequence[CandidateMetrics]) -> pd.DataFrame:
    """Returns the content of ``candidates.csv``: a row a candidate; loss and accuracy are of the best epoch."""
    return pd.json_normalize([asdict(candidate) for candidate in candidates], sep="_")[CANDIDATE_COLUMNS]


def history_table(outcomes: Sequence[PhaseOutcome]) -> pd.DataFrame:
    """Returns the content of ``history.csv``: a row an epoch of a candidate."""
    return pd.DataFrame(
        [{"backbone": outcome.backbone, "phase": outcome.phase, **row} for outcome in outcomes for row in outcome.rows]
    )
