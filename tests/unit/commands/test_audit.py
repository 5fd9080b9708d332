"""`fmnist audit` on constructed cases of everything that it looks for."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from data_files import csv_rows, csv_text, some_images, write_csv_folder, write_idx_folder
from hypothesis import given
from hypothesis import strategies as st

from fmnist import cli
from fmnist.data import Dataset, Images, load
from fmnist.runs import CONFIG, DATA, METRICS, RunFolder
from fmnist.runs.audit import audit_choice, audit_folds
from fmnist.storage import FolderStore
from jobs import REPOSITORY

SCORES = {"accuracy": 0.91, "loss": 0.25, "images": 500}
TEST = SCORES | {"accuracy": 0.9, "accuracy_low": 0.87, "accuracy_high": 0.92}
TRAIN: dict[str, Any] = {"job": "train", "val": SCORES, "test": TEST}
COUNTS = {"rows": 500, "duplicates": 3}
SUMMARY = {"official": True, "overlap": 0, "train": COUNTS, "test": COUNTS}


@pytest.fixture(autouse=True)
def published(official_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("FMNIST_CACHE", str(official_cache))
    return load("auto", cache=official_cache)


def audit(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, int]:
    """Returns what an audit has found, by the name of the check, after comparing it with the exit code."""
    code = cli.main(["audit", *map(str, arguments), "--json"])
    checks = json.loads(capsys.readouterr().out)["checks"]
    found = {check["name"]: check["count"] for check in checks if check["found"] == "found"}
    assert code == bool(found)
    return found


def finish(tmp_path: Path, metrics: dict[str, Any], summary: dict[str, Any] = SUMMARY, run_id: str = "one") -> None:
    run = RunFolder(FolderStore(tmp_path), run_id)
    for name, value in ((METRICS, metrics), (DATA, summary)):
        run.put_json(name, value)
    run.put_bytes(CONFIG, b"seed: 0\n")
    run.finish(metrics["job"])


def together(*parts: Images) -> Images:
    return Images(np.concatenate([one.pixels for one in parts]), np.concatenate([one.labels for one in parts]))


def test_data_without_a_fault_has_no_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_idx_folder(tmp_path / "x", some_images(60), some_images(30, seed=1))

    assert cli.main(["audit", "--data", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 of 4 checks found something"
    assert audit(capsys, "--data", "auto") == {}


def test_images_that_are_there_twice_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = some_images(60), some_images(30, seed=1)
    first = np.arange(7)
    folder = write_idx_folder(
        tmp_path / "x",
        together(train, train.select(first[:4])),
        together(test, test.select(first[:2]), train.select(first)),
    )

    assert audit(capsys, "--data", folder) == {
        "duplicates among the training images": 4,
        "duplicates among the test images": 2,
        "test images among the training images": 7,
    }


def test_another_split_of_the_published_images_is_found(
    published: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = (part.select(np.arange(300)) for part in (published.train, published.test))
    some, others = np.arange(40), np.arange(40, 300)
    folder = write_csv_folder(
        tmp_path / "kaggle",
        together(train.select(others), test.select(some)),
        together(test.select(others), train.select(some[:25])),
    )

    assert audit(capsys, "--data", folder) == {"another split of the published images": 65}


def test_halves_of_two_splits_are_audited_though_no_job_takes_them(
    published: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = published.test.select(np.arange(50))
    folder = write_idx_folder(tmp_path / "x", some_images(60), test)
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (folder / f"{name}.gz").unlink()
    rows = csv_rows(together(some_images(60), test.select(np.arange(8))))
    (folder / "fashion-mnist_train.csv").write_bytes(csv_text(rows))

    assert audit(capsys, "--data", folder) == {
        "test images among the training images": 8,
        "another split of the published images": 8,
    }
    assert cli.main(["train", "--data", str(folder), "--artifacts", str(tmp_path / "runs")]) == 2


def test_accuracy_on_known_images_is_told_from_that_on_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = some_images(60), some_images(30, seed=1)
    test = together(test, train.select(np.arange(10)))
    folder = write_idx_folder(tmp_path / "x", train, test)
    # Right on the known images only.
    predicted = np.where(np.arange(40) < 30, (test.labels + 1) % 10, test.labels)
    pd.DataFrame({"predicted": predicted}).to_csv(tmp_path / "predictions.csv")

    found = audit(capsys, "--data", folder, "--predictions", tmp_path / "predictions.csv")

    assert found == {"test images among the training images": 10, "accuracy by memory": 10}


@pytest.mark.parametrize("accuracies", [[0.5, 0.9, 0.8], [50.0, 90.0, 80.0]], ids=["shares", "per cent"])
@pytest.mark.parametrize(("wrong", "found"), [(3, True), (4, False)])
def test_choice_by_the_test_has_its_very_accuracy(
    accuracies: list[float], wrong: int, found: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = some_images(30, seed=1)
    folder = write_idx_folder(tmp_path / "x", some_images(60), test)
    pd.DataFrame({"y_pred": np.where(np.arange(30) < wrong, 9 - test.labels, test.labels)}).to_csv(tmp_path / "p.csv")
    pd.DataFrame({"epoch": [0, 1, 2], "val_accuracy": accuracies}).to_csv(tmp_path / "log.csv")
    arguments = ("--data", folder, "--predictions", tmp_path / "p.csv")

    of_epochs = audit(capsys, *arguments, "--history", tmp_path / "log.csv")
    of_trials = audit(capsys, *arguments, "--trials", tmp_path / "log.csv")

    assert of_epochs == ({"epoch chosen by the test": 3} if found else {})
    assert of_trials == ({"hyper-parameters chosen by the test": 3} if found else {})


def test_carried_weights_are_seen_in_the_accuracies_of_folds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The study reports these two of its ten folds.
    study = tmp_path / "study.csv"
    study.write_text("fold,accuracy,images\n1,98.38,5996\n10,99.25,5996\n")
    ours = REPOSITORY / "docs/results/crossval-lenet5/folds.csv"

    assert audit(capsys, "--folds", study) == {"weights carried between folds": 1}
    assert audit(capsys, "--folds", ours) == {"weights carried between folds (carried)": 9}


@given(
    st.lists(st.floats(0.1, 0.999), min_size=2, max_size=10),
    st.integers(10, 10_000),
)
def test_order_of_the_rows_is_not_that_of_the_folds(accuracies: list[float], images: int) -> None:
    folds = list(range(1, len(accuracies) + 1))
    there = audit_folds(folds, accuracies, [images] * len(folds))
    back = audit_folds(folds[::-1], accuracies[::-1], [images] * len(folds))
    down = audit_folds(folds, accuracies[::-1], [images] * len(folds))

    assert there == back
    assert not (there.found and down.found)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.floats(0, 1))
def test_choice_is_by_the_best_only(accuracies: list[float], test_accuracy: float) -> None:
    check = audit_choice("epoch", "epochs", accuracies, test_accuracy)

    assert check.found == (abs(max(accuracies) - test_accuracy) <= 1e-6)


@pytest.mark.parametrize(
    ("changes", "summary", "found"),
    [
        ({}, {}, {}),
        ({"val": TEST}, {}, {"epoch chosen by the test": 1}),
        ({"search": {"val_accuracy": 0.92, "trials": 17}}, {}, {}),
        ({"search": {"val_accuracy": 0.9, "trials": 17}}, {}, {"hyper-parameters chosen by the test": 17}),
        ({"test": SCORES | {"accuracy": 0.9}}, {}, {"accuracy without an interval": 1}),
        ({}, {"overlap": 12}, {"test images among the training images": 12}),
    ],
)
def test_records_of_a_run_say_who_chose(
    changes: dict[str, Any],
    summary: dict[str, Any],
    found: dict[str, int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    finish(tmp_path, TRAIN | changes, SUMMARY | summary)

    assert audit(capsys, "one", "--artifacts", tmp_path) == found


def test_records_of_folds_say_whether_weights_were_carried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = json.loads((REPOSITORY / "docs/results/crossval-lenet5/metrics.json").read_text())
    fresh = copy.deepcopy(metrics) | {"carried": None}
    finish(tmp_path, metrics, run_id="carried")
    finish(tmp_path, fresh, run_id="fresh")

    assert audit(capsys, "fresh", "--artifacts", tmp_path) == {}
    found = audit(capsys, "carried", "--artifacts", tmp_path)
    assert found == {"weights carried between folds": 9, "epoch chosen by the test": 10}


def test_pipeline_is_audited_stage_by_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path, TRAIN | {"val": TEST}, run_id="all-train")
    stages = [("train", "finished"), ("tune", "left out"), ("crossval", "failed")]
    listed = [{"name": name, "run_id": f"all-{name}", "status": status} for name, status in stages]
    finish(tmp_path, {"job": "pipeline", "stages": listed}, run_id="all")

    assert audit(capsys, "all", "--artifacts", tmp_path) == {"train: epoch chosen by the test": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "found the columns a, b, expected one of predicted, prediction"),
        ("predicted\n1\n", "found 1 rows, expected 30, one for each test image"),
        ("predicted\n" + "11\n" * 30, "column predicted: found other values, expected the labels 0 to 9"),
        ("predicted\n" + "x\n" * 30, "column predicted: found other than finite numbers"),
        ("", "not CSV: No columns to parse from file"),
        ("predicted\n", "found no rows, expected some"),
    ],
)
def test_wrong_tables_are_one_line(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_idx_folder(tmp_path / "x", some_images(60), some_images(30, seed=1))
    (tmp_path / "p.csv").write_text(content)

    assert cli.main(["audit", "--data", str(folder), "--predictions", str(tmp_path / "p.csv")]) == 2
    assert f"p.csv: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "audit: found neither, expected a run, or --data or --folds"),
        (["one", "--data", "auto"], "audit: found one and --data, expected a run, or --data or --folds"),
        (["--predictions", "p.csv"], "audit: --predictions: found no --data, expected one to compare with"),
        (["--data", "auto", "--history", "h.csv"], "audit: --history: found no --predictions, expected one"),
        (["one", "--artifacts", "nowhere"], "nowhere/one: no such run"),
        (["--folds", "nowhere.csv"], "nowhere.csv: no such file"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", *arguments]) == 2
    assert message in capsys.readouterr().err
