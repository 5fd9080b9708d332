"""Pages of runs: a finished training as a report, and a reader of the HTML."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np

from fmnist.report.page import Report
from fmnist.runs.results import SetScores
from fmnist.training.evaluation import evaluate
from fmnist.workflows.train.results import TrainMetrics

PLOTS = (
    "learning_curves", "confusion_matrix", "per_class", "worst_mistakes",
    "class_balance", "image_grid", "pixel_correlation", "label_correlation",
)  # fmt: skip


def train_metrics() -> TrainMetrics:
    labels = np.arange(1000) % 10
    predicted = np.where(np.arange(1000) < 88, (labels + 1) % 10, labels)
    return TrainMetrics(
        job="train", run_id="train-7", model="lenet5", parameters=504_342, seed=11, precision="float32",
        started="2026-01-01T10:00:00Z", finished="2026-01-01T10:03:20Z", epochs=2, best_epoch=1, stopped_early=True,
        train=SetScores(0.19, 0.93, 480), val=SetScores(0.31, 0.9082, 120),
        test=evaluate(labels, 0.91 * np.eye(10)[predicted] + 0.009),
        seconds={"total": 200.0, "training": 185.4, "evaluation": 1.0, "report": 2.0},
        images_per_second=1101.7, workers=2, restarts=0,
    )  # fmt: skip


def train_report() -> Report[TrainMetrics]:
    return Report(
        title="LeNet-5 on Fashion-MNIST",
        metrics=train_metrics(),
        data={
            "location": "/data/fashion", "format": "idx", "official": True, "sha256": {"train-images": "c59f468a"},
            "train": {"rows": 603, "nulls": 0, "duplicates": 3, "kept": 600},
            "test": {"rows": 1000, "nulls": 0, "duplicates": 0, "kept": 1000},
            "limit": None, "split": {"train": 480, "val": 120, "seed": 11, "val_fraction": 0.2},
            "class_counts": {"train": [48] * 10, "val": [12] * 10, "test": [100] * 10},
        },
        config={"model": "lenet5", "training": {"epochs": 30, "learning_rate": 0.001}},
        environment={"python": "3.12.1", "cpu": "Some CPU", "gpus": []},
        plots={name: f"PNG of {name}".encode() for name in PLOTS},
    )  # fmt: skip


class Page(HTMLParser):
    """Reads what a browser would: open tags that were never closed, attributes, and the text of each tag."""

    VOID = frozenset({"meta", "img", "br", "link", "hr", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.rows: list[list[str]] = []
        self.first_words: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "body" in self.open and data.strip():
            self.first_words.append(data.strip())
            self.text += f" {' '.join(data.split())}"
            if self.open[-1] in {"td", "th"}:
                self.rows[-1].append(data.strip())
