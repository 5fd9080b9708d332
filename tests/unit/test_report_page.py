import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import jinja2
import numpy as np
import pandas as pd
import pytest

from fmnist.data import CLASS_NAMES
from fmnist.evaluation import evaluate
from fmnist.report.page import TrainReport, comparison, flatten, headline, number, percent, render, render_page

PLOTS = (
    "learning_curves", "confusion_matrix", "per_class", "worst_mistakes",
    "class_balance", "image_grid", "pixel_correlation", "label_correlation",
)  # fmt: skip


@pytest.fixture
def report() -> TrainReport:
    labels = np.arange(1000) % 10
    predicted = np.where(np.arange(1000) < 88, (labels + 1) % 10, labels)
    test = evaluate(labels, 0.91 * np.eye(10)[predicted] + 0.009)
    counts = {"train": [48] * 10, "val": [12] * 10, "test": [100] * 10}
    return TrainReport(
        run_id="train-7",
        title="LeNet-5 on Fashion-MNIST",
        metrics={
            "job": "train", "run_id": "train-7", "model": "lenet5", "parameters": 504_342, "seed": 11,
            "precision": "float32", "started": "2026-01-01T10:00:00Z", "finished": "2026-01-01T10:03:20Z",
            "epochs": 2, "best_epoch": 1, "stopped_early": True,
            "train": {"loss": 0.19, "accuracy": 0.93, "images": 480},
            "val": {"loss": 0.31, "accuracy": 0.9082, "images": 120},
            "test": test.as_dict(),
            "seconds": {"total": 200.0, "training": 185.4, "evaluation": 1.0, "report": 2.0},
            "images_per_second": 1101.7, "workers": 2, "restarts": 0,
        },
        data={
            "location": "/data/fashion", "format": "idx", "official": True, "sha256": {"train-images": "c59f468a"},
            "train": {"rows": 603, "nulls": 0, "duplicates": 3, "kept": 600},
            "test": {"rows": 1000, "nulls": 0, "duplicates": 0, "kept": 1000},
            "limit": None, "split": {"train": 480, "val": 120, "seed": 11, "val_fraction": 0.2},
            "class_counts": counts,
        },
        config={"model": "lenet5", "training": {"epochs": 30, "learning_rate": 0.001}},
        environment={"python": "3.12.1", "cpu": "Some CPU", "gpus": []},
        history=pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.4], "val_accuracy": [0.9082, 0.9051]}),
        plots={name: f"PNG of {name}".encode() for name in PLOTS},
        command="fmnist train --epochs 30",
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


def test_result_stands_in_the_first_line(report):
    page = Page(render(report))
    assert page.open == []
    assert page.first_words[0] == headline(report.metrics)
    plain = headline(report.metrics).replace("\N{NO-BREAK SPACE}", " ")
    assert plain == "LeNet-5 reaches 91.2 % on the 1,000 test images (95 % interval 89.3–92.8 %)"  # noqa: RUF001


def test_page_needs_nothing_from_outside(report):
    html = render(report)
    page = Page(html)
    for _, name, value in page.attributes:
        if name in {"src", "href", "srcset", "data", "action", "poster"}:
            assert value.startswith("data:image/png;base64,")
    assert not re.search(r"https?:|url\(|@import|<script|<link|<iframe", html)
    assert ("meta", "content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes


def test_every_plot_is_embedded_once_with_a_text_for_who_cannot_see_it(report):
    more = replace(report, plots=report.plots | {"gradient_norms": b"one that the page has no place for"})
    page = Page(render(more))
    images = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    contents = [base64.b64decode(image.split(",")[1]) for image in images]
    assert sorted(contents) == sorted(more.plots.values())
    assert all(value for tag, name, value in page.attributes if (tag, name) == ("img", "alt"))
    assert "More figures" in page.text


def test_missing_plot_leaves_no_broken_image(report):
    page = Page(render(replace(report, plots={})))
    assert not [tag for tag, _, _ in page.attributes if tag == "img"]


def test_sections_come_in_the_order_of_interest(report):
    text = Page(render(report)).text
    sections = ["Training", "Test", "The worst mistakes", "Data", "How to reproduce it", "Configuration", "Environment"]
    places = [text.index(f" {section} ", len(headline(report.metrics))) for section in sections]
    assert places == sorted(places)


def test_per_class_table_holds_the_evaluations_numbers(report):
    rows = {row[0]: row[1:] for row in Page(render(report)).rows if row and row[0] in CLASS_NAMES and len(row) == 5}
    assert list(rows) == list(CLASS_NAMES)
    for score in report.metrics["test"]["per_class"]:
        shares = [percent(score[name]) for name in ("precision", "recall", "f1")]
        assert rows[score["name"]] == [*shares, "100"]


def test_data_config_environment_and_every_epoch_are_on_the_page(report):
    page = Page(render(report))
    for row in (
        ["train", "603", "0", "3", "600"],
        ["Trouser", "48", "12", "100"],
        ["train-images", "c59f468a"],
        ["training.learning_rate", "0.001"],
        ["gpus", "–"],  # noqa: RUF001
        ["2", "0.4", "0.9051"],
    ):
        assert row in page.rows
    assert "official Fashion-MNIST files (checksums match)" in page.text
    assert "3 min 05 s" in page.text


def test_page_says_how_to_reproduce_the_run(report):
    text = Page(render(report)).text
    assert "fmnist train --config train-7/config.yaml --run-id train-7-again" in text
    assert "seed 11" in text
    assert "It was started with: fmnist train --epochs 30" in text
    assert "It was started with" not in render(replace(report, command=""))


def test_values_are_escaped_everywhere(report):
    evil = "<script>alert('&')</script>"
    nasty = replace(
        report,
        run_id=evil, title=evil, command=evil,
        config={evil: {evil: evil}}, environment={"cpu": evil},
        data=dict(report.data) | {"location": evil},
        metrics=dict(report.metrics) | {"model": evil},
        history=report.history.rename(columns={"loss": evil}),
        plots={'"><script>': b"png"},
    )  # fmt: skip
    html = render(nasty)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 10
    assert Page(html).open == []


def test_run_id_is_quoted_for_the_shell(report):
    assert "'two words/config.yaml'" in Page(render(replace(report, run_id="two words"))).text


@pytest.mark.parametrize(
    ("model", "accuracy", "expected"),
    [
        ("lenet5", 0.9082, "Validation accuracy is 90.82 %, 1.00 points above the study's 89.82 %"),
        ("lenet5", 0.8882, "Validation accuracy is 88.82 %, 1.00 points below the study's 89.82 %"),
        (
            "lenet5-1998",
            0.8982,
            "Validation accuracy is 89.82 %, 0.00 points above what the study's notebook reached "
            "with its own LeNet-5, 89.82 %",
        ),
    ],
)
def test_validation_accuracy_is_compared_with_the_studys(report, model, accuracy, expected):
    metrics = dict(report.metrics) | {"model": model, "val": {"loss": 0.3, "accuracy": accuracy, "images": 120}}
    sentence = comparison(metrics).replace("\N{NO-BREAK SPACE}", " ")
    assert sentence == f"{expected} (480 training images here, 47,965 there)."


def test_limit_and_restarts_are_said(report):
    limited = replace(
        report,
        data=dict(report.data) | {"limit": 2000, "official": False},
        metrics=dict(report.metrics) | {"restarts": 2},
    )
    text = Page(render(limited)).text
    assert "out of the first 2,000 after shuffling" in text
    assert "not the official files" in text
    assert "interrupted 2 times" in text
    assert "interrupted" not in Page(render(report)).text


def test_other_jobs_can_extend_the_base(monkeypatch):
    own = jinja2.DictLoader(
        {"own.html": "{% extends 'base.html' %}{% block body %}{{ parts.facts({'folds': 10}) }}{% endblock %}"}
    )
    package = jinja2.PackageLoader("fmnist.report")
    monkeypatch.setattr(jinja2, "PackageLoader", lambda name: jinja2.ChoiceLoader([own, package]))
    page = Page(render_page("own.html", title="Folds", headline="Ten folds", run_id="cv-1"))
    assert page.first_words[0] == "Ten folds"
    assert ["folds", "10"] in page.rows


def test_value_that_the_template_needs_but_was_not_given_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="headline"):
        render_page("base.html", title="t", run_id="r")


def test_nested_settings_are_flattened_to_dotted_names():
    assert flatten({"a": 1, "b": {"c": {"d": None}, "e": [1, 2]}}) == {"a": 1, "b.c.d": None, "b.e": [1, 2]}


@pytest.mark.parametrize(
    ("value", "written"),
    [(504342, "504,342"), (1101.7, "1,102"), (0.001, "0.001"), (0.26254, "0.2625"), (True, "yes"), ([1, 2], "1, 2")],
)
def test_values_are_written_for_people(value, written):
    assert number(value) == written
