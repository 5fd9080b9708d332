"""The page, the tables and the figures of transfer learning."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from data_files import some_images
from PIL import Image
from stage_metrics import DATA

from fmnist.report.page import Report
from fmnist.runs import RunFolder
from fmnist.runs.results import ModelMetrics, SetScores, read_metrics
from fmnist.storage import FolderStore
from fmnist.training.evaluation import Evaluation, evaluate
from fmnist.workflows.transfer.page import (
    CANDIDATE_COLUMNS,
    candidate_rows,
    command_with,
    dead_units_table,
    render_transfer,
    weight_warnings,
)
from fmnist.workflows.transfer.plots import accuracies, candidate_curves, cost, transfer_plots
from fmnist.workflows.transfer.recipes import FACTS
from fmnist.workflows.transfer.records import (
    CandidateMetrics,
    InputDiagnosis,
    Phase,
    PhaseOutcome,
    WeightsRecord,
    read_phase,
    winner,
    write_phase,
)
from fmnist.workflows.transfer.results import TransferMetrics, candidate_metrics, candidates_table, history_table

IMAGENET = WeightsRecord("imagenet", "6d6bbae1", published=True)
ALIKE = InputDiagnosis("efficientnetb1", "notebook", 0.0, 1.0, 0.012, 0.0, 0.11)
SOUND = InputDiagnosis("efficientnetb1", "sound", 0.0, 255.0, 1.4, 0.0, 0.72)


def probabilities(accuracy: float, images: int = 1000) -> np.ndarray:
    labels = np.arange(images) % 10
    predicted = np.where(np.arange(images) < (1 - accuracy) * images - 0.5, (labels + 1) % 10, labels)
    return 0.91 * np.eye(10)[predicted] + 0.009


def scores(accuracy: float, images: int = 1000) -> Evaluation:
    return evaluate(np.arange(images) % 10, probabilities(accuracy, images))


def outcome(backbone: str = "vgg16", phase: str = "frozen", accuracy: float = 0.91, **changes: Any) -> PhaseOutcome:
    rows = tuple(
        {"epoch": epoch, "loss": 0.5 / epoch, "accuracy": accuracy - 0.1 / epoch, "val_loss": 0.4,
         "val_accuracy": accuracy - 0.02 * abs(epoch - 3), "seconds": 4.5}
        for epoch in range(1, 6)
    )  # fmt: skip
    made = PhaseOutcome(
        backbone=backbone, phase=cast(Phase, phase), recipe="sound", image_size=48, feature_layer="block4_pool",
        features=512, parameters=8_000_123, trained_parameters=267_786, best_epoch=3,
        feature_seconds=90.0 if phase == "frozen" else 0.0, shards_computed=12 if phase == "frozen" else 0,
        shards_found=0, dead_units=(0.125,), weights=IMAGENET, diagnoses=(ALIKE, SOUND), rows=rows,
        precision="float32", devices=("CPU",), evaluation_seconds=1.5, restarts=0,
        probabilities=probabilities(accuracy),
    )  # fmt: skip
    return replace(made, **changes)


def at_chance(backbone: str = "vgg16", **changes: Any) -> PhaseOutcome:
    rows = tuple(
        {"epoch": epoch, "loss": 2.3027, "accuracy": 0.1, "val_loss": 2.30259, "val_accuracy": 0.1, "seconds": 3.0}
        for epoch in range(1, 4)
    )
    made = outcome(backbone, accuracy=0.1, recipe="notebook", rows=rows, dead_units=(0.625, 1.0, 0.875))
    return replace(made, **changes)


def measured(outcomes: Sequence[PhaseOutcome]) -> tuple[CandidateMetrics, ...]:
    return tuple(candidate_metrics(one, evaluate(np.arange(1000) % 10, one.probabilities)) for one in outcomes)


OUTCOMES = [
    outcome("resnet152v2", accuracy=0.88),
    outcome("resnet152v2", "fine-tuned", 0.90),
    outcome("efficientnetb1", accuracy=0.87),
    outcome("vgg16", accuracy=0.91),
    outcome("vgg16", "fine-tuned", 0.93),
]
ALL = measured(OUTCOMES)
HISTORY = history_table(OUTCOMES)
LENET5 = ModelMetrics(
    job="train", run_id="train-5", started="", finished="", seconds={"training": 190.0, "total": 201.0},
    model="lenet5", parameters=504_342, seed=0, precision="float32", epochs=20, best_epoch=17,
    train=SetScores(0.2, 0.93, 480), val=SetScores(0.3, 0.9216, 120), test=scores(0.92), restarts=0,
)  # fmt: skip
FIGURES = ("candidates", "candidate_curves", "cost", "confusion_matrix", "per_class", "worst_mistakes", "class_balance")


@pytest.fixture
def report() -> Report[TransferMetrics]:
    return with_candidates(ALL)


def with_candidates(candidates: Sequence[CandidateMetrics], **changes: Any) -> Report[TransferMetrics]:
    best = winner(candidates)
    metrics = TransferMetrics(
        job="transfer", run_id="transfer-7", model=best.backbone, phase=best.phase, recipe="sound",
        parameters=best.parameters, trained_parameters=best.trained_parameters, seed=3, precision="float32",
        started="2026-01-01T10:00:00Z", finished="2026-01-01T10:03:20Z", epochs=5, best_epoch=3,
        train=SetScores(0.2, 0.93, 480), val=SetScores(0.3, 0.93, 120), test=best.test,
        weights=dict.fromkeys(FACTS, IMAGENET),
        seconds={"total": 200.0, "features": 270.0, "training": 112.5, "evaluation": 3.0, "report": 2.0},
        restarts=1, candidates=tuple(candidates), diagnoses=(ALIKE, SOUND),
    )  # fmt: skip
    return Report(
        title="Transfer learning on Fashion-MNIST",
        metrics=replace(metrics, **changes),
        data=DATA,
        config={"recipe": "sound"},
        environment={"python": "3.12"},
        plots={name: f"PNG of {name}".encode() for name in FIGURES},
    )


def rendered(report: Report[TransferMetrics], comparison: ModelMetrics | None = LENET5) -> str:
    return text_of(render_transfer(report, HISTORY, comparison))


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("\N{NO-BREAK SPACE}", " ").replace("&nbsp;", " ").split())


def test_outcome_of_a_phase_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = RunFolder(FolderStore(tmp_path), "transfer-7")
    assert read_phase(run, "vgg16", "frozen") is None
    write_phase(run, OUTCOMES[3], b"model")
    again = read_phase(run, "vgg16", "frozen")

    assert again is not None
    assert np.array_equal(again.probabilities, OUTCOMES[3].probabilities)
    assert again.model_sha256 == hashlib.sha256(b"model").hexdigest()
    for one in fields(PhaseOutcome):
        if one.name not in {"probabilities", "model_sha256"}:
            assert getattr(again, one.name) == getattr(OUTCOMES[3], one.name), one.name


def test_metrics_are_read_as_they_were_written(report: Report[TransferMetrics], tmp_path: Path) -> None:
    run = RunFolder(FolderStore(tmp_path), "transfer-7")
    run.put_json("metrics.json", asdict(report.metrics))

    assert read_metrics(run, TransferMetrics) == report.metrics


def test_winner_has_the_highest_validation_accuracy_and_of_equals_is_the_later() -> None:
    assert winner(ALL) is ALL[4]
    assert winner([ALL[3], ALL[0], replace(ALL[3], phase="fine-tuned")]).phase == "fine-tuned"


def test_table_of_candidates_has_the_scores_of_the_best_epoch_and_of_the_test() -> None:
    table = candidates_table(ALL)

    assert table.columns.tolist() == [
        *("backbone", "phase", "recipe", "image_size", "feature_layer", "features", "parameters"),
        *("trained_parameters", "epochs", "best_epoch", "loss", "accuracy", "val_loss", "val_accuracy", "test_loss"),
        *("test_accuracy", "test_accuracy_low", "test_accuracy_high", "feature_seconds", "training_seconds"),
        "diverged",
    ]
    row = table.iloc[4]
    assert (row["phase"], row["epochs"], row["best_epoch"], row["training_seconds"]) == ("fine-tuned", 5, 3, 22.5)
    assert (row["loss"], row["val_accuracy"]) == (0.5 / 3, 0.93)
    assert (row["test_accuracy"], row["test_accuracy_low"]) == (ALL[4].test.accuracy, ALL[4].test.accuracy_low)


def test_headline_is_the_winner_with_its_interval(report: Report[TransferMetrics]) -> None:
    test = report.metrics.test
    low, high = 100 * test.accuracy_low, 100 * test.accuracy_high

    assert (
        f"VGG16, fine-tuned, reaches 93.0 % on the 1,000 test images (95 % interval {low:.1f}\N{EN DASH}{high:.1f} %)"
    ) in rendered(report)


def test_table_has_every_candidate_with_its_own_numbers(report: Report[TransferMetrics]) -> None:
    text = rendered(report).replace("\N{MULTIPLICATION SIGN}", "x")

    for one in ALL:
        test = one.test
        features = "\N{EN DASH} \N{EN DASH}" if one.phase == "fine-tuned" else "1 min 30 s 0 of 12"
        study = {"resnet152v2": "72.31 %", "efficientnetb1": "10.01 %", "vgg16": "10.00 %"}[one.backbone]
        assert (
            f"{FACTS[one.backbone].title} {one.phase} sound {100 * test.accuracy:.2f} % "
            f"({100 * test.accuracy_low:.1f}\N{EN DASH}{100 * test.accuracy_high:.1f} %) "
            f"{100 * one.val_accuracy:.2f} % {study} 48x48 block4_pool "
            f"8,000,123 267,786 5 3 {features} 22 s 4.5 s"
        ) in text
    assert "LeNet-5 all layers trained \N{EN DASH} 92.00 %" in text
    dashes = "\N{EN DASH} \N{EN DASH}"
    assert f"92.16 % 89.82 % (val) 28x28 \N{EN DASH} 504,342 504,342 20 17 {dashes} 3 min 10 s 9.5 s" in text


@pytest.mark.parametrize("present", [("vgg16",), ("resnet152v2", "efficientnetb1"), tuple(FACTS)])
def test_backbones_that_were_not_trained_say_so(present: tuple[str, ...]) -> None:
    some = [one for one in ALL if one.backbone in present]
    text = rendered(with_candidates(some))

    for backbone, facts in FACTS.items():
        assert (f"{facts.title} not in this run" in text) == (backbone not in present)
        assert (f"{facts.title} frozen" in text) == (backbone in present)
    widths = {len(row) for comparison in (None, LENET5) for row in candidate_rows(some, comparison)}
    assert widths == {len(CANDIDATE_COLUMNS)}


def test_comparison_is_named(report: Report[TransferMetrics]) -> None:
    text = rendered(report)

    assert "The best of 5 candidates by validation accuracy. The last row of the table is run train-5." in text
    assert "--compare-with" not in text


def test_without_lenet5_the_page_says_how_to_compare(report: Report[TransferMetrics]) -> None:
    text = rendered(report, None)

    assert "To compare with LeNet-5, run fmnist train , then this again with --compare-with RUN ." in text
    assert "LeNet-5 no run to compare" in text


def test_features_from_the_store_are_counted() -> None:
    some = measured(
        [
            outcome("vgg16", feature_seconds=0.0, shards_computed=0, shards_found=30),
            outcome("resnet152v2", feature_seconds=60.0, shards_computed=20, shards_found=10),
        ]
    )
    text = rendered(with_candidates(some))

    assert "5 3 0 s 30 of 30 22 s" in text
    assert "5 3 1 min 00 s 10 of 30 22 s" in text


def test_diagnoses_are_on_the_page(report: Report[TransferMetrics]) -> None:
    text = rendered(report)

    assert "EfficientNetB1 notebook 0 1 1.2 % 0.0 % 11.0 %" in text
    assert "EfficientNetB1 sound 0 255 140 % 0.0 % 72.0 %" in text
    assert "fmnist transfer --recipe notebook fmnist transfer --recipe sound" in text


def test_dead_units_are_shown_with_the_losses_and_that_of_chance() -> None:
    text = rendered(with_candidates([*ALL, *measured([at_chance()])]))

    assert "VGG16 frozen notebook 62.5 % 100.0 % 87.5 % 2.3027 2.3026" in text
    assert "VGG16 frozen sound 12.5 % \N{EN DASH} \N{EN DASH} 0.1667 0.4000" in text
    assert "at least ln 10 = 2.3026" in text
    assert dead_units_table(measured([outcome(dead_units=())]))[1] == []


def test_weights_that_are_not_the_published_ones_are_named_first(report: Report[TransferMetrics]) -> None:
    weights = report.metrics.weights | {
        "vgg16": WeightsRecord("none", None, published=False),
        "resnet152v2": WeightsRecord("mine.h5", "77ab", published=False),
    }
    text = rendered(with_candidates(ALL, weights=weights))

    assert "VGG16 started from random weights: its figures are not those of ImageNet weights." in text
    assert (
        "The weights of ResNet152V2 came from mine.h5, not the file that Keras publishes: its figures are not" in text
    )
    assert "numbers below do not explain the study" in text
    assert text.index("random weights") < text.index("The three backbones, LeNet-5")
    assert "ResNet152V2 mine.h5 no 77ab" in text
    assert len(weight_warnings(weights)) == 2


def test_published_weights_have_no_warning_wherever_they_came_from() -> None:
    weights = dict.fromkeys(FACTS, IMAGENET) | {"vgg16": WeightsRecord("vgg16.h5", "6d6bbae1", published=True)}
    text = rendered(with_candidates(ALL, weights=weights))

    assert "not those of ImageNet" not in text and "do not explain" not in text
    assert "VGG16 vgg16.h5 yes 6d6bbae1" in text


def test_hostile_names_are_text() -> None:
    evil = "<script>alert('x')</script>\"&$\\frac$"
    candidates = measured([outcome(feature_layer=evil)])
    comparison = replace(LENET5, run_id=evil, model=evil)
    hostile = with_candidates(
        candidates, run_id=evil, precision=evil, phase=evil, weights={"vgg16": WeightsRecord(evil, evil, False)}
    )
    hostile = replace(hostile, config={"weights": evil, evil: evil}, environment={evil: evil})
    html = render_transfer(hostile, HISTORY, comparison)

    assert "<script" not in html and "&lt;script&gt;" in html
    assert "alert('" not in html
    transfer_plots(candidates, HISTORY, comparison, *winners_test())


def test_page_shows_every_figure_once_and_loads_nothing(report: Report[TransferMetrics]) -> None:
    html = render_transfer(replace(report, plots={**report.plots, "unheard_of": b"PNG"}), HISTORY, LENET5)

    for name in [*report.plots, "unheard_of"]:
        assert html.count(f'<figure id="{name}">') == 1, name
    assert not re.search(r'(?:src|href)="(?!data:)', html)


def test_commands_keep_data_backbone_and_weights() -> None:
    config = {"backbone": "vgg16", "data": "s3://my bucket/x", "seed": 4, "weights": "none", "epochs": 3, "limit": None}
    command = command_with("notebook", config)

    assert (
        command
        == "fmnist transfer --recipe notebook --data 's3://my bucket/x' --seed 4 --backbone vgg16 --weights none"
    )
    assert command_with("sound", {}) == "fmnist transfer --recipe sound"


def winners_test() -> tuple[Any, Any]:
    return some_images(60), np.full((60, 10), 0.1)


@pytest.mark.parametrize(
    "some",
    [OUTCOMES, OUTCOMES[:1], [at_chance(), at_chance("efficientnetb1")], [*OUTCOMES, *OUTCOMES]],
    ids=["all", "one", "at chance", "more than colours"],
)
@pytest.mark.parametrize("comparison", [LENET5, None], ids=["with LeNet-5", "alone"])
def test_figures_are_small_png_of_the_common_width(some: list[PhaseOutcome], comparison: ModelMetrics | None) -> None:
    plots = transfer_plots(measured(some), history_table(some), comparison, *winners_test())

    assert list(plots) == ["candidates", "candidate_curves", "cost", "confusion_matrix", "per_class", "worst_mistakes"]
    for name, png in plots.items():
        image = Image.open(io.BytesIO(png))
        assert (image.format, image.width) == ("PNG", 572), name
        assert len(png) < 100_000, name


def test_candidates_are_points_and_the_studys_are_diamonds_of_their_own() -> None:
    (axes,) = accuracies(ALL[3:], LENET5).axes

    names = [tick.get_text().split("\n") for tick in axes.get_yticklabels()]
    assert names == [
        ["ResNet152V2", "not in this run"], ["EfficientNetB1", "not in this run"], ["VGG16", "frozen"],
        ["VGG16", "fine-tuned"], ["LeNet-5", "all layers trained"],
    ]  # fmt: skip
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert points == [(0.91, 2), (0.93, 3), (0.92, 4)]
    (diamonds,) = (line for line in axes.lines if line.get_marker() == "D")
    assert list(zip(diamonds.get_xdata(), diamonds.get_ydata(), strict=True)) == [(0.7231, 0), (0.1001, 1), (0.1, 2)]


def test_intervals_are_those_of_the_records() -> None:
    (axes,) = accuracies(ALL[:1], None).axes

    (low, _), (high, _) = axes.collections[0].get_segments()[0]
    assert (low, high) == pytest.approx((ALL[0].test.accuracy_low, ALL[0].test.accuracy_high))


def curves(outcomes: Sequence[PhaseOutcome]) -> list[Any]:
    return candidate_curves(measured(outcomes), history_table(outcomes)).axes


def test_curves_are_train_and_val_and_the_best_epoch_of_every_candidate() -> None:
    loss, accuracy = curves(OUTCOMES)

    for axes, column in ((loss, "val_loss"), (accuracy, "val_accuracy")):
        assert [len(line.get_xdata()) for line in axes.lines] == [5, 5, 2, 1] * len(ALL)
        assert [line.get_ydata()[0] for line in axes.lines[3::4]] == [getattr(one, column) for one in ALL]
        assert len({line.get_color() for line in axes.lines}) == len(ALL)
    assert [list(line.get_ydata()) for line in loss.lines[:1]] == [[row["loss"] for row in OUTCOMES[0].rows]]
    assert [text.get_text() for text in curves([at_chance()])[0].texts] == ["ln 10"]
    assert not loss.texts and not accuracy.texts


def test_losses_far_apart_have_a_logarithmic_axis() -> None:
    assert curves(OUTCOMES)[0].get_yscale() == "linear"
    assert curves([*OUTCOMES[:3], at_chance()])[0].get_yscale() == "log"


def test_bars_are_the_seconds_of_features_and_of_training() -> None:
    (axes,) = cost(ALL, LENET5).axes

    features, training = ([bar.get_width() for bar in bars] for bars in axes.containers)
    assert features == [*(one.feature_seconds for one in ALL), 0]
    assert training == [*(one.training_seconds for one in ALL), 190.0]
