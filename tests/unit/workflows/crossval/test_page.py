"""The page and the figures of a cross-validation."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from data_files import some_images
from PIL import Image

from fmnist.report.page import Report
from fmnist.training.evaluation import evaluate
from fmnist.workflows.crossval.page import crossval_headline, render_crossval
from fmnist.workflows.crossval.plots import crossval_plots, fold_accuracy, fold_curves, leak
from fmnist.workflows.crossval.records import FoldRecord, Weights
from fmnist.workflows.crossval.results import CarriedScores, CrossvalMetrics, HeldOutScores, MeanScores

ACCURACIES: dict[Weights, list[float]] = {"fresh": [0.91, 0.905, 0.915], "carried": [0.912, 0.95, 0.99]}


def records(*kinds: Weights) -> list[FoldRecord]:
    return [
        FoldRecord(
            fold=fold, weights=kind, seed=100 + fold,
            rows=tuple(
                {"epoch": epoch, "loss": 0.5 / epoch, "accuracy": 0.9, "val_loss": 0.4, "val_accuracy": 0.88,
                 "seconds": 4.0}
                for epoch in range(1, 3 + fold)
            ),
            kept_epoch=2, parameters=504_342, precision="float32", devices=("CPU",),
            probabilities=np.full((60, 10), 0.1, np.float32), train_images=486, val_images=54, held_out_images=60,
            held_out_loss=0.31, held_out_accuracy=accuracy,
        )
        for kind in kinds
        for fold, accuracy in enumerate(ACCURACIES[kind], start=1)
    ]  # fmt: skip


@pytest.fixture
def report() -> Report[CrossvalMetrics]:
    labels = np.arange(600) % 10
    predicted = np.where(np.arange(600) < 54, (labels + 1) % 10, labels)
    pooled = evaluate(labels, 0.91 * np.eye(10)[predicted] + 0.009)
    metrics = CrossvalMetrics(
        job="crossval", run_id="crossval-7", model="lenet5", parameters=504_342, seed=3, precision="float32",
        started="2026-01-01T10:00:00Z", finished="2026-01-01T10:03:20Z", folds=3, epochs=15,
        train=MeanScores(0.2, 0.93), val=MeanScores(0.3, 0.9),
        held_out=HeldOutScores(
            accuracy=0.91, accuracy_sd=0.005, accuracy_low=0.9012, accuracy_high=0.9188,
            interval="95 % interval of the mean: <method>", loss=0.31, loss_sd=0.01, images=600,
            per_class=pooled.per_class, confusion_matrix=pooled.confusion_matrix,
        ),
        carried=CarriedScores(tuple(ACCURACIES["carried"]), (0.3, 0.2, 0.1), 12),
        seconds={"total": 200.0, "training": 185.4, "report": 2.0}, restarts=1,
    )  # fmt: skip
    data = {
        "location": "/data/fashion", "format": "idx", "official": True, "sha256": {"train-images": "c59f468a"},
        "train": {"rows": 600, "nulls": 0, "duplicates": 0, "kept": 600},
        "test": {"rows": 100, "nulls": 0, "duplicates": 0, "kept": 100},
        "limit": None, "split": {"train": 600, "seed": 3, "val_fraction": 0.1, "folds": 3},
        "class_counts": {"train": [60] * 10, "test": [10] * 10},
    }  # fmt: skip
    names = ("fold_accuracy", "fold_curves", "leak", "confusion_matrix", "per_class", "worst_mistakes", "class_balance")
    return Report(
        title="Cross-validation of LeNet-5", metrics=metrics, data=data, config={"model": "lenet5"},
        environment={"python": "3.12"}, plots={name: f"PNG of {name}".encode() for name in names},
    )  # fmt: skip


def page(report: Report[CrossvalMetrics]) -> str:
    """The page of the report's folds."""
    return render_crossval(report, records("fresh", *(["carried"] if report.metrics.carried else [])))


def without(report: Report[CrossvalMetrics]) -> Report[CrossvalMetrics]:
    """The same run without the study's protocol."""
    plots = {name: png for name, png in report.plots.items() if name != "leak"}
    return replace(report, metrics=replace(report.metrics, carried=None), plots=plots)


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("\N{NO-BREAK SPACE}", " ").split())


def test_headline_is_the_mean_with_its_interval(report: Report[CrossvalMetrics]) -> None:
    assert crossval_headline(report.metrics).replace("\N{NO-BREAK SPACE}", " ") == (
        "LeNet-5 reaches 91.0 % on images held out, the mean of 3 folds (95 % interval 90.1\N{EN DASH}91.9 %)"
    )


def test_table_has_every_fold_and_the_mean(report: Report[CrossvalMetrics]) -> None:
    text = text_of(page(report))

    assert "2 90.50 % 0.31 4 2 90.00 % 0.25 88.00 % 0.4 16 s" in text
    assert "mean ± sd 91.00 % ± 0.50 0.31 ± 0.01 5 \N{EN DASH} 93.00 % 0.2 90.00 % 0.3" in text


def test_page_says_how_the_interval_was_made_and_that_the_study_stopped_by_held_out_images(
    report: Report[CrossvalMetrics],
) -> None:
    html = page(report)

    assert "&lt;method&gt;" in html
    assert "10 % (54) are set aside to decide when to stop" in text_of(html)
    assert "The study stopped by the held-out images themselves" in text_of(html)


def test_both_protocols_stand_side_by_side(report: Report[CrossvalMetrics]) -> None:
    text = text_of(page(report))

    assert "fold fresh weights weights carried over 1 91.00 % 91.20 % 2 90.50 % 95.00 % 3 91.50 % 99.00 %" in text
    assert "98.38 % in the first fold to 99.25 % in the tenth measures how well the model remembers" in text


def test_without_the_studys_protocol_the_page_says_how_to_see_it(report: Report[CrossvalMetrics]) -> None:
    html = page(without(report))

    assert "fmnist crossval --carry-weights" in html
    assert "weights carried over" not in html and 'id="leak"' not in html


def test_page_shows_every_figure_once_and_loads_nothing(report: Report[CrossvalMetrics]) -> None:
    html = page(report)

    for name in report.plots:
        assert html.count(f'<figure id="{name}">') == 1, name
    assert not re.search(r'(?:src|href)="(?!data:)', html)


def test_figures_are_small_png_of_the_common_width() -> None:
    images = some_images(60)
    probabilities = np.full((60, 10), 0.1)
    pooled = evaluate(images.labels, probabilities)

    plots = crossval_plots(records("fresh", "carried"), pooled, images, probabilities)

    assert list(plots) == ["fold_accuracy", "fold_curves", "leak", "confusion_matrix", "per_class", "worst_mistakes"]
    for name, png in plots.items():
        assert Image.open(io.BytesIO(png)).width == 572, name
        assert len(png) < 100_000, name
    assert "leak" not in crossval_plots(records("fresh"), pooled, images, probabilities)


def test_box_plot_has_a_point_a_fold() -> None:
    (axes,) = fold_accuracy(records("fresh", "carried")).axes

    points = [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert points == [ACCURACIES["fresh"], ACCURACIES["carried"]]


def test_curves_of_all_folds_are_in_one_figure() -> None:
    loss, accuracy = fold_curves(records("fresh")).axes

    for axes in (loss, accuracy):
        assert [len(line.get_xdata()) for line in axes.lines] == [3, 3, 1, 4, 4, 1, 5, 5, 1]


def test_leak_draws_both_protocols_by_fold() -> None:
    (axes,) = leak(records("fresh", "carried")).axes

    assert [line.get_ydata().tolist() for line in axes.lines] == [ACCURACIES["fresh"], ACCURACIES["carried"]]


def test_fold_without_an_epoch_is_shown(report: Report[CrossvalMetrics]) -> None:
    first, second, *rest = records("fresh")
    diverged = replace(second, rows=(), kept_epoch=0, diverged="epoch 1, step 1 of 5: the loss is nan")

    assert "0, then diverged" in render_crossval(without(report), [first, diverged, *rest])
    assert fold_curves([first, diverged, *rest]).axes
