"""The page of a training run."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import pandas as pd
import pytest
from pages import Page, train_metrics, train_report

from fmnist.data import CLASS_NAMES
from fmnist.report.page import Report, percent
from fmnist.runs.results import SetScores
from fmnist.workflows.train.page import comparison, headline, render
from fmnist.workflows.train.results import TrainMetrics

HISTORY = pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.4], "val_accuracy": [0.9082, 0.9051]})


@pytest.fixture
def report() -> Report[TrainMetrics]:
    return train_report()


def test_result_stands_in_the_first_line(report):
    page = Page(render(report, HISTORY))
    assert page.open == []
    assert page.first_words[0] == headline(report.metrics)
    plain = headline(report.metrics).replace("\N{NO-BREAK SPACE}", " ")
    assert plain == "LeNet-5 reaches 91.2 % on the 1,000 test images (95 % interval 89.3–92.8 %)"  # noqa: RUF001


def test_page_needs_nothing_from_outside(report):
    html = render(report, HISTORY)
    page = Page(html)
    for _, name, value in page.attributes:
        if name in {"src", "href", "srcset", "data", "action", "poster"}:
            assert value.startswith("data:image/png;base64,")
    assert not re.search(r"https?:|url\(|@import|<script|<link|<iframe", html)
    assert ("meta", "content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes


def test_every_plot_is_embedded_once_with_a_text_for_who_cannot_see_it(report):
    more = replace(report, plots=report.plots | {"gradient_norms": b"one that the page has no place for"})
    page = Page(render(more, HISTORY))
    images = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    contents = [base64.b64decode(image.split(",")[1]) for image in images]
    assert sorted(contents) == sorted(more.plots.values())
    assert all(value for tag, name, value in page.attributes if (tag, name) == ("img", "alt"))
    assert "More figures" in page.text


def test_missing_plot_leaves_no_broken_image(report):
    page = Page(render(replace(report, plots={}), HISTORY))
    assert not [tag for tag, _, _ in page.attributes if tag == "img"]


def test_sections_come_in_the_order_of_interest(report):
    text = Page(render(report, HISTORY)).text
    sections = ["Training", "Test", "The worst mistakes", "Data", "How to reproduce it", "Configuration", "Environment"]
    places = [text.index(f" {section} ", len(headline(report.metrics))) for section in sections]
    assert places == sorted(places)


def test_per_class_table_holds_the_evaluations_numbers(report):
    rows = {
        row[0]: row[1:] for row in Page(render(report, HISTORY)).rows if row and row[0] in CLASS_NAMES and len(row) == 5
    }
    assert list(rows) == list(CLASS_NAMES)
    for score in report.metrics.test.per_class:
        shares = [percent(value) for value in (score.precision, score.recall, score.f1)]
        assert rows[score.name] == [*shares, "100"]


def test_data_config_environment_and_every_epoch_are_on_the_page(report):
    page = Page(render(report, HISTORY))
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


def test_first_rows_of_the_table_are_on_the_page(report):
    columns = ["label", "pixel1", "pixel784"]
    head = {"columns": columns, "rows": [[7, 1, 255]]}
    page = Page(render(replace(report, data={**report.data, "head": head}), HISTORY))
    assert columns in page.rows
    assert ["7", "1", "255"] in page.rows


def test_page_says_how_to_reproduce_the_run(report):
    text = Page(render(report, HISTORY)).text
    assert "fmnist train --config train-7/config.yaml --run-id train-7-again" in text
    assert "seed 11" in text


def test_values_are_escaped_everywhere(report):
    evil = "<script>alert('&')</script>"
    nasty = replace(
        report,
        title=evil,
        config={evil: {evil: evil}},
        environment={"cpu": evil},
        data=dict(report.data) | {"location": evil},
        metrics=replace(report.metrics, run_id=evil, model=evil),
        plots={'"><script>': b"png"},
    )
    html = render(nasty, HISTORY.rename(columns={"loss": evil}))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 10
    assert Page(html).open == []


def test_run_id_is_quoted_for_the_shell(report):
    quoted = replace(report, metrics=replace(report.metrics, run_id="two words"))
    assert "'two words/config.yaml'" in Page(render(quoted, HISTORY)).text


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
def test_validation_accuracy_is_compared_with_the_studys(model, accuracy, expected):
    metrics = replace(train_metrics(), model=model, val=SetScores(0.3, accuracy, 120))
    sentence = comparison(metrics).replace("\N{NO-BREAK SPACE}", " ")
    assert sentence == f"{expected} (480 training images here, 47,965 there)."


def test_limit_and_restarts_are_said(report):
    limited = replace(
        report,
        data=dict(report.data) | {"limit": 2000, "official": False},
        metrics=replace(report.metrics, restarts=2),
    )
    text = Page(render(limited, HISTORY)).text
    assert "out of the first 2,000 after shuffling" in text
    assert "not the official files" in text
    assert "interrupted 2 times" in text
    assert "interrupted" not in Page(render(report, HISTORY)).text
