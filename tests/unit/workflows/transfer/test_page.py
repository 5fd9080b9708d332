"""The page and the figures of transfer learning."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from data_files import some_images
from PIL import Image
from stage_metrics import DATA

from fmnist.training.evaluation import evaluate
from fmnist.workflows.transfer.page import (
    TransferReport,
    candidate_rows,
    command_with,
    findings,
    render_transfer,
    transfer_headline,
    weight_warnings,
)
from fmnist.workflows.transfer.plots import candidate_curves, candidates, cost, transfer_plots
from fmnist.workflows.transfer.recipes import FACTS
from fmnist.workflows.transfer.records import CandidateRecord, InputDiagnosis, Phase

IMAGENET = {"source": "imagenet", "sha256": "6d6bbae1", "published": True}


def scores(accuracy: float, images: int = 1000) -> dict[str, Any]:
    labels = np.arange(images) % 10
    predicted = np.where(np.arange(images) < (1 - accuracy) * images - 0.5, (labels + 1) % 10, labels)
    return evaluate(labels, 0.91 * np.eye(10)[predicted] + 0.009).as_dict()


def record(backbone: str = "vgg16", phase: str = "frozen", accuracy: float = 0.91, **changes: Any) -> CandidateRecord:
    rows = tuple(
        {"epoch": epoch, "loss": 0.5 / epoch, "accuracy": accuracy - 0.1 / epoch, "val_loss": 0.4,
         "val_accuracy": accuracy - 0.02 * abs(epoch - 3), "seconds": 4.5}
        for epoch in range(1, 6)
    )  # fmt: skip
    made = CandidateRecord(
        backbone, cast(Phase, phase), "sound", 48, "block4_pool", 512, 8_000_123, 267_786, rows, 3, 90.0, 12, 0,
        (0.125,), scores(accuracy),
    )  # fmt: skip
    return replace(made, **changes)


def at_chance(backbone: str = "vgg16", **changes: Any) -> CandidateRecord:
    rows = tuple(
        {"epoch": epoch, "loss": 2.3027, "accuracy": 0.1, "val_loss": 2.30259, "val_accuracy": 0.1, "seconds": 3.0}
        for epoch in range(1, 4)
    )
    made = record(backbone, accuracy=0.1, recipe="notebook", rows=rows, dead_units=(0.625, 1.0, 0.875))
    return replace(made, **changes)


ALL = [
    record("resnet152v2", accuracy=0.88),
    record("resnet152v2", "fine-tuned", 0.90, feature_seconds=0.0, shards_computed=0),
    record("efficientnetb1", accuracy=0.87),
    record("vgg16", accuracy=0.91),
    record("vgg16", "fine-tuned", 0.93, feature_seconds=0.0, shards_computed=0),
]
LENET5: dict[str, Any] = {
    "model": "lenet5", "run_id": "train-5", "parameters": 504_342, "epochs": 20, "best_epoch": 17, "test": scores(0.92),
    "val": {"accuracy": 0.9216}, "seconds": {"training": 190.0, "total": 201.0}, "images_per_second": 1800.0,
}  # fmt: skip
ALIKE = InputDiagnosis("efficientnetb1", "notebook", 0.0, 1.0, 0.012, 0.0, 0.11)
SOUND = InputDiagnosis("efficientnetb1", "sound", 0.0, 255.0, 1.4, 0.0, 0.72)
APART = InputDiagnosis("vgg16", "notebook", 0.0, 1.0, 1.2, 0.61, 0.64)


@pytest.fixture
def report() -> TransferReport:
    won = ALL[-1]
    metrics: dict[str, Any] = {
        "job": "transfer", "run_id": "transfer-7", "model": "vgg16", "phase": "fine-tuned", "recipe": "sound",
        "parameters": won.parameters, "trained_parameters": won.trained_parameters, "seed": 3, "precision": "float32",
        "started": "2026-01-01T10:00:00Z", "finished": "2026-01-01T10:03:20Z", "epochs": 5, "best_epoch": 3,
        "train": {"loss": 0.2, "accuracy": 0.93, "images": 480}, "val": {"loss": 0.3, "accuracy": 0.93, "images": 120},
        "test": won.test, "weights": dict.fromkeys(FACTS, IMAGENET),
        "seconds": {"total": 200.0, "features": 270.0, "training": 112.5, "evaluation": 3.0, "report": 2.0},
        "restarts": 1,
    }  # fmt: skip
    names = (
        "candidates",
        "candidate_curves",
        "cost",
        "confusion_matrix",
        "per_class",
        "worst_mistakes",
        "class_balance",
    )
    return TransferReport(
        "transfer-7", metrics, DATA, {"recipe": "sound"}, {"python": "3.12"}, ALL, [ALIKE, SOUND, APART], LENET5,
        {name: f"PNG of {name}".encode() for name in names},
    )  # fmt: skip


def with_weights(report: TransferReport, **weights: dict[str, Any]) -> TransferReport:
    return replace(report, metrics=dict(report.metrics) | {"weights": dict.fromkeys(FACTS, IMAGENET) | weights})


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("\N{NO-BREAK SPACE}", " ").replace("&nbsp;", " ").split())


def said(*sentences: str) -> str:
    return text_of(" ".join(sentences))


def test_headline_is_the_winner_with_its_interval(report: TransferReport) -> None:
    low, high = (100 * report.metrics["test"][f"accuracy_{end}"] for end in ("low", "high"))

    assert text_of(transfer_headline(report.metrics)) == (
        f"VGG16, fine-tuned, reaches 93.0 % on the 1,000 test images (95 % interval {low:.1f}\N{EN DASH}{high:.1f} %)"
    )


def test_table_has_every_candidate_with_its_own_numbers(report: TransferReport) -> None:
    text = text_of(render_transfer(report)).replace("\N{MULTIPLICATION SIGN}", "x")

    for one in ALL:
        test = one.test
        features = "\N{EN DASH}" if one.phase == "fine-tuned" else "1 min 30 s"
        study = {"resnet152v2": "72.31 %", "efficientnetb1": "10.01 %", "vgg16": "10.00 %"}[one.backbone]
        assert (
            f"{FACTS[one.backbone].title} {one.phase} sound {100 * test['accuracy']:.2f} % "
            f"({100 * test['accuracy_low']:.1f}\N{EN DASH}{100 * test['accuracy_high']:.1f} %) "
            f"{100 * one.best['val_accuracy']:.2f} % {study} 48x48 block4_pool "
            f"8,000,123 267,786 5 3 {features} 22 s 4.5 s"
        ) in text
    assert "LeNet-5 trained whole \N{EN DASH} 92.00 %" in text
    assert "92.16 % 89.82 % (val) 28x28 \N{EN DASH} 504,342 504,342 20 17 \N{EN DASH} 3 min 10 s 9.5 s" in text


@pytest.mark.parametrize("present", [("vgg16",), ("resnet152v2", "efficientnetb1"), tuple(FACTS)])
def test_backbones_that_were_not_trained_say_so(report: TransferReport, present: tuple[str, ...]) -> None:
    some = [one for one in ALL if one.backbone in present]
    text = text_of(render_transfer(replace(report, records=some)))

    for backbone, facts in FACTS.items():
        assert (f"{facts.title} not in this run" in text) == (backbone not in present)
        assert (f"{facts.title} frozen" in text) == (backbone in present)
    assert {len(row) for row in candidate_rows(some, None)} == {15} == {len(row) for row in candidate_rows(ALL, LENET5)}


def test_winner_is_compared_with_lenet5(report: TransferReport) -> None:
    text = text_of(render_transfer(report))

    assert (
        "The best of 5 candidates by validation accuracy. Its test accuracy is 1.00 points above that of LeNet-5"
        in text
    )
    assert "in run train-5, 92.00 %" in text and "the intervals overlap" in text
    assert "--compare-with" not in text


def test_without_lenet5_the_page_says_how_to_get_it_beside(report: TransferReport) -> None:
    text = text_of(render_transfer(replace(report, comparison=None)))

    assert "To see LeNet-5 beside it, run fmnist train , then this again with --compare-with RUN ." in text
    assert "LeNet-5 no run to compare" in text


def test_features_from_the_store_are_told(report: TransferReport) -> None:
    some = [
        record("vgg16", feature_seconds=0.0, shards_computed=0, shards_found=30),
        record("resnet152v2", feature_seconds=60.0, shards_computed=20, shards_found=10),
    ]
    text = text_of(render_transfer(replace(report, records=some)))

    assert "5 3 from the store 22 s" in text and "5 3 1 min 00 s 22 s" in text
    assert "Of the 30 parts of the features of VGG16 (frozen), 30 came from the store." in text
    assert "Of the 30 parts of the features of ResNet152V2 (frozen), 10 came from the store." in text
    assert "came from the store" not in text_of(render_transfer(report))


def test_diagnoses_and_what_follows_from_them_are_on_the_page(report: TransferReport) -> None:
    text = text_of(render_transfer(report))

    assert "EfficientNetB1 notebook 0 to 1 1.2 % 0.0 % 11.0 %" in text
    assert "EfficientNetB1 sound 0 to 255 140 % 0.0 % 72.0 %" in text
    for sentence in findings("efficientnetb1", report.diagnoses, ALL) + findings("vgg16", report.diagnoses, ALL):
        assert text_of(sentence) in text
    assert "did not measure" not in text


def test_without_diagnoses_the_section_says_how_to_get_them(report: TransferReport) -> None:
    text = text_of(render_transfer(replace(report, diagnoses=[])))

    assert "This run did not measure what its backbones make of such images." in text
    assert "fmnist transfer --recipe notebook fmnist transfer --recipe sound" in text
    assert "nearest mean" not in text.lower()


def test_scaling_twice_is_blamed_only_where_images_look_alike() -> None:
    alike = said(*findings("efficientnetb1", [ALIKE, SOUND], []))
    apart = said(*findings("efficientnetb1", [replace(ALIKE, spread=0.8, separability=0.6), SOUND], []))

    assert "divides its input by 255 itself, so that the 0 to 1 that it was fed became 0 to 0.004" in alike
    assert "look nearly alike to it: a feature differs by 1.2 % of its size" in alike
    assert "hardly tell the classes: the nearest mean is right for 11.0 % of images" in alike
    assert "Fed by the recipe sound, a feature differs by 140 %, and the nearest mean is right for 72.0 %" in alike
    assert "alike" not in apart and "255" not in apart
    assert "The classes are in its features" in apart


@pytest.mark.parametrize("separability", [0.1, 0.19, 0.2, 0.49, 0.5])
@pytest.mark.parametrize("spread", [0.0, 0.09, 0.11, 2.0])
@pytest.mark.parametrize("backbone", FACTS)
def test_findings_never_contradict_the_numbers(backbone: str, spread: float, separability: float) -> None:
    text = said(*findings(backbone, [InputDiagnosis(backbone, "notebook", 0, 1, spread, 0.3, separability)], []))

    assert ("nearly alike" in text) == (spread < 0.1)
    assert ("tells images apart" in text) == (spread > 0.1)
    assert ("by 255" in text) == (spread < 0.1 and backbone == "efficientnetb1")
    assert ("hardly tell the classes" in text) == (separability < 0.2)
    assert ("The class" in text) == (separability >= 0.5)
    assert f"nearest mean is right for {100 * separability:.1f} % of images" in text.lower()
    assert "0 for every image" not in text


def test_other_input_than_the_studys_is_not_explained_by_it() -> None:
    assert findings("efficientnetb1", [SOUND], ALL) == []
    assert "by 255" not in said(*findings("efficientnetb1", [replace(ALIKE, high=255.0)], []))


def test_dead_heads_are_measured_against_ln_10(report: TransferReport) -> None:
    text = text_of(render_transfer(replace(report, records=[*ALL, at_chance()])))

    assert "VGG16 frozen notebook 12.5 %" not in text
    assert "VGG16 frozen notebook 62.5 % 100.0 % 87.5 % 2.3027 2.3026" in text
    assert "VGG16 frozen sound 12.5 % \N{EN DASH} \N{EN DASH} 0.1667 0.4000" in text
    assert "at best ln 10 = 2.3026" in text
    assert "it reached 10.00 % on the test images, not to be told from chance (the study: 10.00 %)" in text
    assert "loss of 2.3026 is that of a model that says one tenth" in text
    assert "All units of hidden layer 2 are 0 for every validation image" in text
    assert "62.5 % of the units of hidden layer 1 are 0 for every validation image" in text
    # Behind a dead layer everything is the same for all images, dead or not.
    assert "hidden layer 3 are 0" not in text


def test_a_run_that_does_not_repeat_the_study_says_so() -> None:
    learned = at_chance(
        test=scores(0.64), dead_units=(0.1,),
        rows=({"epoch": 1, "loss": 1.1, "accuracy": 0.6, "val_loss": 1.0, "val_accuracy": 0.63, "seconds": 1.0},),
        best_epoch=1,
    )  # fmt: skip
    text = said(*findings("vgg16", [APART], [learned]))

    assert "64.00 % on the test images, more than chance" in text
    assert "does not repeat what the study saw" in text
    assert "one tenth" not in text and "hidden layer" not in text
    assert "repeat" not in said(*findings("resnet152v2", [], [replace(learned, backbone="resnet152v2")]))
    assert "repeat" not in said(*findings("vgg16", [], [at_chance()]))
    assert "61.0 % of its features are 0 for every image" in text


def test_weights_that_are_not_the_published_ones_are_named_first(report: TransferReport) -> None:
    other = with_weights(
        report,
        vgg16={"source": "none", "sha256": None, "published": False},
        resnet152v2={"source": "mine.h5", "sha256": "77ab", "published": False},
    )
    text = text_of(render_transfer(other))

    assert "VGG16 started from random weights: its figures are not those of ImageNet weights." in text
    assert (
        "The weights of ResNet152V2 came from mine.h5, not the file that Keras publishes: its figures are not" in text
    )
    assert "numbers below do not explain what the study saw" in text
    assert text.index("random weights") < text.index("The three backbones beside")
    assert "ResNet152V2 mine.h5 no 77ab" in text
    assert len(weight_warnings(other.metrics["weights"])) == 2


def test_published_weights_are_not_warned_of_wherever_they_came_from(report: TransferReport) -> None:
    staged = with_weights(report, vgg16={"source": "vgg16.h5", "sha256": "6d6bbae1", "published": True})
    html = render_transfer(staged)

    assert "not those of ImageNet" not in html and "do not explain" not in html
    assert "VGG16 vgg16.h5 yes 6d6bbae1" in text_of(html)


def test_hostile_names_are_text(report: TransferReport) -> None:
    evil = "<script>alert('x')</script>\"&$\\frac$"
    hostile = with_weights(report, vgg16={"source": evil, "sha256": evil, "published": False})
    hostile = replace(
        hostile, run_id=evil, config={"weights": evil, evil: evil}, environment={evil: evil},
        records=[record(feature_layer=evil)], comparison=LENET5 | {"run_id": evil, "model": evil},
        metrics=dict(hostile.metrics) | {"precision": evil, "phase": evil},
    )  # fmt: skip
    html = render_transfer(hostile)

    assert "<script" not in html and "&lt;script&gt;" in html
    assert "alert('" not in html
    transfer_plots(hostile.records, hostile.comparison, *winners_test())


def test_page_shows_every_figure_once_and_loads_nothing(report: TransferReport) -> None:
    html = render_transfer(replace(report, plots=dict(report.plots) | {"unheard_of": b"PNG"}))

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


def winners_test() -> tuple[Any, Any, Any]:
    images = some_images(60)
    probabilities = np.full((60, 10), 0.1)
    return evaluate(images.labels, probabilities), images, probabilities


@pytest.mark.parametrize(
    "some",
    [ALL, ALL[:1], [at_chance(), at_chance("efficientnetb1")], [*ALL, *ALL]],
    ids=["all", "one", "at chance", "more than colours"],
)
@pytest.mark.parametrize("lenet5", [LENET5, None], ids=["beside LeNet-5", "alone"])
def test_figures_are_small_png_of_the_common_width(some: list[CandidateRecord], lenet5: dict[str, Any] | None) -> None:
    plots = transfer_plots(some, lenet5, *winners_test())

    assert list(plots) == ["candidates", "candidate_curves", "cost", "confusion_matrix", "per_class", "worst_mistakes"]
    for name, png in plots.items():
        image = Image.open(io.BytesIO(png))
        assert (image.format, image.width) == ("PNG", 572), name
        assert len(png) < 100_000, name


def test_candidates_are_points_and_the_studys_are_diamonds_of_their_own() -> None:
    (axes,) = candidates(ALL[3:], LENET5).axes

    names = [tick.get_text().split("\n") for tick in axes.get_yticklabels()]
    assert names == [
        ["ResNet152V2", "not in this run"], ["EfficientNetB1", "not in this run"], ["VGG16", "frozen"],
        ["VGG16", "fine-tuned"], ["LeNet-5", "trained whole"],
    ]  # fmt: skip
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert points == [(0.91, 2), (0.93, 3), (0.92, 4)]
    (diamonds,) = (line for line in axes.lines if line.get_marker() == "D")
    assert list(zip(diamonds.get_xdata(), diamonds.get_ydata(), strict=True)) == [(0.7231, 0), (0.1001, 1), (0.1, 2)]


def test_intervals_are_those_of_the_records() -> None:
    (axes,) = candidates(ALL[:1], None).axes

    (low, _), (high, _) = axes.collections[0].get_segments()[0]
    assert (low, high) == pytest.approx((ALL[0].test["accuracy_low"], ALL[0].test["accuracy_high"]))


def test_curves_are_train_and_val_and_the_kept_epoch_of_every_candidate() -> None:
    loss, accuracy = candidate_curves(ALL).axes

    for axes, quantity in ((loss, "loss"), (accuracy, "accuracy")):
        assert [len(line.get_xdata()) for line in axes.lines] == [5, 5, 2, 1] * len(ALL)
        assert [line.get_ydata()[0] for line in axes.lines[3::4]] == [one.best[f"val_{quantity}"] for one in ALL]
        assert len({line.get_color() for line in axes.lines}) == len(ALL)
    assert [text.get_text() for text in candidate_curves([at_chance()]).axes[0].texts] == ["ln 10"]
    assert not loss.texts and not accuracy.texts


def test_losses_far_apart_stand_on_a_logarithmic_axis() -> None:
    assert candidate_curves(ALL).axes[0].get_yscale() == "linear"
    assert candidate_curves([*ALL, at_chance()]).axes[0].get_yscale() == "log"


def test_bars_are_the_seconds_of_features_and_of_training() -> None:
    (axes,) = cost(ALL, LENET5).axes

    features, training = ([bar.get_width() for bar in bars] for bars in axes.containers)
    assert features == [*(one.feature_seconds for one in ALL), 0]
    assert training == [*(one.seconds for one in ALL), 190.0]
