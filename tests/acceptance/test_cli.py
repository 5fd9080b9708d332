"""The command line: its messages for wrong input, and what it never imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fmnist import cli
from fmnist.workflows.train.config import TrainConfig
from jobs import LIMIT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "fmnist", *arguments], capture_output=True, text=True, timeout=LIMIT)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, fmnist.cli; fmnist.cli.main(['--help']); print(sorted(set(sys.modules) & {'numpy', 'ray', 'keras', 'tensorflow', 'pandas', 'jsonargparse', 'boto3'}))"  # noqa: E501
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.splitlines()[-1] == "[]"
    for command in cli.COMMANDS:
        assert command in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "/no/such/folder", "--artifacts", "unused"], "/no/such/folder: no such file or folder"),
        (["pipeline", "--data", "/no/such/folder", "--artifacts", "unused"], "/no/such/folder: no such file or folder"),
        (["train", "--artifacts", "file"], "file: cannot be written"),
        (["train", "--artifacts", "unused", "--run-id", "a/b"], "a/b"),
    ],
)
def test_data_store_and_run_id_are_checked_before_anything_heavy_is_imported(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    heavy = {"ray", "keras", "tensorflow"}
    code = f"import sys; from fmnist import cli; print(cli.main({arguments}), sorted(set(sys.modules) & {heavy}))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)

    assert ended.stdout == "2 []\n", ended.stderr
    assert message in ended.stderr and len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--epochs", "0"], "fmnist: train: epochs: found 0, expected a whole number of 1 or more"),
        (["train", "--epochs", "many"], "fmnist: train: epochs: found many, expected a whole number of 1 or more"),
        (["train", "--model", "lenet6"], "fmnist: train: model: found lenet6, expected one of lenet5, lenet5-1998"),
        (["train", "--val-fraction", "1"], "fmnist: train: val_fraction: found 1, expected a number between 0 and 1"),
        (["train", "--epoch", "3"], "fmnist: train: "),
        (["train", "--cpus-per-worker", "all"], "cpus_per_worker: found all, expected a number above 0 or auto"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (
            ["trian"],
            "fmnist: 'trian' is not a command, expected one of crossval, pipeline, train, transfer, tune, evaluate, "
            "predict, export, runs, audit, data, weights",
        ),
        (["train", "--run-id", "a/b", "--artifacts", "unused"], "a/b"),
        (["train", "--seed", "20261127170000"], "seed: found 20261127170000, expected "),
        (["evaluate"], "fmnist: evaluate: the following arguments are required: --run"),
        (["runs", "show", "none", "--artifacts", "unused"], "none"),
        (["predict", "--run", "none", "no-such-picture.png"], "no-such-picture.png"),
        (["data", "info", "--data", "/no/such/folder"], "/no/such/folder"),
        (["train", "--data", "/no/such/folder", "--artifacts", "unused"], "/no/such/folder"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code = cli.main(arguments)

    error = capsys.readouterr().err
    assert code == 2, error
    assert message in error
    assert len(error.splitlines()) == 1, error
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_process_with_wrong_input_ends_with_exit_code_2() -> None:
    ended = run("train", "--epochs", "0")

    assert ended.returncode == 2
    assert ended.stderr == "fmnist: train: epochs: found 0, expected a whole number of 1 or more\n"


def test_wrong_value_in_a_file_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "job.yaml"
    config.write_text("batch_size: sixty-four\n")

    assert cli.main(["train", "--config", str(config)]) == 2

    error = capsys.readouterr().err
    assert "batch_size: found sixty-four, expected a whole number of 1 or more" in error
    assert str(config) in error


def test_unknown_setting_in_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "job.yaml"
    config.write_text("batchsize: 64\n")

    assert cli.main(["train", "--config", str(config)]) == 2

    error = capsys.readouterr().err
    assert "batchsize" in error and str(config) in error


def test_printed_config_is_the_defaults_and_reads_back(tmp_path: Path) -> None:
    printed = run("train", "--print-config").stdout
    assert yaml.safe_load(printed) == yaml.safe_load(yaml.safe_dump(vars(TrainConfig())))

    config = tmp_path / "job.yaml"
    config.write_text(printed)
    again = yaml.safe_load(run("train", "--config", str(config), "--epochs", "7", "--print-config").stdout)
    assert again == {**yaml.safe_load(printed), "epochs": 7}


def test_job_file_takes_the_same_flags(tmp_path: Path) -> None:
    repository = Path(cli.__file__).parents[1]
    ended = subprocess.run(
        [sys.executable, str(repository / "jobs" / "train.py"), "--batch-size", "32", "--print-config"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert ended.returncode == 0, ended.stderr
    assert yaml.safe_load(ended.stdout)["batch_size"] == 32


def test_every_setting_is_explained_in_help() -> None:
    text = run("train", "--help").stdout

    for name in vars(TrainConfig()):
        assert f"--{name.replace('_', '-')}" in text
    assert "Images per step, over all workers together." in text
