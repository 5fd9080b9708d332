"""The page of transfer learning."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from markupsafe import Markup

from fmnist.console import duration
from fmnist.data import CLASSES
from fmnist.report.page import (
    MODEL_TITLES,
    command_again,
    interval,
    model_title,
    percent,
    plural,
    render_page,
    shared_values,
    with_interval,
)
from fmnist.study import STUDY_TRANSFER_ACCURACIES, STUDY_VAL_ACCURACY
from fmnist.training.evaluation import CHANCE, overlap
from fmnist.workflows.transfer.config import RECIPES, TransferConfig
from fmnist.workflows.transfer.recipes import FACTS
from fmnist.workflows.transfer.records import CandidateRecord, InputDiagnosis, history_table

# The loss of a model that says one tenth for every class.
CHANCE_LOSS = math.log(CLASSES)
# As near to it as a model that still told images apart would hardly stay.
NEAR_CHANCE_LOSS = 0.005
# Images look alike to a backbone whose features differ by less than this share of their size; elsewhere it is about 1.
ALIKE = 0.1
# The nearest mean of features finds hardly any class below the one, and most images' above the other.
HARDLY_SEPARABLE, WELL_SEPARABLE = 0.2, 0.5
MOST = 0.5


@dataclass(frozen=True)
class TransferReport:
    """What the page of transfer learning shows.

    Attributes:
        run_id: the run's id.
        metrics: the content of ``metrics.json``.
        data: the content of ``data.json``.
        config: the content of ``config.yaml``.
        environment: the content of ``environment.json``.
        records: all candidates.
        diagnoses: what the backbones make of images in each recipe's way; may be empty.
        comparison: the content of ``metrics.json`` of a ``fmnist train`` run to stand beside, or None.
        plots: PNG bytes by name, as :func:`fmnist.workflows.transfer.plots.transfer_plots` returns them, and those
            of the data.
    """

    run_id: str
    metrics: Mapping[str, Any]
    data: Mapping[str, Any]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    records: Sequence[CandidateRecord]
    diagnoses: Sequence[InputDiagnosis]
    comparison: Mapping[str, Any] | None
    plots: Mapping[str, bytes]


def render_transfer(report: TransferReport) -> str:
    """Returns the page of transfer learning as HTML, complete in itself."""
    weights = report.metrics["weights"]
    history = history_table(report.records)
    hidden_layers = max((len(record.dead_units) for record in report.records), default=0)
    return render_page(
        "transfer/page.html",
        title="Transfer learning on Fashion-MNIST",
        headline=transfer_headline(report.metrics),
        beside=beside(report.metrics, report.comparison),
        warnings=weight_warnings(weights),
        candidate_columns=CANDIDATE_COLUMNS,
        candidate_rows=candidate_rows(report.records, report.comparison),
        stored=stored_features(report.records),
        history_columns=list(history.columns),
        history_rows=list(history.itertuples(index=False, name=None)),
        diagnosis_columns=DIAGNOSIS_COLUMNS,
        diagnosis_rows=diagnosis_rows(report.diagnoses),
        findings=[
            (title(backbone), sentences)
            for backbone in FACTS
            if (sentences := findings(backbone, report.diagnoses, report.records))
        ],
        dead_columns=[
            "backbone", "phase", "recipe", *(f"hidden layer {layer + 1}" for layer in range(hidden_layers)),
            "train loss", "val loss",
        ],
        dead_rows=dead_rows(report.records, hidden_layers),
        hidden_layers=hidden_layers,
        chance_loss=f"{CHANCE_LOSS:.4f}",
        study=STUDY_PERCENT,
        weight_columns=["backbone", "weights", "published by Keras", "SHA-256"],
        weight_rows=[(title(name), one["source"], one["published"], one["sha256"]) for name, one in weights.items()],
        commands={recipe: command_with(recipe, report.config) for recipe in RECIPES},
        command_again=command_again("transfer", report.run_id),
        **shared_values(report, report.metrics["test"]["per_class"]),
    )  # fmt: skip


STUDY_PERCENT = {backbone: percent(accuracy, 2) for backbone, accuracy in STUDY_TRANSFER_ACCURACIES.items()}

CANDIDATE_COLUMNS = [
    Markup(column)
    for column in (
        "backbone", "phase", "recipe", "test accuracy<br>(95 % interval)", "validation<br>accuracy",
        "study's<br>accuracy", "input<br>size", "features<br>from", "parameters", "of these<br>trained", "epochs",
        "best<br>epoch", "time of<br>features", "time of<br>training", "time of<br>an epoch",
    )
]  # fmt: skip


def candidate_rows(records: Sequence[CandidateRecord], comparison: Mapping[str, Any] | None) -> list[tuple[Any, ...]]:
    """Returns the rows of the table of candidates, under ``CANDIDATE_COLUMNS``.

    A backbone that was not trained and a missing comparison have a row too, which says so.
    """
    rows: list[tuple[Any, ...]] = []
    nothing = (None,) * 9
    for backbone in FACTS:
        of_backbone = [record for record in records if record.backbone == backbone]
        rows += [_candidate_row(record) for record in of_backbone]
        if not of_backbone:
            rows.append((title(backbone), "not in this run", None, None, None, STUDY_PERCENT[backbone], *nothing))
    study = f"{percent(STUDY_VAL_ACCURACY, 2)} (val)"
    if comparison is None:
        rows.append(("LeNet-5", "no run to compare", None, None, None, study, *nothing))
        return rows
    seconds, epochs = comparison["seconds"]["training"], comparison["epochs"]
    rows.append(
        (
            model_title(comparison),
            "trained whole",
            None,
            with_interval(comparison["test"]),
            percent(comparison["val"]["accuracy"], 2),
            study if comparison["model"] == "lenet5" else None,
            _square(28),
            None,
            comparison["parameters"],
            comparison["parameters"],
            epochs,
            comparison.get("best_epoch"),
            None,
            duration(seconds),
            _short(seconds / epochs),
        )
    )
    return rows


def _candidate_row(record: CandidateRecord) -> tuple[Any, ...]:
    fine_tuned = record.phase == "fine-tuned"
    whole_from_store = record.shards_found > 0 and record.shards_computed == 0
    return (
        title(record.backbone),
        record.phase,
        record.recipe,
        with_interval(record.test),
        percent(record.best["val_accuracy"], 2),
        STUDY_PERCENT[record.backbone],
        _square(record.image_size),
        record.feature_layer,
        record.parameters,
        record.trained_parameters,
        len(record.rows),
        record.best_epoch,
        None if fine_tuned else "from the store" if whole_from_store else duration(record.feature_seconds),
        duration(record.seconds),
        _short(record.seconds / len(record.rows)),
    )


def stored_features(records: Sequence[CandidateRecord]) -> list[str]:
    """Says of which candidates features were in the store already."""
    return [
        f"Of the {plural(record.shards_found + record.shards_computed, 'part')} of the features of "
        f"{title(record.backbone)} ({record.phase}), {record.shards_found:,} came from the store."
        for record in records
        if record.shards_found
    ]


def transfer_headline(metrics: Mapping[str, Any]) -> str:
    """Says in one sentence which backbone won and what it reaches."""
    test = metrics["test"]
    return (
        f"{model_title(metrics)}, {metrics['phase']}, reaches {percent(test['accuracy'])} on the {test['images']:,} "
        f"test images (95\N{NO-BREAK SPACE}% interval {interval(test)})"
    )


def beside(metrics: Mapping[str, Any], comparison: Mapping[str, Any] | None) -> str:
    """Says in one sentence how the winner compares with a ``fmnist train`` run; nothing without one."""
    if comparison is None:
        return ""
    here, there = metrics["test"], comparison["test"]
    points = 100 * (here["accuracy"] - there["accuracy"])
    return (
        f"Its test accuracy is {abs(points):.2f} points {'above' if points >= 0 else 'below'} that of "
        f"{model_title(comparison)} in run {comparison['run_id']}, {with_interval(there)}; the intervals "
        f"{'overlap' if overlap(here, there) else 'do not overlap'}."
    )


def weight_warnings(weights: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Says of every backbone whose weights are not the published ones what its figures are not."""
    return [
        (
            f"{title(backbone)} started from random weights"
            if one["source"] == "none"
            else f"The weights of {title(backbone)} came from {one['source']}, not the file that Keras publishes"
        )
        + ": its figures are not those of ImageNet weights."
        for backbone, one in weights.items()
        if not one["published"]
    ]


DIAGNOSIS_COLUMNS = [
    "backbone", "recipe", "fed with", "spread of features", "silent features", "nearest mean is right",
]  # fmt: skip


def diagnosis_rows(diagnoses: Sequence[InputDiagnosis]) -> list[tuple[Any, ...]]:
    """Returns the rows of the table of diagnoses, under ``DIAGNOSIS_COLUMNS``."""
    return [
        (
            title(diagnosis.backbone),
            diagnosis.recipe,
            f"{_signed(diagnosis.low)} to {_signed(diagnosis.high)}",
            _share(diagnosis.spread),
            percent(diagnosis.silent_features),
            percent(diagnosis.separability),
        )
        for diagnosis in diagnoses
    ]


def findings(backbone: str, diagnoses: Sequence[InputDiagnosis], records: Sequence[CandidateRecord]) -> list[str]:
    """Says what this run's numbers show of a backbone in the study's way, and nothing that they do not show."""
    by_recipe = {diagnosis.recipe: diagnosis for diagnosis in diagnoses if diagnosis.backbone == backbone}
    of_notebook = (record for record in records if (record.backbone, record.recipe) == (backbone, "notebook"))
    record = next(of_notebook, None)
    return [
        *(_of_input(by_recipe["notebook"], by_recipe.get("sound")) if "notebook" in by_recipe else []),
        *(_of_head(record) if record else []),
    ]


def _of_input(notebook: InputDiagnosis, sound: InputDiagnosis | None) -> list[str]:
    low, high = notebook.low, notebook.high
    alike = notebook.spread < ALIKE
    right = f"the nearest mean is right for {percent(notebook.separability)} of images"
    sentences = []
    if alike and notebook.backbone == "efficientnetb1" and high <= 1:
        sentences.append(
            f"It divides its input by 255 itself, so that the {_signed(low)} to {_signed(high)} that it was fed became "
            f"{low / 255:.1g} to {high / 255:.1g}."
        )
    sentences.append(
        f"{'All images look nearly alike to it' if alike else 'It tells images apart'}: a feature differs by "
        f"{_share(notebook.spread)} of its size between them."
    )
    if notebook.silent_features >= MOST:
        sentences.append(f"{percent(notebook.silent_features)} of its features are 0 for every image.")
    if notebook.separability < HARDLY_SEPARABLE:
        sentences.append(f"Its features hardly tell the classes: {right}.")
    elif notebook.separability < WELL_SEPARABLE:
        sentences.append(f"{right.capitalize()}.")
    elif alike:
        sentences.append(
            f"The class is still in those small differences, for {right}; a head has to find them in numbers that are "
            "nearly the same for all."
        )
    else:
        sentences.append(f"The classes are in its features, for {right}.")
    if sound:
        sentences.append(
            f"Fed by the recipe sound, a feature differs by {_share(sound.spread)}, and the nearest mean is right for "
            f"{percent(sound.separability)}."
        )
    return sentences


def _of_head(record: CandidateRecord) -> list[str]:
    reached = percent(record.test["accuracy"], 2)
    study = STUDY_TRANSFER_ACCURACIES[record.backbone]
    at_chance = record.test["accuracy_low"] <= CHANCE
    sentences = [
        f"With the study's head it reached {reached} on the test images, "
        f"{'not to be told from chance' if at_chance else 'more than chance'} (the study: {percent(study, 2)})."
    ]
    if study < 2 * CHANCE and not at_chance:
        sentences.append("So this run does not repeat what the study saw.")
    loss = record.best["val_loss"]
    if abs(loss - CHANCE_LOSS) < NEAR_CHANCE_LOSS:
        sentences.append(f"Its validation loss of {loss:.4f} is that of a model that says one tenth for every class.")
    for layer, share in enumerate(record.dead_units, start=1):
        units = f"of hidden layer {layer} are 0 for every validation image"
        if share == 1:
            sentences.append(f"All units {units}, so that nothing of an image gets past it.")
            break
        if share >= MOST:
            sentences.append(f"{percent(share)} of the units {units}.")
    return sentences


def dead_rows(records: Sequence[CandidateRecord], hidden_layers: int) -> list[tuple[Any, ...]]:
    """Returns a row a candidate: the dead share of each hidden layer's units, and the losses beside them."""
    return [
        (
            title(record.backbone),
            record.phase,
            record.recipe,
            *(percent(share) for share in record.dead_units),
            *[None] * (hidden_layers - len(record.dead_units)),
            f"{record.best['loss']:.4f}",
            f"{record.best['val_loss']:.4f}",
        )
        for record in records
    ]


def command_with(recipe: str, config: Mapping[str, Any]) -> str:
    """Returns the command that trains the same backbones on the same data by a recipe, its own settings left alone."""
    defaults = {field.name: field.default for field in fields(TransferConfig)}
    kept = ("data", "artifacts", "val_fraction", "seed", "limit", "backbone", "weights")
    command = ["fmnist", "transfer", "--recipe", recipe]
    for name in kept:
        if name in config and config[name] != defaults[name]:
            command += [f"--{name.replace('_', '-')}", str(config[name])]
    return shlex.join(command)


def title(backbone: str) -> str:
    """Returns what people call a backbone."""
    return MODEL_TITLES.get(backbone, backbone)


def _short(seconds: float) -> str:
    """Writes the time of an epoch, which may be less than a second."""
    return f"{seconds:.2g} s" if seconds < 10 else duration(seconds)


def _share(value: float) -> str:
    """Writes a share that may be far below one per cent, or above a hundred."""
    return f"{100 * value:.3g}\N{NO-BREAK SPACE}%"


def _square(pixels: int) -> str:
    return f"{pixels}\N{MULTIPLICATION SIGN}{pixels}"


def _signed(value: float) -> str:
    """Writes a number with a true minus sign, which is easier to see between two numbers."""
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")
