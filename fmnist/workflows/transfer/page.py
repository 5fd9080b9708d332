"""The page of transfer learning."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from fmnist.console import duration
from fmnist.data import CLASSES
from fmnist.report.page import (
    Report,
    command_again,
    model_title,
    percent,
    render_page,
    spared_page,
    test_accuracy,
    with_interval,
)
from fmnist.study import STUDY_TRANSFER_ACCURACIES, STUDY_VAL_ACCURACY
from fmnist.workflows.transfer.config import RECIPES, TransferConfig
from fmnist.workflows.transfer.recipes import FACTS
from fmnist.workflows.transfer.records import CandidateMetrics, InputDiagnosis, WeightsRecord

if TYPE_CHECKING:
    import pandas as pd

    from fmnist.runs.results import ModelMetrics
    from fmnist.workflows.transfer.results import TransferMetrics

# The loss of a model that gives every class the same probability.
CHANCE_LOSS = math.log(CLASSES)

STUDY_PERCENT = {backbone: percent(accuracy, 2) for backbone, accuracy in STUDY_TRANSFER_ACCURACIES.items()}

CANDIDATE_COLUMNS = [
    Markup(column)
    for column in (
        "backbone", "phase", "recipe", "test accuracy<br>(95 % interval)", "validation<br>accuracy",
        "study's<br>accuracy", "input<br>size", "features<br>from", "parameters", "of these<br>trained", "epochs",
        "best<br>epoch", "time of<br>features", "shards<br>found", "time of<br>training", "time of<br>an epoch",
    )
]  # fmt: skip
Row = tuple[str | int | float | None, ...]
DIAGNOSIS_COLUMNS = ["backbone", "recipe", "input from", "to", "spread", "silent features", "nearest-mean accuracy"]


@spared_page
def render_transfer(report: Report[TransferMetrics], history: pd.DataFrame, comparison: ModelMetrics | None) -> str:
    """Returns the page of transfer learning as HTML, complete in itself; arguments as in `transfer_plots`."""
    metrics = report.metrics
    dead_columns, dead_rows = dead_units_table(metrics.candidates)
    return render_page(
        "transfer/page.html",
        headline=f"{model_title(metrics.model)}, {metrics.phase}, reaches {test_accuracy(metrics.test)}",
        comparison=comparison,
        warnings=weight_warnings(metrics.weights),
        candidate_columns=CANDIDATE_COLUMNS,
        candidate_rows=candidate_rows(metrics.candidates, comparison),
        history=history,
        diagnosis_columns=DIAGNOSIS_COLUMNS,
        diagnosis_rows=diagnosis_rows(metrics.diagnoses),
        dead_columns=dead_columns,
        dead_rows=dead_rows,
        chance_loss=f"{CHANCE_LOSS:.4f}",
        study=STUDY_PERCENT,
        weight_columns=["backbone", "weights", "published by Keras", "SHA-256"],
        weight_rows=[(model_title(name), w.source, w.published, w.sha256) for name, w in metrics.weights.items()],
        commands={recipe: command_with(recipe, report.config) for recipe in RECIPES},
        command_again=command_again("transfer", report.run_id),
        **report.shared_values(metrics.test.per_class),
    )


def candidate_rows(candidates: Sequence[CandidateMetrics], comparison: ModelMetrics | None) -> list[Row]:
    """Returns the rows of the table of candidates, under ``CANDIDATE_COLUMNS``.

    A backbone that was not trained has a row that says so, and a missing comparison, too.
    """
    rows: list[Row] = []
    empty = (None,) * 10
    for backbone in FACTS:
        of_backbone = [_candidate_row(candidate) for candidate in candidates if candidate.backbone == backbone]
        absent = (model_title(backbone), "not in this run", None, None, None, STUDY_PERCENT[backbone], *empty)
        rows += of_backbone or [absent]
    study = f"{percent(STUDY_VAL_ACCURACY, 2)} (val)"
    if comparison is None:
        return [*rows, ("LeNet-5", "no run to compare", None, None, None, study, *empty)]
    seconds, parameters = comparison.seconds["training"], comparison.parameters
    compared = (
        *(model_title(comparison.model), "all layers trained", None),
        *(with_interval(comparison.test), percent(comparison.val.accuracy, 2)),
        *(study if comparison.model == "lenet5" else None, _square(28), None, parameters, parameters),
        *(comparison.epochs, comparison.best_epoch, None, None, duration(seconds)),
        _short(seconds / comparison.epochs),
    )
    return [*rows, compared]


def _candidate_row(candidate: CandidateMetrics) -> Row:
    shards = candidate.shards_found + candidate.shards_computed
    return (
        *(model_title(candidate.backbone), candidate.phase, candidate.recipe),
        *(with_interval(candidate.test), percent(candidate.val_accuracy, 2), STUDY_PERCENT[candidate.backbone]),
        *(_square(candidate.image_size), candidate.feature_layer, candidate.parameters, candidate.trained_parameters),
        *(f"{candidate.epochs}, then diverged" if candidate.diverged else candidate.epochs, candidate.best_epoch),
        # A fine-tuned backbone has no features.
        duration(candidate.feature_seconds) if shards else None,
        f"{candidate.shards_found:,} of {shards:,}" if shards else None,
        duration(candidate.training_seconds),
        _short(candidate.training_seconds / candidate.epochs),
    )


def weight_warnings(weights: Mapping[str, WeightsRecord]) -> list[str]:
    """Returns a sentence for every backbone whose weights are not the published ones."""
    found = []
    for backbone, one in weights.items():
        title = model_title(backbone)
        if one.source == "none":
            origin = f"{title} started from random weights"
        else:
            origin = f"The weights of {title} came from {one.source}, not the file that Keras publishes"
        if not one.published:
            found.append(f"{origin}: its figures are not those of ImageNet weights.")
    return found


def diagnosis_rows(diagnoses: Sequence[InputDiagnosis]) -> list[Row]:
    """Returns the rows of the table of diagnoses, under ``DIAGNOSIS_COLUMNS``."""
    return [
        (
            *(model_title(diagnosis.backbone), diagnosis.recipe, diagnosis.low, diagnosis.high),
            # May be far below 1 %, or above 100 %.
            f"{100 * diagnosis.spread:.3g}\N{NO-BREAK SPACE}%",
            *(percent(diagnosis.silent_features), percent(diagnosis.separability)),
        )
        for diagnosis in diagnoses
    ]


def dead_units_table(candidates: Sequence[CandidateMetrics]) -> tuple[list[str], list[Row]]:
    """Returns columns and rows of the table of dead units by hidden layer; no rows if no model has a hidden layer."""
    layers = max((len(candidate.dead_units) for candidate in candidates), default=0)
    names = [f"hidden layer {layer}" for layer in range(1, layers + 1)]
    rows: list[Row] = [
        (
            *(model_title(candidate.backbone), candidate.phase, candidate.recipe),
            *(percent(share) for share in candidate.dead_units),
            *[None] * (layers - len(candidate.dead_units)),
            *(f"{candidate.loss:.4f}", f"{candidate.val_loss:.4f}"),
        )
        for candidate in candidates
    ]
    return ["backbone", "phase", "recipe", *names, "train loss", "val loss"], rows if layers else []


def command_with(recipe: str, config: Mapping[str, Any]) -> str:
    """Returns the command that trains the same backbones on the same data by a recipe with its defaults."""
    defaults = {field.name: field.default for field in fields(TransferConfig)}
    command = ["fmnist", "transfer", "--recipe", recipe]
    for name in ("data", "artifacts", "val_fraction", "seed", "limit", "backbone", "weights"):
        if name in config and config[name] != defaults[name]:
            command += [f"--{name.replace('_', '-')}", str(config[name])]
    return shlex.join(command)


def _short(seconds: float) -> str:
    """Writes the time of an epoch, which may be less than a second."""
    return f"{seconds:.2g} s" if seconds < 10 else duration(seconds)


def _square(pixels: int) -> str:
    return f"{pixels}\N{MULTIPLICATION SIGN}{pixels}"
