"""From the folds' outcomes to the files of a finished cross-validation: tables, means and their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import mean, stdev

import numpy as np
import pandas as pd

from fmnist import clock
from fmnist.console import plural
from fmnist.distributed.session import StartedRun
from fmnist.report.page import Report, model_title
from fmnist.runs import FOLDS, FOLDS_TABLE, HISTORY, PREDICTIONS, utc
from fmnist.runs.results import Metrics, Results, write_results
from fmnist.training.evaluation import ClassScore, Evaluation, evaluate, predictions_table
from fmnist.workflows.crossval.config import CROSSVAL, CrossvalConfig
from fmnist.workflows.crossval.job import PreparedFolds
from fmnist.workflows.crossval.page import render_crossval
from fmnist.workflows.crossval.plots import crossval_plots
from fmnist.workflows.crossval.records import FoldOutcome, FoldRecord

INTERVAL_METHOD = (
    "95 % interval of the mean: Student's t with (folds - 1) degrees of freedom and the variance of Nadeau and Bengio "
    "(2003), sd^2 * (1 / folds + held-out images / training images), because folds share training images"
)


@dataclass(frozen=True)
class MeanScores:
    """Mean over the kept epochs of the folds that have one: loss in nats, accuracy from 0 to 1."""

    loss: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class HeldOutScores:
    """Scores on held-out images: means over the folds, their standard deviations, and the accuracy's 95 % interval."""

    accuracy: float
    accuracy_sd: float
    accuracy_low: float
    accuracy_high: float
    interval: str  # how it was computed
    loss: float  # in nats
    loss_sd: float
    images: int  # of all folds
    per_class: tuple[ClassScore, ...]  # of all images, each predicted by the fold that held it out
    confusion_matrix: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class CarriedScores:
    """Results of the study's protocol: held-out accuracy and loss of each fold, and the number of all epochs."""

    accuracy: tuple[float, ...]
    loss: tuple[float, ...]
    epochs: int


@dataclass(frozen=True, kw_only=True)
class CrossvalMetrics(Metrics):
    """The content of a crossval run's ``metrics.json``; all but ``carried`` is of the folds with fresh weights."""

    model: str  # its name, or that of the search space
    parameters: int
    seed: int
    precision: str  # of the products, float32 or bfloat16
    folds: int
    epochs: int  # of all folds
    train: MeanScores
    val: MeanScores
    held_out: HeldOutScores
    carried: CarriedScores | None  # None where the study's protocol did not run
    restarts: int  # of folds

    def lines(self) -> list[str]:
        """Returns the lines that the job ends with."""
        held_out = self.held_out
        lines = [
            f"held-out accuracy {held_out.accuracy:.4f} +- {held_out.accuracy_sd:.4f} over {self.folds} folds "
            f"(95 % interval of the mean {held_out.accuracy_low:.4f}-{held_out.accuracy_high:.4f})"
        ]
        if self.carried:
            first, *_, last = self.carried.accuracy
            carried = "with weights carried from fold to fold, as in the study"
            lines.append(f"{carried}: {first:.4f} in the first fold, {last:.4f} in the last")
        return lines


def write_crossval_results(
    started: StartedRun[PreparedFolds], config: CrossvalConfig, outcomes: Sequence[FoldOutcome], restarts: int
) -> None:
    """Measures the folds, of which those with carried weights are last, and writes every file of the run."""
    reporting = clock.now()
    data = started.data
    records = [_record(outcome, data) for outcome in outcomes]
    # Every image's, from the fold that held it out, and the number of that fold.
    probabilities, fold_of = np.empty((len(data.images), 10), np.float32), np.empty(len(data.images), int)
    for record in records:
        if record.weights == "fresh":
            held_out = data.folds[record.fold - 1].held_out
            probabilities[held_out], fold_of[held_out] = record.probabilities, record.fold
    predictions = predictions_table(data.images.labels, probabilities)
    predictions.insert(1, "fold", fold_of)
    pooled = evaluate(data.images.labels, probabilities, data.images.class_names)
    # Waited for before this thread draws: Matplotlib is not thread-safe.
    data_figures = started.data_figures.result()
    plots = crossval_plots(records, pooled, data.images, probabilities) | data_figures
    metrics = _metrics(started, config, records, pooled, restarts, reporting)
    devices = sorted({device for outcome in outcomes for device in outcome.devices})
    environment = {**started.environment, "devices": devices, "precision": metrics.precision}
    report = Report(
        title=f"Cross-validation of {model_title(config.model)}",
        metrics=metrics,
        data=data.summary,
        config=asdict(config),
        environment=environment,
        plots=plots,
    )
    results = Results(
        metrics=metrics,
        environment=environment,
        page=render_crossval(report, records),
        plots=plots,
        tables={FOLDS_TABLE: folds_table(records), HISTORY: history_table(records), PREDICTIONS: predictions},
        # A run resumes from its folds.
        temporary=[FOLDS],
    )
    write_results(started.run, results)
    lines = metrics.lines()
    if diverged := sum(record.diverged is not None for record in records):
        measured = "measured with the best epoch before that"
        lines.append(f"{plural(diverged, 'fold')} diverged, {measured}; see {FOLDS_TABLE}")
    started.finish(results, lines)


def _record(outcome: FoldOutcome, data: PreparedFolds) -> FoldRecord:
    fold = data.folds[outcome.fold - 1]
    held_out = evaluate(data.images.labels[fold.held_out], outcome.probabilities)
    fresh = outcome.weights == "fresh"
    return FoldRecord(
        **vars(outcome),
        train_images=len(fold.train) + (0 if fresh else len(fold.val)),
        val_images=len(fold.val) if fresh else len(fold.held_out),
        held_out_images=len(fold.held_out),
        held_out_loss=held_out.loss,
        held_out_accuracy=held_out.accuracy,
    )


def _metrics(
    started: StartedRun[PreparedFolds],
    config: CrossvalConfig,
    records: Sequence[FoldRecord],
    pooled: Evaluation,
    restarts: int,
    reporting: float,
) -> CrossvalMetrics:
    fresh = [record for record in records if record.weights == "fresh"]
    carried = [record for record in records if record.weights == "carried"]
    finished = clock.now()

    def mean_of(column: str) -> float:
        return mean(record.kept[column] for record in fresh if record.kept)

    return CrossvalMetrics(
        job=CROSSVAL,
        run_id=started.run.run_id,
        started=utc(started.started),
        finished=utc(finished),
        seconds={
            "total": finished - started.started,
            "training": sum(record.seconds for record in records),
            "report": finished - reporting,
        },
        model=config.model,
        parameters=records[0].parameters,
        seed=config.seed,
        precision=", ".join(sorted({record.precision for record in records})),
        folds=len(fresh),
        epochs=sum(len(record.rows) for record in fresh),
        train=MeanScores(mean_of("loss"), mean_of("accuracy")),
        val=MeanScores(mean_of("val_loss"), mean_of("val_accuracy")),
        held_out=_held_out(fresh, pooled),
        carried=CarriedScores(
            accuracy=tuple(record.held_out_accuracy for record in carried),
            loss=tuple(record.held_out_loss for record in carried),
            epochs=sum(len(record.rows) for record in carried),
        )
        if carried
        else None,
        restarts=restarts,
    )


def _held_out(fresh: Sequence[FoldRecord], pooled: Evaluation) -> HeldOutScores:
    share = held_out_share(fresh)
    accuracy = spread([record.held_out_accuracy for record in fresh], share)
    loss = spread([record.held_out_loss for record in fresh], share)
    return HeldOutScores(
        accuracy=accuracy.mean,
        accuracy_sd=accuracy.sd,
        # With very few folds the interval is wider than the range of an accuracy.
        accuracy_low=max(0.0, accuracy.low),
        accuracy_high=min(1.0, accuracy.high),
        interval=INTERVAL_METHOD,
        loss=loss.mean,
        loss_sd=loss.sd,
        images=pooled.images,
        per_class=pooled.per_class,
        confusion_matrix=pooled.confusion_matrix,
    )


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (of a sample) of a figure over folds, and the mean's 95 % interval."""

    mean: float
    sd: float
    low: float
    high: float


def spread(values: Sequence[float], held_out_share: float) -> Spread:
    """Returns mean, standard deviation and 95 % interval of a figure over 2 or more folds.

    The folds' models share most of their training images, so that the plain ``sd / sqrt(folds)`` is too small. Nadeau
    and Bengio ("Inference for the Generalization Error", Machine Learning 52, 2003, section 4) correct it for the share
    of images held out: held-out images over training images, above 0.

    Example:
        >>> spread([0.9, 0.92], 1.0).mean
        0.91
    """
    from scipy.stats import t

    count = len(values)
    sd = stdev(values)
    half = float(t.ppf(0.975, count - 1)) * sd * math.sqrt(1 / count + held_out_share)
    return Spread(mean(values), sd, mean(values) - half, mean(values) + half)


def held_out_share(records: Sequence[FoldRecord]) -> float:
    """Held-out images over training images, on average over the folds."""
    return mean(record.held_out_images / record.train_images for record in records)


def folds_table(records: Sequence[FoldRecord]) -> pd.DataFrame:
    """The content of ``folds.csv``: a row a fold; loss and accuracy are those of the kept epoch."""
    of_epoch = ("loss", "accuracy", "val_loss", "val_accuracy")
    of_fold = ("held_out_loss", "held_out_accuracy", "train_images", "val_images", "held_out_images", "seconds")
    return pd.DataFrame(
        {
            **{name: getattr(record, name) for name in ("weights", "fold", "seed")},
            "epochs": len(record.rows),
            "kept_epoch": record.kept_epoch,
            "diverged": record.diverged,
            **{name: record.kept[name] if record.kept else math.nan for name in of_epoch},
            **{name: getattr(record, name) for name in of_fold},
        }
        for record in records
    )


def history_table(records: Sequence[FoldRecord]) -> pd.DataFrame:
    """The content of ``history.csv``: a row an epoch of a fold."""
    return pd.DataFrame(
        {"weights": record.weights, "fold": record.fold, **row} for record in records for row in record.rows
    )
