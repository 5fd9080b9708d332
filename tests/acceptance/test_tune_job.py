"""Searches as their users start them: the study's space, a builder of their own, and everything that can go wrong."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from kills import Killer, Resumed, kill_and_resume, kill_driver

from fmnist import cli
from fmnist.distributed import spaces
from fmnist.errors import UserError
from fmnist.runs import RunFolder
from fmnist.storage import FolderStore, S3Store
from jobs import command, fmnist, without_waits

pytestmark = pytest.mark.usefixtures("ray_cluster")

ONE_TRIAL = ("--max-epochs", "1")


def settings(data: Path, artifacts: str, *more: str) -> list[str]:
    return [
        *("--data", str(data), "--artifacts", artifacts, "--run-id", "search"),
        *("--max-epochs", "4", "--factor", "4", "--retrain-epochs", "2", *more),
    ]


def trials(run: RunFolder) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(run.get_bytes("trials.csv")))


def killed_and_resumed(store: FolderStore | S3Store, data: Path) -> Resumed:
    """A search of the study's space whose driver is killed after its first trial."""
    return kill_and_resume(
        RunFolder(store, "search"),
        "tune",
        settings(data, store.location, "--limit", "600"),
        after=r"^trial \d+ finished after 4 epochs",
        task="SearchTrial",
        stored_in="state.json",
    )


@pytest.fixture(scope="module")
def searched(ray_cluster: str, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    return killed_and_resumed(FolderStore(tmp_path_factory.mktemp("artifacts")), small_data)


def test_run_folder_is_complete(searched: Resumed) -> None:
    run = searched.run

    assert run.verify() == []
    assert {path.split("/")[0] for path in run.files()} == {
        *("config.yaml", "environment.json", "data.json", "metrics.json", "history.csv", "predictions.csv"),
        *("model.keras", "README.md", "plots", "report.html", "checkpoints", "logs", "manifest.json"),
        *("trials.csv", "trials_history.csv", "best.yaml"),
    }
    assert {f"plots/{name}.png" for name in ("trial_curves", "parameters")} < set(run.files())
    metrics = run.get_json("metrics.json")
    assert metrics["job"] == "tune" and metrics["epochs"] == 2
    assert metrics["search"]["trials"] == 6 and metrics["search"]["failed"] == 0


def test_every_trial_is_in_the_table(searched: Resumed) -> None:
    run = searched.run
    table, metrics = trials(run), run.get_json("metrics.json")["search"]

    assert table["trial"].tolist() == list(range(1, 7))
    assert sorted(table["bracket"]) == [0] * 2 + [1] * 4
    assert set(table["status"]) <= {"finished", "stopped", "stopped early"}
    assert metrics["epochs"] == table["epochs"].sum() == 15
    assert metrics["val_accuracy"] == table["best_val_accuracy"].max()
    history = pd.read_csv(io.BytesIO(run.get_bytes("trials_history.csv")))
    assert history.groupby("trial")["val_accuracy"].max().tolist() == table["best_val_accuracy"].tolist()
    assert table["CONV_1_FILTER"].between(32, 64).all() and table["learning_rate"].between(1e-4, 1e-2).all()


def test_best_is_the_winner_of_the_table(searched: Resumed) -> None:
    run = searched.run
    settings = yaml.safe_load(run.get_bytes("best.yaml"))
    table = trials(run)
    winner = table.loc[table["best_val_accuracy"].idxmax()]

    assert settings["model"] == "notebook" and settings["epochs"] == 2
    assert not {"artifacts", "run_id", "learning_rate"} & set(settings)
    assert {name: winner[name] for name in settings["hyperparameters"]} == pytest.approx(settings["hyperparameters"])


@pytest.mark.slow
def test_best_is_what_was_trained_and_what_train_accepts(searched: Resumed, tmp_path: Path) -> None:
    run = searched.run
    best = tmp_path / "best.yaml"
    best.write_bytes(run.get_bytes("best.yaml"))
    arguments = ["--config", str(best), "--artifacts", str(tmp_path), "--run-id", "again"]
    with fmnist("train", *arguments) as job:
        assert job.wait() == 0, job.output
    again = RunFolder(FolderStore(tmp_path), "again").get_json("metrics.json")
    for part in ("train", "val", "test"):
        assert again[part]["loss"] == pytest.approx(run.get_json("metrics.json")[part]["loss"], rel=1e-4)


def test_run_is_shown_with_its_search(searched: Resumed) -> None:
    run = searched.run

    shown = command("runs", "show", "search", "--artifacts", run.store.location).stdout

    values = dict(re.findall(r"^  search\.(\w+) +(\S+)$", shown, re.M))
    assert (values["trials"], values["failed"], values["epochs"]) == ("6", "0", "15")
    assert values["winner"].isdigit() and values["val_accuracy"].startswith("0.")


def test_output_without_a_terminal_is_a_few_plain_lines(searched: Resumed) -> None:
    lines = without_waits(searched.lines)

    assert len(lines) < 40, lines
    assert not any("\x1b" in line or "ray" in line.lower().replace("array", "") for line in lines[4:]), lines
    assert lines[-1].startswith("finished in")


def test_best_with_a_value_outside_the_space_is_one_line(
    searched: Resumed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(searched.run.get_bytes("best.yaml"))
    settings["hyperparameters"]["KERNEL_1_FILTER"] = 4
    best = tmp_path / "best.yaml"
    best.write_text(yaml.safe_dump(settings))

    assert cli.main(["train", "--config", str(best), "--artifacts", str(tmp_path)]) == 2

    assert capsys.readouterr().err.strip() == "fmnist: hyper-parameter 'KERNEL_1_FILTER': found 4, expected one of 3, 5"
    assert [path.name for path in tmp_path.iterdir()] == ["best.yaml"]


@pytest.mark.slow
def test_failing_trials_of_a_users_builder_are_named_and_the_search_goes_on(small_data: Path, tmp_path: Path) -> None:
    arguments = settings(small_data, str(tmp_path), "--space", "builders:failing_wide", "--limit", "400")
    # Few trials: after each failure there is a new process, which imports TensorFlow.
    arguments += ["--scheduler", "asha", "--max-epochs", "3", "--factor", "3", "--max-failures", "0"]
    with fmnist("tune", *arguments) as job:
        assert job.wait() == 0, job.output

    table = trials(RunFolder(FolderStore(tmp_path), "search"))
    failed = table[table["status"] == "failed"]
    assert 0 < len(failed) < len(table)
    assert (failed["units"] > 16).all() and (table.drop(failed.index)["units"] <= 16).all()
    assert failed["error"].tolist() == [f"NoRoomError: no room for {units} units" for units in failed["units"]]


@pytest.mark.slow
def test_search_in_which_all_failed_says_why(small_data: Path, tmp_path: Path) -> None:
    arguments = settings(small_data, str(tmp_path), "--space", "builders:failing", "--limit", "400")
    arguments += [*ONE_TRIAL, "--max-failures", "0"]
    ended = command("tune", *arguments)

    assert ended.returncode == 1
    assert ended.stderr.strip() == (
        "fmnist: run search: every trial failed, 1 in all; trials.csv has the reasons; "
        "trial 1: RuntimeError: this builder is broken"
    )
    run = RunFolder(FolderStore(tmp_path), "search")
    assert run.state() == "unfinished"
    assert set(trials(run)["status"]) == {"failed"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--space", "notbook"],
            "tune: space: found notbook, expected one of notebook, extended, fast, or module:function",
        ),
        (["--factor", "1"], "tune: factor: found 1, expected a whole number of 2 or more"),
        pytest.param(
            ["--space", "builders:without_hyperparameters"],
            "builders:without_hyperparameters: found no hyper-parameter",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_wrong_settings_are_one_line_and_leave_nothing(
    small_data: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tune", "--data", str(small_data), "--artifacts", str(tmp_path), *arguments]) == 2

    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"fmnist: {message}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("builders:regression", "model 'sequential"),
        ("builders:not_to_be_loaded", "builders:not_to_be_loaded: its model cannot be saved and loaded"),
        ("nowhere:build", "nowhere:build: cannot import nowhere, expected a module in the current"),
    ],
)
def test_space_that_cannot_be_searched_is_refused(space: str, message: str) -> None:
    """In this process: the job does the same in one of its own, which imports TensorFlow each time."""
    try:
        point, file = spaces._Builder(space, 0).first(None)
        problem = point.problem or spaces._load_problem(space, file)
    except UserError as error:
        problem = str(error)

    assert problem and problem.startswith(message) and "\n" not in problem


# The failing trials above are of a user's builder, the killed driver below has its run on S3.
@pytest.mark.slow
def test_builder_of_a_user_is_searched_and_survives_a_killed_trial(small_data: Path, s3_bucket: str) -> None:
    arguments = settings(small_data, f"s3://{s3_bucket}/runs", "--space", "builders:tiny", "--limit", "400")
    with Killer("SearchTrial.train", 1, lambda killed: True) as killer, fmnist("tune", *arguments, *ONE_TRIAL) as job:
        assert job.wait() == 0, job.output

    run = RunFolder(S3Store(s3_bucket, "runs"), "search")
    assert killer.killed == 1
    assert run.verify() == []
    assert trials(run)[["status", "epochs"]].values.tolist() == [["finished", 1]]


def test_killed_driver_costs_no_finished_epoch(searched: Resumed) -> None:
    run = searched.run

    assert 0 < sum(len(rows) == 4 for rows in searched.before.values()) < 3
    assert run.verify() == []
    # An epoch that had been trained again would have taken another time.
    history = pd.read_csv(io.BytesIO(run.get_bytes("trials_history.csv"))).set_index(["trial", "epoch"])
    for trial, rows in searched.before.items():
        for row in rows:
            assert history.loc[(trial, row["epoch"]), "seconds"] == row["seconds"]


# tests/integration/workflows/train/test_faults.py compares with a run that nothing happened to.
@pytest.mark.slow
def test_killed_driver_changes_no_number(small_data: Path, s3_bucket: str, tmp_path: Path) -> None:
    killed = killed_and_resumed(S3Store(s3_bucket, "runs"), small_data).run
    with fmnist("tune", *settings(small_data, str(tmp_path), "--limit", "600")) as job:
        assert job.wait() == 0, job.output

    assert killed.verify() == []
    undisturbed = trials(RunFolder(FolderStore(tmp_path), "search")).drop(columns="seconds")
    pd.testing.assert_frame_equal(trials(killed).drop(columns="seconds"), undisturbed)


# tests/unit/workflows/tune/test_sampler.py has the law; this is the same through Ray Tune, for a builder of a user.
@pytest.mark.slow
def test_killed_search_by_tpe_draws_the_same_points_again(small_data: Path, tmp_path: Path) -> None:
    def arguments(artifacts: str) -> list[str]:
        sampled = ("--sampler", "tpe", "--prefer-small", "--space", "builders:tiny", "--limit", "400")
        small = ("--max-epochs", "2", "--factor", "2", "--iterations", "4", "--retrain-epochs", "1")
        return [*settings(small_data, str(tmp_path / artifacts)), *sampled, *small]

    with fmnist("tune", *arguments("undisturbed")) as job:
        assert job.wait() == 0, job.output
    with fmnist("tune", *arguments("killed")) as job:
        job.wait_for(r"^trial 12 ")
        kill_driver(job, "SearchTrial")
    with fmnist("tune", *arguments("killed")) as job:
        assert job.wait() == 0, job.output

    undisturbed, killed = (
        trials(RunFolder(FolderStore(tmp_path / name), "search")) for name in ("undisturbed", "killed")
    )
    columns = [name for name in undisturbed.columns if name != "seconds"]
    pd.testing.assert_frame_equal(killed[columns], undisturbed[columns])
    assert len(undisturbed) == 16
    assert not undisturbed.duplicated(
        list(undisturbed.columns[undisturbed.columns.get_loc("model_parameters") + 1 :])
    ).any()
