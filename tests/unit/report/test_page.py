import base64
import re
from dataclasses import fields, replace
from html.parser import HTMLParser

import jinja2
import numpy as np
import pandas as pd
import pytest

from fmnist.data import CLASS_NAMES
from fmnist.report.page import flatten, number, percent, render_page
from fmnist.training.evaluation import evaluate
from fmnist.workflows.train.page import TrainReport, comparison, headline, render
from fmnist.workflows.tune.page import TuneReport, render_tune, tune_comparison, tune_headline
from fmnist.workflows.tune.records import TrialRecord

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


TUNE_PLOTS = ("trial_curves", "parallel_coordinates", "parameters")


def trial(number: int, accuracies=(), status="stopped", parameters=None, **more) -> TrialRecord:
    rows = tuple(
        {"epoch": float(epoch), "val_accuracy": accuracy, "val_loss": 1 - accuracy, "seconds": 40.0}
        for epoch, accuracy in enumerate(accuracies, 1)
    )
    return TrialRecord(number, 2, parameters or {"filters": 32, "learning_rate": 0.001}, status, rows, **more)


@pytest.fixture
def tune_report(report) -> TuneReport:
    records = [
        trial(1, [0.8, 0.85]),
        trial(2, [0.8, 0.9, 0.89], "finished", {"filters": 64, "learning_rate": 0.00073, "dropout": 0.5}),
        trial(3, (), "failed", error="ResourceExhaustedError: <no memory>"),
        trial(4, [0.1], "stopped early"),
    ]
    search = {
        "space": "notebook", "scheduler": "hyperband", "max_epochs": 3, "factor": 3, "iterations": 1, "trials": 4,
        "failed": 1, "epochs": 6, "winner": 2, "val_accuracy": 0.9, "seconds": 7800.0,
    }  # fmt: skip
    of_training = {field.name: getattr(report, field.name) for field in fields(report)} | {
        "run_id": "tune-7",
        "metrics": dict(report.metrics) | {"job": "tune", "model": "notebook", "search": search},
        "plots": report.plots | {name: f"PNG of {name}".encode() for name in TUNE_PLOTS},
    }
    return TuneReport(**of_training, records=records)


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


def searched(report: TuneReport, **changes) -> TuneReport:
    """The report with other values in the metrics of its search."""
    return replace(report, metrics=dict(report.metrics) | {"search": report.metrics["search"] | changes})


def test_search_page_begins_with_the_retrained_winners_result_and_the_budget(tune_report):
    page = Page(render_tune(tune_report))
    assert page.open == []
    assert page.first_words[0] == tune_headline(tune_report.metrics)
    assert page.first_words[0].replace("\N{NO-BREAK SPACE}", " ") == (
        "The best of 4 trials (6 epochs in all), retrained, reaches 91.2 % on the 1,000 test images "
        "(95 % interval 89.3–92.8 %)"  # noqa: RUF001
    )
    assert "2 h 10 min" in page.text


def test_search_page_lists_trials_best_first_with_what_became_of_them(tune_report):
    rows = Page(render_tune(tune_report)).rows
    head = rows.index(
        ["trial", "val_accuracy", "status", "bracket", "best epoch", "val_loss", "time",
         "filters", "learning_rate", "dropout"]
    )  # fmt: skip
    assert [[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in rows[head + 1 : head + 5]] == [
        ["2 (winner)", "90.00 %", "finished after 3 epochs", "2", "2", "0.1", "2 min 00 s", "64", "0.00073", "0.5"],
        ["1", "85.00 %", "dropped after 2 epochs", "2", "2", "0.15", "1 min 20 s", "32", "0.001", "–"],  # noqa: RUF001
        ["4", "10.00 %", "stopped early after 1 epoch", "2", "1", "0.9", "40 s", "32", "0.001", "–"],  # noqa: RUF001
        ["3", "–", "failed after 0 epochs", "2", "–", "–", "0 s", "32", "0.001", "–"],  # noqa: RUF001
    ]
    assert ["trial 3", "ResourceExhaustedError: <no memory>"] in rows


def test_search_page_shows_the_winners_hyper_parameters_before_the_search(tune_report):
    page = Page(render_tune(tune_report))
    assert ["learning_rate", "0.00073"] in page.rows
    sections = [
        "The winner", "The search", "The winner, retrained", "Test", "The worst mistakes", "Data",
        "How to reproduce it", "Configuration", "Environment",
    ]  # fmt: skip
    assert [words for words in page.first_words if words in sections] == sections


def test_long_table_of_trials_is_collapsed(tune_report):
    def summaries(trials: int) -> list[str]:
        records = [*tune_report.records, *(trial(number, [0.5]) for number in range(5, trials + 1))]
        return re.findall("<summary>(.*)</summary>", render_tune(replace(tune_report, records=records)))

    assert "All 21 trials, best first" in summaries(21)
    assert not any("best first" in summary for summary in summaries(20))


def test_search_page_embeds_every_plot_once(tune_report):
    page = Page(render_tune(replace(tune_report, plots=tune_report.plots | {"extra": b"one more"})))
    images = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    contents = [base64.b64decode(image.split(",")[1]) for image in images]
    assert sorted(contents) == sorted([*tune_report.plots.values(), b"one more"])
    assert "https:" not in render_tune(tune_report)


def test_search_page_explains_off_only_where_a_trial_lacks_a_hyper_parameter(tune_report):
    assert "off" in Page(render_tune(tune_report)).text
    alike = [replace(record, parameters={"filters": 32}) for record in tune_report.records]
    assert "“off”" not in Page(render_tune(replace(tune_report, records=alike))).text


def test_search_page_says_how_to_train_the_winner_and_how_to_search_again(tune_report):
    text = Page(render_tune(tune_report)).text
    assert "fmnist train --config tune-7/best.yaml and" in text
    assert "fmnist tune --config tune-7/config.yaml --run-id tune-7-again" in text


def test_search_page_says_how_trials_were_chosen(tune_report):
    text = Page(render_tune(searched(tune_report, scheduler="asha", iterations=2, space="own:build"))).text
    assert "ASHA over the space own:build : trials of at most 3 epochs" in text
    assert "in 2 rounds" in text
    assert "rounds" not in Page(render_tune(tune_report)).text


def test_winner_is_compared_with_the_studys_own_search(tune_report):
    studys = tune_comparison(tune_report.metrics).replace("\N{NO-BREAK SPACE}", " ")
    assert studys == (
        "Validation accuracy is 90.82 %, 1.42 points above what the best of the study's own Hyperband search reached "
        "once retrained, 89.40 % (480 training images here, 47,965 there)."
    )
    other = tune_comparison(searched(tune_report, space="extended").metrics)
    assert other.endswith("there). The space extended is not the one that the study searched.")


def test_values_of_a_search_are_escaped(tune_report):
    evil = "<script>alert('&')</script>"
    nasty = replace(
        searched(tune_report, space=evil),
        records=[trial(2, [0.9], parameters={evil: evil}), trial(3, (), "failed", error=evil)],
    )
    html = render_tune(nasty)
    assert "<script" not in html
    assert Page(html).open == []
