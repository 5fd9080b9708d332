"""The model card: a metadata block that any YAML loader reads, true figures, and three lines that load the model."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from pages import train_report

from fmnist.models import build_model
from fmnist.report.card import card_file, model_card
from fmnist.report.page import Report
from fmnist.strict_yaml import read_yaml

REPORT = train_report()


def report(**changes: Any) -> Report[Any]:
    full = REPORT
    metrics = replace(full.metrics, **changes.pop("metrics", {}))
    return replace(full, metrics=metrics, **changes)


def metadata(card: str) -> dict[str, Any]:
    opening, block, _ = re.split(r"^---\n", card, maxsplit=2, flags=re.M)
    assert opening == "" and read_yaml(block) == yaml.safe_load(block)
    values: dict[str, Any] = yaml.safe_load(block)
    return values


def test_metadata_has_data_licence_and_the_accuracy_with_its_interval() -> None:
    of = report()
    found = metadata(model_card(of))

    assert found["library_name"] == "keras" and found["license"] == "mit"
    assert found["datasets"] == ["zalando-datasets/fashion_mnist"] and found["metrics"] == ["accuracy"]
    (model,) = found["model-index"]
    (result,) = model["results"]
    assert model["name"] == of.run_id and result["dataset"]["type"] == "zalando-datasets/fashion_mnist"
    test = of.metrics.test
    assert [one["value"] for one in result["metrics"]] == [test.accuracy, test.accuracy_low, test.accuracy_high]


def test_body_has_every_class_and_the_weakest_ones() -> None:
    card = model_card(report())

    for score in report().metrics.test.per_class:
        assert re.search(rf"^\| {re.escape(score.name)} \|.*\| {score.support} \|$", card, re.M)
    weakest = min(report().metrics.test.per_class, key=lambda score: score.f1)
    assert f"Weakest classes by F1: {weakest.name} ({weakest.f1:.2f})" in card
    for section in ("Data", "Training", "Evaluation", "Limits", "Load it"):
        assert f"\n## {section}\n" in card


def test_other_images_and_models_of_others_have_an_unknown_licence() -> None:
    other = {**report().data, "official": False, "location": "/data/own"}

    found = metadata(model_card(report(data=other)))
    assert found["license"] == "unknown" and "datasets" not in found
    assert found["model-index"][0]["results"][0]["dataset"]["name"] == "/data/own"
    assert metadata(model_card(report(metrics={"model": "mine:build"})))["license"] == "unknown"
    assert metadata(model_card(report(config={"weights": "imagenet"})))["license"] == "unknown"


@examples(25)
@given(st.text(max_size=40))
def test_text_of_a_user_stays_text(text: str) -> None:
    other = {**report().data, "official": False, "location": f"{text}\n---\n# `x` <b>|{text}"}
    scores = report().metrics.test
    named = replace(scores.per_class[0], name=f"{text}|<script>\n# x")
    card = model_card(
        report(data=other, metrics={"test": replace(scores, per_class=(named, *scores.per_class[1:]))}, title=text)
    )

    assert "<script>" not in card and "<b>" not in re.sub(r"`[^`\n]*`", "", card[card.index("\n# ") :])
    assert metadata(card)["library_name"] == "keras"
    assert len(re.findall(r"^\| .* \|$", card, re.M)) == 10 + 6 + 2 * 2
    assert re.findall(r"^#+ .*$", card.partition("\n---\n")[2], re.M)[1:] == [
        *("## Data", "## Training", "## Evaluation", "## Limits", "## Load it")
    ]


@pytest.mark.parametrize("name", ["lenet5", "lenet5-1998"])
def test_three_lines_load_the_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(name, seed=0)
    model.save(tmp_path / "model.keras")
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)

    (code,) = re.findall(r"```python\n(.*?)```", model_card(report(metrics={"model": name})), re.S)
    names: dict[str, Any] = {"images": images}
    exec(code, names)

    assert len(code.splitlines()) == 3
    np.testing.assert_allclose(names["probabilities"], model.predict(images, verbose=0), atol=1e-6)


def test_card_that_cannot_be_written_is_a_line_and_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert card_file(report(data={})) == {}
    assert "the model card was not written" in capsys.readouterr().err
