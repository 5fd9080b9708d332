"""The study's table row by row: what each row's stages of a pipeline reached, as cells of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmnist.console import duration
from fmnist.report.page import EN_DASH, MODEL_TITLES, interval, percent, plural, with_interval
from fmnist.study import FIRST_FOLD, ROWS, StudyRow
from fmnist.workflows.crossval.config import CROSSVAL
from fmnist.workflows.transfer.config import TRANSFER
from fmnist.workflows.tune.config import TUNE

Stages = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Cell:
    """A cell of a table, for a page and for Markdown alike.

    Attributes:
        text: what it says first.
        notes: what stands below in smaller letters, a line each.
        runs: run ids by the name under which the cell links to their reports.
    """

    text: str = ""
    notes: tuple[str, ...] = ()
    runs: Mapping[str, str] | None = None


STUDY_COLUMNS = (
    "row",
    "the study (validation accuracy)",
    "ours, the study's way (validation accuracy)",
    "ours, sound (test accuracy, 95\N{NO-BREAK SPACE}% interval)",
    "cost (time of the run, parameters, epochs)",
    "reports",
)


def study_rows(metrics: Mapping[str, Any], stages: Stages) -> list[tuple[Cell, ...]]:
    """Returns the rows of the study's table under ``STUDY_COLUMNS``: all of them, whatever was run.

    Args:
        metrics: the content of the pipeline's ``metrics.json``.
        stages: the content of ``metrics.json`` of every finished stage, by the stage's name.
    """
    return [
        (
            Cell(row.title),
            Cell("described, not trained" if row.val_accuracy is None else percent(row.val_accuracy, 2)),
            _reproduced(row, metrics, stages),
            _sound(row, metrics, stages),
            _costs(row, metrics, stages),
            _reports(row, stages),
        )
        for row in ROWS
    ]


def reproduced_accuracy(row: StudyRow, stages: Stages) -> float | None:
    """Returns what a row's stage in the study's way reached on the images that the study would have named.

    None if it is not finished, or is a cross-validation without carried weights.
    """
    run = stages.get(row.reproduced)
    if run is None:
        return None
    if run["job"] == CROSSVAL:
        carried = run.get("carried")
        return carried["accuracy"][0 if row is FIRST_FOLD else -1] if carried else None
    if run["job"] == TRANSFER:
        return candidate(run, row.key)["val_accuracy"]
    return run["val"]["accuracy"]


def sound_scores(row: StudyRow, stages: Stages) -> Mapping[str, Any] | None:
    """Returns accuracy and interval of a row's sound stage: on the test images, or held-out ones for the last fold.

    None if it is not finished, and for the first fold, whose figure is the last's: the mean of all.
    """
    run = stages.get(row.sound or row.reproduced)
    if run is None or row is FIRST_FOLD:
        return None
    if run["job"] == CROSSVAL:
        return run["held_out"]
    return candidate(run, row.key)["test"] if run["job"] == TRANSFER else run["test"]


@dataclass(frozen=True)
class SoundResult:
    """What a sound stage reached with a model that was measured on the test images.

    Attributes:
        title: of the model, as the subject of a sentence.
        stage: its name.
        val_accuracy: of the epoch that was kept.
        test: accuracy, interval and number of images.
    """

    title: str
    stage: str
    val_accuracy: float
    test: Mapping[str, Any]


def sound_results(stages: Stages) -> list[SoundResult]:
    """Returns the result of every row's sound stage that is finished and measures on the test images."""
    found = []
    for row in ROWS:
        name = row.sound or row.reproduced
        run = stages.get(name)
        if run is None or run["job"] == CROSSVAL:
            continue
        of = candidate(run, row.key) if run["job"] == TRANSFER else run
        val = of["val_accuracy"] if run["job"] == TRANSFER else of["val"]["accuracy"]
        found.append(SoundResult(_sound_title(row, run, of), name, val, of["test"]))
    return found


def _sound_title(row: StudyRow, run: Mapping[str, Any], of: Mapping[str, Any]) -> str:
    if run["job"] == TRANSFER:
        return f"{MODEL_TITLES[row.key]} ({of['phase']})"
    if run["job"] == TUNE:
        search = run["search"]
        return f"The best of {plural(search['trials'], 'trial')} of the space {search['space']}, retrained,"
    return row.title


def candidate(run: Mapping[str, Any], backbone: str, phase: str | None = None) -> Mapping[str, Any]:
    """Returns a backbone's candidate of a transfer run: that of ``phase``, or the last."""
    return [
        one for one in run["candidates"] if one["backbone"] == backbone and (phase is None or one["phase"] == phase)
    ][-1]


def not_finished(name: str, stages: Sequence[Mapping[str, Any]]) -> str:
    """Says what became of a stage without results, such as ``left out: --backbone vgg16``."""
    stage = next((stage for stage in stages if stage["name"] == name), None)
    if stage is None:
        return f"{name} is no stage of this pipeline"
    return f"{stage['status']}: {stage['reason']}" if stage["reason"] else f"{stage['status']}, no reason given"


def weights_note(run: Mapping[str, Any], backbone: str) -> str:
    """Says where a transfer run's weights came from, if not from the file that Keras publishes."""
    weights = run["weights"][backbone]
    if weights["published"]:
        return ""
    return "random weights" if weights["source"] == "none" else f"not ImageNet's weights but {weights['source']}"


def recipe_note(one: Mapping[str, Any]) -> str:
    """Says in brief what a candidate of a transfer run was."""
    return f"{one['phase']}, {one['image_size']} pixels, features of {one['feature_layer']}"


def _reproduced(row: StudyRow, metrics: Mapping[str, Any], stages: Stages) -> Cell:
    run = stages.get(row.reproduced)
    if run is None:
        return Cell(not_finished(row.reproduced, metrics["stages"]))
    accuracy = reproduced_accuracy(row, stages)
    if accuracy is None:
        return Cell("not measured", ("folds with carried weights were not run",))
    return Cell(percent(accuracy, 2), _what_was_done(row, run))


def _sound(row: StudyRow, metrics: Mapping[str, Any], stages: Stages) -> Cell:
    name = row.sound or row.reproduced
    run = stages.get(name)
    if run is None:
        return Cell(not_finished(name, metrics["stages"]))
    scores = sound_scores(row, stages)
    if scores is None:
        return Cell("one figure for all folds: see the next row")
    if run["job"] == CROSSVAL:
        return Cell(
            f"{percent(scores['accuracy'], 2)} ± {100 * scores['accuracy_sd']:.2f} ({interval(scores)})",
            (f"mean ± standard deviation of {run['folds']} folds, fresh weights in each", "on the held-out images"),
        )
    if name == row.reproduced:
        return Cell(with_interval(scores), ("the same model, on the test images",))
    return Cell(with_interval(scores), _what_was_done(row, run))


def _what_was_done(row: StudyRow, run: Mapping[str, Any]) -> tuple[str, ...]:
    if run["job"] == CROSSVAL:
        return ("weights carried from fold to fold",)
    if run["job"] == TRANSFER:
        one = candidate(run, row.key)
        return tuple(note for note in (f"recipe {one['recipe']}", recipe_note(one), weights_note(run, row.key)) if note)
    epoch = f"epoch {run['best_epoch']} of {run['epochs']}"
    if run["job"] == TUNE:
        search = run["search"]
        return (f"best of {plural(search['trials'], 'trial')} of the space {search['space']}", f"retrained, {epoch}")
    return (epoch,)


def _costs(row: StudyRow, metrics: Mapping[str, Any], stages: Stages) -> Cell:
    if row is FIRST_FOLD and row.reproduced in stages:
        return Cell("one run for all folds: see the next row")
    names = dict.fromkeys(name for name in (row.reproduced, row.sound) if name)
    if not any(name in stages for name in names):
        # A second row of one stage need not repeat why it has no figures.
        return Cell("none: no run finished")
    ways = {row.reproduced: "the study's way", row.sound: "sound"} if len(names) > 1 else {}
    notes: list[str] = []
    for name in names:
        prefix = f"{ways[name]}: " if name in ways else ""
        run = stages.get(name)
        notes.append(prefix + (_cost(row, run) if run else not_finished(name, metrics["stages"]).partition(":")[0]))
    return Cell(notes=tuple(notes))


def _cost(row: StudyRow, run: Mapping[str, Any]) -> str:
    of = candidate(run, row.key) if run["job"] == TRANSFER else run
    epochs = plural(of["epochs"], "epoch")
    if run["job"] == TRANSFER:
        phases = [one["epochs"] for one in run["candidates"] if one["backbone"] == row.key]
        epochs = " + ".join([*map(str, phases[:-1]), epochs])
    elif run["job"] == TUNE:
        epochs = f"{run['search']['epochs']:,} + {epochs}"
    elif run["job"] == CROSSVAL and run.get("carried"):
        epochs = f"{run['epochs']:,} + {plural(run['carried']['epochs'], 'epoch')} (fresh + carried)"
    return f"{duration(run['seconds']['total'])}, {plural(of['parameters'], 'parameter')}, {epochs}"


def _reports(row: StudyRow, stages: Stages) -> Cell:
    names = dict.fromkeys(name for name in (row.reproduced, row.sound) if name in stages)
    runs = {name: stages[name]["run_id"] for name in names if name}
    return Cell(runs=runs) if runs else Cell("no report")


STAGE_COLUMNS = ("stage", "job", "status", "time", "report")


def stage_rows(metrics: Mapping[str, Any]) -> list[tuple[Cell, ...]]:
    """Returns a row a stage of the pipeline, under ``STAGE_COLUMNS``."""
    return [
        (
            Cell(stage["name"]),
            Cell(stage["job"]),
            Cell(stage["status"], (stage["reason"],) if stage["reason"] else ()),
            Cell(EN_DASH if stage["seconds"] is None else duration(stage["seconds"])),
            Cell(runs={stage["run_id"]: stage["run_id"]}) if stage["status"] == "finished" else Cell("no report"),
        )
        for stage in metrics["stages"]
    ]
