"""Differences between the study and a pipeline's runs: fixed text, with the numbers of the stages in tables.

`docs/results.md` says what the numbers of the published study show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fmnist.report.page import MODEL_TITLES, percent, with_interval
from fmnist.study import BACKBONE_ROWS, HYPERBAND, LAST_FOLD, LENET5, LENET5_1998, ROWS
from fmnist.workflows.pipeline.records import Stages
from fmnist.workflows.pipeline.rows import Cell, recipe_note, weights_note


@dataclass(frozen=True)
class Finding:
    """One difference from the study: what the study does, and the figures (of stages) and table that show it."""

    key: str
    title: str
    text: str
    figures: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()


FOLDS = Finding(
    "folds",
    "Folds whose weights are carried over",
    "The study keeps the weights from fold to fold. From the second fold on, its model has trained on nearly all "
    "held-out images before. The row of the last fold compares both protocols on the same folds: carried weights as in "
    "the study, and fresh weights in each fold.",
    (f"{LAST_FOLD.reproduced}/leak",),
)
CHANCE = Finding(
    "chance",
    "Transfer learning at chance",
    "The study feeds all three backbones with images of 32\N{MULTIPLICATION SIGN}32 pixels and values from 0 to 1, "
    "whatever they were trained on (recipe notebook). The recipe sound feeds each backbone as its published weights "
    "expect. Both train a head on the frozen backbone. Chance is 10\N{NO-BREAK SPACE}%.",
    columns=(
        *("backbone", "the study (validation)", "recipe notebook (test, 95\N{NO-BREAK SPACE}% interval)"),
        "recipe sound (test, 95\N{NO-BREAK SPACE}% interval)",
    ),
)
SEARCH = Finding(
    "search",
    "A search that ends below the model it started from",
    "The study's search ends below the LeNet-5 that it started from. Its space does not contain that model: every "
    "model of the space has a third convolution. The space extended is wider.",
    tuple(f"{name}/trial_curves" for name in (HYPERBAND.reproduced, HYPERBAND.sound)),
)
MODELS = Finding(
    "models",
    "Two models called LeNet-5",
    "The study describes the LeNet-5 of 1998, with 60,000 parameters. It trains the one that its notebook builds, with "
    "504,342. The first two rows have both.",
)
VALIDATION = Finding(
    "validation",
    "The accuracy that the epoch was chosen by",
    "The study reports the validation accuracy of the best epoch. The images that choose an epoch may flatter it. The "
    "test images choose nothing: each run uses them once, at its end.",
    columns=("run", "validation accuracy", "test accuracy (95\N{NO-BREAK SPACE}% interval)", "difference in points"),
)


def findings(stages: Stages) -> list[Finding]:
    """Returns the findings whose stages are finished."""
    found = []
    if (folds := stages.get(LAST_FOLD.reproduced)) and folds.carried:
        found.append(FOLDS)
    if rows := tuple(_backbone_rows(stages)):
        compared = [row for row in BACKBONE_ROWS if row.reproduced in stages and row.sound in stages]
        figures = tuple(f"{name}/candidate_curves" for row in compared for name in (row.reproduced, row.sound))
        found.append(replace(CHANCE, rows=rows, figures=figures))
    if LENET5.reproduced in stages:
        found += [SEARCH] if HYPERBAND.reproduced in stages else []
        found += [MODELS] if LENET5_1998.reproduced in stages else []
    if rows := tuple(_validation_rows(stages)):
        found.append(replace(VALIDATION, rows=rows))
    return found


def _backbone_rows(stages: Stages) -> Iterator[tuple[Cell, ...]]:
    for row in BACKBONE_ROWS:
        runs = [stages.get(name) for name in (row.reproduced, row.sound)]
        frozen = [one for run in runs if run for one in run.candidates if one.phase == "frozen"]
        if len(frozen) < 2:
            continue
        weights = [run.weights[row.key] for run in runs if run]
        same = weights[0].sha256 == weights[1].sha256
        note = (weights_note(weights[1]) or "ImageNet's weights") if same else "weights differ between the two"
        yield (
            Cell(MODEL_TITLES[row.key], (note,)),
            Cell(percent(row.val_accuracy or 0, 2)),
            *(Cell(with_interval(one.test), (recipe_note(one),)) for one in frozen),
        )


def _validation_rows(stages: Stages) -> Iterator[tuple[Cell, ...]]:
    for name in dict.fromkeys(name for row in ROWS for name in (row.reproduced, row.sound)):
        if (run := stages.get(name)) and (test := run.test_scores):
            points = f"{100 * (test.accuracy - run.val_accuracy):+.2f}".replace("-", "\N{MINUS SIGN}")
            yield Cell(name), Cell(percent(run.val_accuracy, 2)), Cell(with_interval(test)), Cell(points)
