"""What `fmnist runs list` and `fmnist runs compare` show of small run folders, in a terminal and in a pipe."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fmnist import cli
from fmnist import console as output
from fmnist.commands import runs as run_commands
from fmnist.errors import IntegrityError, RunError
from fmnist.options import settings_yaml
from fmnist.runs import CONFIG, METRICS, RunFolder, compare_runs
from fmnist.storage import FolderStore
from fmnist.workflows.crossval.config import CrossvalConfig
from fmnist.workflows.train.config import TrainConfig

TRAIN_METRICS: dict[str, Any] = {
    "job": "train",
    "model": "lenet5",
    "precision": "float32",
    "finished": "2026-11-23T18:45:00Z",
    "parameters": 504342,
    "stopped_early": False,
    "test": {
        "loss": 0.25,
        "accuracy": 0.91,
        "accuracy_low": 0.9042,
        "accuracy_high": 0.9154,
        "per_class": [{"label": 0, "f1": 0.9}],
        "confusion_matrix": [[1000]],
    },
    "seconds": {"total": 3725.4},
    "images_per_second": 2158.25,
}
CROSSVAL_METRICS: dict[str, Any] = {
    "job": "crossval",
    "model": "lenet5",
    "precision": "float32",
    "finished": "2026-11-24T02:00:00Z",
    "parameters": 504342,
    "folds": 10,
    "held_out": {"accuracy": 0.9223, "accuracy_low": 0.92, "accuracy_high": 0.9246},
    "carried": None,
    "seconds": {"total": 61.5},
}


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "artifacts")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on output goes to something that is taken for a terminal."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(type(output.console), "is_terminal", True)
    monkeypatch.setenv("NO_COLOR", "1")
    # Not by COLUMNS, which a console reads when it is made.
    monkeypatch.setattr(output.console, "width", 160)


def finish(store: FolderStore, run_id: str, metrics: dict[str, Any], **settings: Any) -> None:
    config = {"train": TrainConfig, "crossval": CrossvalConfig}[metrics["job"]]
    run = RunFolder(store, run_id)
    run.put_bytes(CONFIG, settings_yaml(asdict(config(run_id=run_id, **settings))).encode())
    run.put_json(METRICS, metrics)
    run.finish(metrics["job"])


def with_test(accuracy: float, low: float, high: float) -> dict[str, Any]:
    test = {**TRAIN_METRICS["test"], "accuracy": accuracy, "accuracy_low": low, "accuracy_high": high}
    return {**TRAIN_METRICS, "test": test}


def printed(capsys: pytest.CaptureFixture[str], store: FolderStore, *arguments: str) -> list[list[str]]:
    assert cli.main(["runs", *arguments, "--artifacts", store.location]) == 0
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_compared_runs_show_what_differs_first_and_count_the_rest(
    store: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(store, "one", TRAIN_METRICS)
    finish(store, "two", with_test(0.9185, 0.913, 0.9237) | {"parameters": 504342 + 8}, epochs=5, batch_size=128)

    rows = printed(capsys, store, "compare", "one", "two")

    assert rows == [
        ["what", "name", "one", "two", "difference"],
        ["setting", "epochs", "30", "5", ""],
        ["setting", "batch_size", "64", "128", ""],
        # All but the run's id and the two above.
        ["setting", "(the same in both)", *[str(len(asdict(TrainConfig())) - 3)] * 2, ""],
        ["run", "job", "train", "train", ""],
        ["run", "model", "lenet5", "lenet5", ""],
        ["run", "precision", "float32", "float32", ""],
        ["run", "finished", "2026-11-23T18:45:00Z", "2026-11-23T18:45:00Z", ""],
        ["metric", "parameters", "504342", "504350", "+8"],
        ["metric", "test.loss", "0.2500", "0.2500", "+0.0000"],
        ["metric", "test.accuracy", "0.9100", "0.9185", "+0.0085"],
        ["metric", "test.accuracy (95 % interval)", "0.9042-0.9154", "0.9130-0.9237", "overlap"],
        ["metric", "seconds.total", "3725.4", "3725.4", "+0.0"],
        ["metric", "images_per_second", "2158.2", "2158.2", "+0.0"],
    ]


def test_all_lists_the_settings_that_are_the_same(store: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    finish(store, "one", TRAIN_METRICS)
    finish(store, "two", TRAIN_METRICS, seed=1)

    names = [row[1] for row in printed(capsys, store, "compare", "one", "two", "--all") if row[0] == "setting"]

    assert names[0] == "seed"
    assert sorted(names) == sorted(set(asdict(TrainConfig())) - {"run_id"})


@pytest.mark.parametrize(
    ("low", "high", "overlap"),
    [
        (0.9154, 0.93, True),  # they share one end
        (0.9155, 0.93, False),
        (0.89, 0.9042, True),
        (0.89, 0.9041, False),
        (0.91, 0.911, True),  # one within the other
        (0.89, 0.93, True),
    ],
)
def test_intervals_overlap_if_they_have_a_value_in_common(
    store: FolderStore, capsys: pytest.CaptureFixture[str], low: float, high: float, overlap: bool
) -> None:
    finish(store, "one", TRAIN_METRICS)
    finish(store, "two", with_test((low + high) / 2, low, high))

    assert compare_runs(store, "one", "two").test_accuracy_intervals_overlap is overlap
    assert compare_runs(store, "two", "one").test_accuracy_intervals_overlap is overlap
    rows = printed(capsys, store, "compare", "one", "two")
    assert rows[-3][-1] == ("overlap" if overlap else "no overlap")


def test_runs_of_different_jobs_compare_in_what_they_share(
    store: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(store, "one", TRAIN_METRICS)
    finish(store, "folds", CROSSVAL_METRICS)

    rows = printed(capsys, store, "compare", "one", "folds")

    shared = [row[1] for row in rows if row[0] == "metric"]
    assert shared == ["parameters", "seconds.total", "(only in this run)"]
    only_train = set(asdict(TrainConfig())) - set(asdict(CrossvalConfig()))
    only_crossval = set(asdict(CrossvalConfig())) - set(asdict(TrainConfig()))
    assert ["setting", "(only in this run)", str(len(only_train)), str(len(only_crossval)), ""] in rows
    assert ["metric", "(only in this run)", "5", "4", ""] in rows
    assert ["setting", "val_fraction", "0.2", "0.1", ""] in rows
    assert compare_runs(store, "one", "folds").test_accuracy_intervals_overlap is None

    rows = printed(capsys, store, "compare", "one", "folds", "--all")
    assert ["metric", "test.accuracy", "0.91", "-", ""] in rows
    assert ["metric", "held_out.accuracy", "-", "0.9223", ""] in rows
    assert ["setting", "folds", "-", "10", ""] in rows


def test_hyperparameters_are_compared_one_by_one(store: FolderStore) -> None:
    finish(store, "default", TRAIN_METRICS, model="notebook")
    finish(store, "one", TRAIN_METRICS, model="notebook", hyperparameters={"DROPOUT_1": 0.5, "learning_rate": 1e-5})
    finish(store, "two", TRAIN_METRICS, model="notebook", hyperparameters={"DROPOUT_1": 0.5, "KERNEL": 3})

    settings = compare_runs(store, "one", "two").settings
    assert {name: pair for name, pair in settings.shared.items() if "." in name} == {
        "hyperparameters.DROPOUT_1": (0.5, 0.5),
        "hyperparameters.learning_rate": (1e-5, None),
        "hyperparameters.KERNEL": (None, 3),
    }
    assert compare_runs(store, "default", "one").settings.shared["hyperparameters.DROPOUT_1"] == (None, 0.5)


def test_comparison_as_json_has_everything(store: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    finish(store, "one", TRAIN_METRICS)
    finish(store, "two", with_test(0.93, 0.925, 0.935) | {"workers": 2}, epochs=5)

    assert cli.main(["runs", "compare", "one", "two", "--json", "--artifacts", store.location]) == 0

    document = json.loads(capsys.readouterr().out)
    assert document["runs"] == {"a": "one", "b": "two"}
    assert document["facts"]["job"] == {"a": "train", "b": "train"}
    assert document["settings"]["different"] == {"epochs": {"a": 30, "b": 5}}
    assert document["settings"]["same"]["batch_size"] == 64
    assert document["metrics"]["shared"]["test.accuracy"] == {"a": 0.91, "b": 0.93, "difference": 0.93 - 0.91}
    assert document["metrics"]["shared"]["test.accuracy_low"]["b"] == 0.925
    assert document["metrics"]["only_b"] == {"workers": 2}
    assert document["test_accuracy_intervals_overlap"] is False


def test_unfinished_unknown_and_damaged_runs_are_not_compared(
    store: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(store, "one", TRAIN_METRICS)
    RunFolder(store, "half").put_bytes(CONFIG, b"epochs: 3\n")

    for other, message in (("half", "half: unfinished run"), ("none", "none: no such run")):
        for pair in (["one", other], [other, "one"]):
            assert cli.main(["runs", "compare", *pair, "--artifacts", store.location]) == 2
            output = capsys.readouterr()
            assert message in output.err and len(output.err.splitlines()) == 1
            assert output.out == ""
            with pytest.raises(RunError):
                compare_runs(store, pair[0], pair[1])
    for name, damage in (
        (CONFIG, b"epochs: [\n"),
        (CONFIG, b"\xff\xfe\xff"),
        (CONFIG, b"epochs\n"),
        (METRICS, b"[]\n"),
    ):
        store.put_bytes(f"one/{name}", damage)
        with pytest.raises(IntegrityError, match=rf"one/{name}: damaged"):
            compare_runs(store, "one", "one")


def test_terminal_shows_a_table_in_which_nothing_is_cut(
    store: FolderStore, capsys: pytest.CaptureFixture[str], terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = "[red]images-" + "0123456789" * 6
    finish(store, "train-20261123-184500-a1b2", TRAIN_METRICS, data=folder)
    finish(store, "crossval-20261123-184500-a1b2", CROSSVAL_METRICS)
    monkeypatch.setattr(output.console, "width", 80)

    assert run_commands.list_runs(store.location) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("│ train-20261123-184500-a1b2 ") for line in lines)

    ids = "train-20261123-184500-a1b2", "crossval-20261123-184500-a1b2"
    assert run_commands.compare_runs(store.location, *ids, everything=False, as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    # A cell of several lines, from "data" to the next setting.
    start = next(at for at, row in enumerate(cells) if row[1] == "data")
    end = next(at for at, row in enumerate(cells) if at > start and row[0])
    assert "".join(row[2] for row in cells[start:end]) == folder


@pytest.fixture
def three_runs(store: FolderStore) -> FolderStore:
    finish(store, "folds", CROSSVAL_METRICS)
    finish(store, "one", TRAIN_METRICS)
    RunFolder(store, "two").put_bytes(CONFIG, b"epochs: 3\n")
    return store


def test_piped_list_has_plain_numbers(three_runs: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, three_runs, "list") == [
        ["run", "job", "status", "test accuracy", "finished", "seconds", "held-out accuracy", "problem"],
        ["folds", "crossval", "finished", "-", "2026-11-24T02:00:00Z", "62", "0.9223", "-"],
        ["one", "train", "finished", "0.9100", "2026-11-23T18:45:00Z", "3725", "-", "-"],
        ["two", "-", "unfinished", "-", "-", "-", "-", "-"],
    ]


def test_list_is_filtered_and_sorted(three_runs: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    finish(three_runs, "best", with_test(0.95, 0.94, 0.96))

    def listed(*arguments: str) -> list[str]:
        return [row[0] for row in printed(capsys, three_runs, "list", *arguments)[1:]]

    assert listed("--job", "train") == ["best", "one"]
    assert listed("--status", "unfinished") == ["two"]
    assert listed("--since", "2026-11-24") == ["folds"]
    # An hour east of Greenwich.
    assert listed("--since", "2026-11-24T03:00:00+01:00") == ["folds"]
    assert listed("--since", "2026-11-24T03:00:01+01:00") == []
    assert listed("--since", "100000d") == ["best", "folds", "one"]
    # Those without a test accuracy are last.
    assert listed("--sort", "test_accuracy") == ["best", "one", "folds", "two"]
    assert listed("--sort", "seconds") == ["best", "one", "folds", "two"]
    assert listed("--sort", "finished", "--job", "crossval") == ["folds"]
    assert listed("--sort", "status")[-1] == "two"


def test_list_as_json_has_every_field(three_runs: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "list", "--json", "--sort", "job", "--artifacts", three_runs.location]) == 0

    rows = json.loads(capsys.readouterr().out)
    assert [row["run_id"] for row in rows] == ["folds", "one", "two"]
    assert rows[0]["held_out_accuracy"] == 0.9223 and rows[1]["test_accuracy"] == 0.91 and rows[2]["job"] is None


@pytest.mark.parametrize("since", ["yesterday", "9" * 20 + "d", "2026-13-01", "-1d"])
def test_time_that_is_none_is_one_line(three_runs: FolderStore, since: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "list", f"--since={since}", "--artifacts", three_runs.location]) == 2

    error = capsys.readouterr().err
    assert f"found {since}, expected a UTC time" in error and len(error.splitlines()) == 1


def test_list_in_a_terminal_is_for_a_person(
    three_runs: FolderStore, capsys: pytest.CaptureFixture[str], terminal: None
) -> None:
    assert run_commands.list_runs(three_runs.location) == 0

    lines = [line for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines] == [
        ["folds", "crossval", "finished", "0.9223 (held out)", "2026-11-24T02:00:00Z", "62 s"],
        ["one", "train", "finished", "0.9100", "2026-11-23T18:45:00Z", "62 min"],
        ["two", "-", "unfinished", "-", "-", "-"],
    ]


def test_logs_prints_those_of_all_attempts_without_control_characters(
    store: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(store, "failed")
    run.put_bytes("logs/2026-11-24T00-00-00Z/driver.log", b"second\x1b[2K\n")
    run.put_bytes("logs/2026-11-23T00-00-00Z/driver.log", b"first\n")

    assert cli.main(["runs", "logs", "failed", "--artifacts", store.location]) == 0

    assert capsys.readouterr().out.splitlines() == [
        *("==> logs/2026-11-23T00-00-00Z/driver.log <==", "first"),
        *("==> logs/2026-11-24T00-00-00Z/driver.log <==", "second\\x1b[2K"),
    ]


def test_run_without_logs_verifies_and_says_that_it_has_none(
    store: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(store, "early", TRAIN_METRICS)

    assert cli.main(["runs", "verify", "early", "--artifacts", store.location]) == 0
    assert cli.main(["runs", "logs", "early", "--artifacts", store.location]) == 2
    assert "found no logs/" in capsys.readouterr().err
