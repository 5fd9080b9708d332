"""The page of a search."""

from __future__ import annotations

import base64
import re
from dataclasses import fields, replace
from typing import Any

import pandas as pd
import pytest
from pages import Page, train_report

from fmnist.report.page import Report
from fmnist.workflows.train.results import TrainMetrics
from fmnist.workflows.tune.page import render_tune, tune_comparison, tune_headline
from fmnist.workflows.tune.records import TrialRecord
from fmnist.workflows.tune.results import SearchSummary, SizedTrial, TuneMetrics

HISTORY = pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.4], "val_accuracy": [0.9082, 0.9051]})
TUNE_PLOTS = ("trial_curves", "parameters")


def trial(number: int, accuracies=(), status="stopped", parameters=None, **more) -> TrialRecord:
    rows = tuple(
        {"epoch": float(epoch), "val_accuracy": accuracy, "val_loss": 1 - accuracy, "seconds": 40.0}
        for epoch, accuracy in enumerate(accuracies, 1)
    )
    return TrialRecord(number, 2, parameters or {"filters": 32, "learning_rate": 0.001}, status, rows, **more)


RECORDS = [
    trial(1, [0.8, 0.85]),
    trial(2, [0.8, 0.9, 0.89], "finished", {"filters": 64, "learning_rate": 0.00073, "dropout": 0.5}),
    trial(3, (), "failed", error="ResourceExhaustedError: <no memory>"),
    trial(4, [0.1], "stopped early"),
]


@pytest.fixture
def report() -> Report[TuneMetrics]:
    search = SearchSummary(
        space="notebook", scheduler="hyperband", max_epochs=3, factor=3, iterations=1, trials=4, failed=1, epochs=6,
        winner=2, val_accuracy=0.9, seconds=7800.0,
    )  # fmt: skip
    trained = train_report()
    metrics = {one.name: getattr(trained.metrics, one.name) for one in fields(TrainMetrics)}
    metrics |= {"job": "tune", "run_id": "tune-7", "model": "notebook"}
    plots = trained.plots | {name: f"PNG of {name}".encode() for name in TUNE_PLOTS}
    return replace(trained, metrics=TuneMetrics(**metrics, search=search), plots=plots)


def render(report: Report[TuneMetrics], records: list[TrialRecord] = RECORDS) -> str:
    return render_tune(report, HISTORY, records)


def searched(report: Report[TuneMetrics], **changes: Any) -> Report[TuneMetrics]:
    """The report with other values in the metrics of its search."""
    return replace(report, metrics=replace(report.metrics, search=replace(report.metrics.search, **changes)))


def test_search_page_begins_with_the_retrained_winners_result_and_the_budget(report):
    page = Page(render(report))
    assert page.open == []
    assert page.first_words[0] == tune_headline(report.metrics)
    assert page.first_words[0].replace("\N{NO-BREAK SPACE}", " ") == (
        "The best of 4 trials (6 epochs in all), retrained, reaches 91.2 % on the 1,000 test images "
        "(95 % interval 89.3–92.8 %)"  # noqa: RUF001
    )
    assert "2 h 10 min" in page.text


def test_search_page_lists_trials_best_first_with_what_became_of_them(report):
    rows = Page(render(report)).rows
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


def test_search_page_shows_the_winners_hyper_parameters_before_the_search(report):
    page = Page(render(report))
    assert ["learning_rate", "0.00073"] in page.rows
    sections = [
        "The winner", "The search", "The winner, retrained", "Test", "The worst mistakes", "Data",
        "How to reproduce it", "Configuration", "Environment",
    ]  # fmt: skip
    assert [words for words in page.first_words if words in sections] == sections


def test_long_table_of_trials_is_collapsed(report):
    def summaries(trials: int) -> list[str]:
        records = [*RECORDS, *(trial(number, [0.5]) for number in range(5, trials + 1))]
        return re.findall("<summary>(.*)</summary>", render(report, records))

    assert "All 21 trials, best first" in summaries(21)
    assert not any("best first" in summary for summary in summaries(20))


def test_search_page_embeds_every_plot_once(report):
    page = Page(render(replace(report, plots=report.plots | {"extra": b"one more"})))
    images = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    contents = [base64.b64decode(image.split(",")[1]) for image in images]
    assert sorted(contents) == sorted([*report.plots.values(), b"one more"])
    assert "https:" not in render(report)


def test_search_page_says_how_to_train_the_winner_and_how_to_search_again(report):
    text = Page(render(report)).text
    assert "fmnist train --config tune-7/best.yaml and" in text
    assert "fmnist tune --config tune-7/config.yaml --run-id tune-7-again" in text


def test_search_page_says_how_trials_were_chosen(report):
    text = Page(render(searched(report, scheduler="asha", iterations=2, space="own:build"))).text
    assert "ASHA over the space own:build : trials of at most 3 epochs" in text
    assert "in 2 rounds" in text
    assert "rounds" not in Page(render(report)).text


def test_winner_is_compared_with_the_studys_own_search(report):
    studys = tune_comparison(report.metrics).replace("\N{NO-BREAK SPACE}", " ")
    assert studys == (
        "Validation accuracy is 90.82 %, 1.42 points above what the best of the study's own Hyperband search reached "
        "once retrained, 89.40 % (480 training images here, 47,965 there)."
    )
    other = tune_comparison(searched(report, space="extended").metrics)
    assert other.endswith("there). The space extended is not the one that the study searched.")


def test_values_of_a_search_are_escaped(report):
    evil = "<script>alert('&')</script>"
    records = [trial(2, [0.9], parameters={evil: evil}), trial(3, (), "failed", error=evil)]
    html = render(searched(report, space=evil), records)
    assert "<script" not in html
    assert Page(html).open == []


def test_page_of_a_search_for_small_models_shows_their_sizes_and_the_rule(report):
    front = (SizedTrial(2, 60_000, 0.9),)
    report = replace(
        searched(report, front=front, sampler="tpe", time_budget="2h"), plots={**report.plots, "pareto_front": b"PNG"}
    )
    page = Page(render(report, [replace(RECORDS[1], model_parameters=60_000)]))

    assert "smallest model of those whose validation accuracy is within one standard error" in page.text
    assert "Parzen estimator" in page.text and "The search was given 2h." in page.text
    row = next(row for row in page.rows if row[0] == "2 (winner)")
    assert "60,000" in row or "60000" in row
