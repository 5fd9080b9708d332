"""The study's table row by row: what the stages of a pipeline reached for each row, as cells of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fmnist.console import duration, plural
from fmnist.report.page import EN_DASH, interval, percent, with_interval
from fmnist.study import FIRST_FOLD, ROWS, StudyRow
from fmnist.workflows.pipeline.records import Candidate, PipelineMetrics, Scores, StageMetrics, Stages, Weights


@dataclass(frozen=True)
class Cell:
    """A cell of a table: a line, notes below it, and run ids by the name that links to their reports."""

    text: str = ""
    notes: tuple[str, ...] = ()
    runs: Mapping[str, str] | None = None


STUDY_COLUMNS = (
    "row",
    "the study (validation accuracy)",
    "ours, the study's protocol (validation accuracy)",
    "ours, sound (test accuracy, 95\N{NO-BREAK SPACE}% interval)",
    "cost (time of the run, parameters, epochs)",
    "reports",
)


def study_rows(metrics: PipelineMetrics, stages: Stages) -> list[tuple[Cell, ...]]:
    """Returns all rows of the study's table under ``STUDY_COLUMNS``."""
    missing = {stage.name: f"{stage.status}: {stage.reason or 'no reason given'}" for stage in metrics.stages}
    rows: list[tuple[Cell, ...]] = []
    for row in ROWS:
        reproduced, sound = (
            cell(row, stages[name]) if name in stages else Cell(missing.get(name, "no stage of this pipeline"))
            for name, cell in ((row.reproduced, _reproduced), (row.sound, _sound))
        )
        study = "described, not trained" if row.val_accuracy is None else percent(row.val_accuracy, 2)
        runs = {name: stages[name].run_id for name in (row.reproduced, row.sound) if name in stages}
        reports = Cell(runs=runs) if runs else Cell("no report")
        rows.append((Cell(row.title), Cell(study), reproduced, sound, _costs(row, stages), reports))
    return rows


def reproduced_accuracy(row: StudyRow, stages: Stages) -> float | None:
    """Returns the accuracy that the study would have reported of a row's stage in the study's protocol.

    None if the stage is not finished, or is a cross-validation without carried weights.
    """
    run = stages.get(row.reproduced)
    if run is None or (run.held_out and not run.carried):
        return None
    return run.carried.accuracy[0 if row is FIRST_FOLD else -1] if run.carried else run.val_accuracy


def sound_scores(row: StudyRow, stages: Stages) -> Scores | None:
    """Returns the scores of a row's sound stage: on the test images, or the held-out ones for the last fold.

    None if it is not finished, and for the first fold: the last fold's row has the mean of all.
    """
    run = stages.get(row.sound)
    return None if run is None or row is FIRST_FOLD else run.held_out or run.test_scores


def weights_note(weights: Weights) -> str:
    """Names the source of weights other than the published ones; empty for those."""
    if weights.published:
        return ""
    return "random weights" if weights.source == "none" else f"not ImageNet's weights but {weights.source}"


def recipe_note(one: Candidate) -> str:
    """Describes a candidate of a transfer run in brief."""
    return f"{one.phase}, {one.image_size} pixels, features of {one.feature_layer}"


def _reproduced(row: StudyRow, run: StageMetrics) -> Cell:
    if (accuracy := reproduced_accuracy(row, {row.reproduced: run})) is None:
        return Cell("not measured", ("folds with carried weights were not run",))
    return Cell(percent(accuracy, 2), _notes(row, run))


def _sound(row: StudyRow, run: StageMetrics) -> Cell:
    if (scores := sound_scores(row, {row.sound: run})) is None:
        return Cell("one figure for all folds: see the next row")
    if held_out := run.held_out:
        return Cell(
            f"{percent(held_out.accuracy, 2)} ± {100 * held_out.accuracy_sd:.2f} ({interval(held_out)})",
            (f"mean ± standard deviation of {run.folds} folds, fresh weights in each", "on the held-out images"),
        )
    same = row.sound == row.reproduced
    return Cell(with_interval(scores), ("the same model, on the test images",) if same else _notes(row, run))


def _notes(row: StudyRow, run: StageMetrics) -> tuple[str, ...]:
    if run.held_out:
        return ("weights carried from fold to fold",)
    if run.last:
        notes = (f"recipe {run.last.recipe}", recipe_note(run.last), weights_note(run.weights[row.key]))
        return tuple(note for note in notes if note)
    epoch = f"epoch {run.best_epoch} of {run.epochs}"
    if run.search:
        return f"best of {plural(run.search.trials, 'trial')} of the space {run.search.space}", f"retrained, {epoch}"
    return (epoch,)


def _costs(row: StudyRow, stages: Stages) -> Cell:
    runs = {"the study's protocol": row.reproduced, "sound": row.sound}
    if row.sound == row.reproduced:
        runs.pop("the study's protocol")
    if not any(name in stages for name in runs.values()):
        return Cell("none: no run finished")
    if row is FIRST_FOLD:
        return Cell("one run for all folds: see the next row")
    costs = {protocol: _cost(stages[name]) if name in stages else "not finished" for protocol, name in runs.items()}
    return Cell(notes=tuple(f"{protocol}: {cost}" if len(costs) > 1 else cost for protocol, cost in costs.items()))


def _cost(run: StageMetrics) -> str:
    parameters, epochs = run.parameters, plural(run.epochs, "epoch")
    if run.last:
        parameters = run.last.parameters
        epochs = " + ".join([*(str(one.epochs) for one in run.candidates[:-1]), plural(run.last.epochs, "epoch")])
    elif run.search:
        epochs = f"{run.search.epochs:,} + {epochs}"
    elif run.carried:
        epochs = f"{run.epochs:,} + {plural(run.carried.epochs, 'epoch')} (fresh + carried)"
    return f"{duration(run.seconds['total'])}, {plural(parameters, 'parameter')}, {epochs}"


STAGE_COLUMNS = ("stage", "job", "status", "time", "report")


def stage_rows(metrics: PipelineMetrics) -> list[tuple[Cell, ...]]:
    """Returns one row per stage of the pipeline, under ``STAGE_COLUMNS``."""
    return [
        (
            Cell(stage.name),
            Cell(stage.job),
            Cell(stage.status, (stage.reason,) if stage.reason else ()),
            Cell(EN_DASH if stage.seconds is None else duration(stage.seconds)),
            Cell(runs={stage.run_id: stage.run_id}) if stage.status == "finished" else Cell("no report"),
        )
        for stage in metrics.stages
    ]
