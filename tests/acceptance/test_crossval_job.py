"""Cross-validations as their users start them, killed on the way, and with everything that can go wrong."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from kills import Resumed, kill_and_resume
from tracked_runs import sent_epochs

from fmnist import cli
from fmnist.runs import RunFolder
from fmnist.storage import FolderStore, S3Store
from jobs import REPOSITORY, command, fmnist, without_waits

pytestmark = pytest.mark.usefixtures("ray_cluster")

FILES = {
    *("config.yaml", "environment.json", "data.json", "metrics.json", "history.csv", "predictions.csv", "folds.csv"),
    *("plots", "report.html", "logs", "manifest.json"),
}


def settings(data: Path, artifacts: str, *more: str) -> list[str]:
    return [
        *("--data", str(data), "--artifacts", artifacts, "--run-id", "folds", "--folds", "4", "--epochs", "3"),
        *("--limit", "800", "--batch-size", "16", "--track", "tensorboard", *more),
    ]


def folds(run: RunFolder) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(run.get_bytes("folds.csv")))


def killed_and_resumed(store: FolderStore | S3Store, data: Path) -> Resumed:
    """A cross-validation whose driver is killed after its first fold."""
    return kill_and_resume(
        RunFolder(store, "folds"),
        "crossval",
        settings(data, store.location),
        after=r"^fold \d ended",
        task="train_folds",
        stored_in="outcome.json",
        more=("--concurrency", "1"),
    )


@pytest.fixture(scope="module")
def validated(ray_cluster: str, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    return killed_and_resumed(FolderStore(tmp_path_factory.mktemp("artifacts")), small_data)


def test_run_folder_is_complete(validated: Resumed) -> None:
    run = validated.run
    metrics = run.get_json("metrics.json")

    assert run.verify() == []
    assert {path.split("/")[0] for path in run.files()} == FILES
    assert metrics["job"] == "crossval" and metrics["folds"] == 4 and metrics["carried"] is None
    assert "test" not in metrics
    held_out = metrics["held_out"]
    assert held_out["accuracy_low"] < held_out["accuracy"] < held_out["accuracy_high"]
    assert held_out["accuracy"] == pytest.approx(folds(run)["held_out_accuracy"].mean())


def test_output_without_a_terminal_is_a_few_plain_lines(validated: Resumed) -> None:
    lines = validated.lines

    assert lines[0].startswith("taking over the run from process ") and lines[1].startswith("run folds in ")
    assert "800 images in 4 folds; in fold 1 540 to train on, 60 to stop by, 200 held out" in lines[2]
    assert sum(" ended after " in line for line in lines) == 4 - len(validated.before)
    assert lines[-2].startswith("held-out accuracy 0.") and lines[-1].startswith("finished in ")
    assert not any("\x1b" in line or "Traceback" in line for line in lines)
    assert len(without_waits(lines)) < 15, lines


def test_run_is_shown_with_its_mean_and_has_no_model_to_use(
    validated: Resumed, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--artifacts", validated.run.store.location]

    shown = command("runs", "show", "folds", *store)
    assert re.search(r"^  held_out\.accuracy +0\.\d{4}$", shown.stdout, re.MULTILINE), shown.stdout
    assert re.search(r"^  folds +4$", shown.stdout, re.MULTILINE), shown.stdout
    for arguments in (["evaluate"], ["predict", str(REPOSITORY / "docs/report.png")]):
        assert cli.main([*arguments, "--run", "folds", *store]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.endswith("/folds: a crossval run has no model.keras, expected one of train, tune or transfer")


def test_killed_driver_costs_no_fold_that_has_ended(validated: Resumed) -> None:
    ended = len(validated.before)

    assert 0 < ended < 4
    assert any(line == f"resumed: {ended} of 4 folds were there already" for line in validated.lines), validated.lines
    found = folds(validated.run).set_index("fold")
    # A fold that had been trained again would have taken another time.
    for fold, rows in validated.before.items():
        assert found["seconds"][fold] == pytest.approx(sum(row["seconds"] for row in rows))


def test_each_epoch_of_a_fold_is_tracked_once_though_the_driver_was_killed(validated: Resumed) -> None:
    trained = folds(validated.run).set_index("fold")["epochs"]

    assert sent_epochs(validated.run.store, "folds") == {
        "": [],
        **{f"fold-fresh-{fold:04d}": list(range(1, epochs + 1)) for fold, epochs in trained.items()},
    }


@pytest.mark.slow
def test_run_is_reproduced_to_the_last_digit(validated: Resumed) -> None:
    ended = command("runs", "reproduce", "folds", "--artifacts", validated.run.store.location)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-1].startswith("run folds-reproduced reproduces run folds: ")


# tests/integration/workflows/train/test_faults.py compares with a run that nothing happened to.
@pytest.mark.slow
def test_killed_driver_changes_no_number(small_data: Path, s3_bucket: str, tmp_path: Path) -> None:
    killed = killed_and_resumed(S3Store(s3_bucket, "runs"), small_data).run
    with fmnist("crossval", *settings(small_data, str(tmp_path))) as job:
        assert job.wait() == 0, job.output

    assert killed.verify() == [] and {path.split("/")[0] for path in killed.files()} == FILES
    undisturbed = folds(RunFolder(FolderStore(tmp_path), "folds")).drop(columns="seconds")
    pd.testing.assert_frame_equal(folds(killed).drop(columns="seconds"), undisturbed, check_exact=True)


def test_held_out_predictions_cover_every_image_once(validated: Resumed) -> None:
    predictions = pd.read_csv(io.BytesIO(validated.run.get_bytes("predictions.csv")))
    metrics = validated.run.get_json("metrics.json")

    assert predictions["index"].tolist() == list(range(800))
    assert predictions["fold"].value_counts().to_dict() == {1: 200, 2: 200, 3: 200, 4: 200}
    right = (predictions["label"] == predictions["predicted"]).groupby(predictions["fold"]).mean()
    assert right.tolist() == pytest.approx(folds(validated.run)["held_out_accuracy"].tolist())
    assert metrics["held_out"]["accuracy"] == pytest.approx(right.mean())
    assert sum(map(sum, metrics["held_out"]["confusion_matrix"])) == 800


# The tests of a search and of a pool of tasks have one that diverges, too.
@pytest.mark.slow
def test_fold_that_diverges_is_measured_with_its_good_epochs_and_marked(small_data: Path, tmp_path: Path) -> None:
    arguments = settings(small_data, str(tmp_path), "--model", "builders:exploding", "--epochs", "4")
    with fmnist("crossval", *arguments) as job:
        assert job.wait() == 0, job.output

    table = folds(RunFolder(FolderStore(tmp_path), "folds"))
    assert table["epochs"].lt(4).all() and table["epochs"].ge(1).all()
    assert table["diverged"].str.contains("the loss is").all()
    assert "4 folds diverged, measured with the epochs before that; see folds.csv" in job.output


@pytest.mark.parametrize("search", ["tune-notebook", "tune-extended"])
def test_best_of_a_search_is_taken_as_it_is(search: str, capsys: pytest.CaptureFixture[str]) -> None:
    best = REPOSITORY / "docs/results" / search / "best.yaml"
    found = yaml.safe_load(best.read_text())

    assert cli.main(["crossval", "--config", str(best), "--folds", "5", "--print-config"]) == 0

    config = yaml.safe_load(capsys.readouterr().out)

    assert config["folds"] == 5
    assert {name: config[name] for name in found} == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--folds", "1"], "crossval: folds: found 1, expected a whole number of 2 or more"),
        (["--concurrency", "0"], "crossval: concurrency: found 0, expected a whole number of 1 or more or auto"),
    ],
)
def test_wrong_settings_are_one_line_and_leave_nothing(
    small_data: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["crossval", *settings(small_data, str(tmp_path)), *arguments]) == 2

    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"fmnist: {message}")
    assert list(tmp_path.iterdir()) == []
