"""A whole life of a run, as its user lives it: submit, list, verify, pull, evaluate, predict."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image
from ray_head import RAY, Head, running_head

from fmnist import cli
from fmnist.data import CLASS_NAMES, load
from jobs import LIMIT, REPOSITORY, command, fmnist

pytestmark = pytest.mark.usefixtures("ray_cluster")

TOKEN = os.environ["RAY_AUTH_TOKEN"]
# Of the head, and of whoever submits to it.
SECRETS = {"AWS_SECRET_ACCESS_KEY": "marker-secret", "HF_TOKEN": "marker-hub", "MLFLOW_TRACKING_TOKEN": "marker-mlflow"}


@pytest.fixture(scope="module")
def submitted_and_listed(
    small_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[Path, str], list[dict[str, Any]]]:
    """As `submitted`, and what the head tells of its jobs."""
    artifacts = tmp_path_factory.mktemp("artifacts")
    with running_head(SECRETS, dashboard=True) as head:
        ended = submit(head, small_data, artifacts)
        with urlopen(Request(f"{head.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {TOKEN}"})) as answer:
            listed = json.load(answer)
    output = ended.stdout + ended.stderr
    assert ended.returncode == 0, output
    return (artifacts, output), listed


@pytest.fixture(scope="module")
def submitted(submitted_and_listed: tuple[tuple[Path, str], list[dict[str, Any]]]) -> tuple[Path, str]:
    """Artifacts and output of a run that was given to a head by ``ray job submit``."""
    return submitted_and_listed[0]


def submit(head: Head, data: Path, artifacts: Path) -> subprocess.CompletedProcess[str]:
    began = time.monotonic()
    while True:
        ended = subprocess.run(
            [
                *(RAY, "job", "submit", f"--address={head.dashboard}", "--working-dir", "."),
                *("--", sys.executable, "jobs/train.py", "--data", str(data), "--artifacts", str(artifacts)),
                *("--run-id", "submitted", "--epochs", "3", "--batch-size", "32", "--cpus-per-worker", "1"),
            ],
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            # The token, but not the address: the head tells the job where it is.
            env={**os.environ, **SECRETS, "RAY_ADDRESS": ""},
            timeout=LIMIT,
        )
        # A head says that it has started before it has all that it takes to start jobs.
        if "No available agent" not in ended.stdout + ended.stderr or time.monotonic() > began + 240:
            return ended


@pytest.fixture(scope="module")
def overwritten(
    ray_cluster: str, submitted: tuple[Path, str], small_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """The submitted run in other artifacts, where the 1998 model took its place; the settings that it took it with."""
    artifacts = tmp_path_factory.mktemp("overwritten")
    shutil.copytree(submitted[0] / "submitted", artifacts / "submitted")
    arguments = [
        *("--artifacts", str(artifacts), "--run-id", "submitted", "--model", "lenet5-1998", "--seed", "5"),
        *("--epochs", "8", "--batch-size", "16", "--patience", "0", "--workers", "2", "--cpus-per-worker", "1"),
    ]
    with fmnist("train", *arguments, "--data", str(small_data), "--overwrite") as job:
        assert job.wait() == 0, job.output
    return artifacts, arguments


def test_submitted_job_succeeds_and_shows_its_epochs(submitted: tuple[Path, str]) -> None:
    _, output = submitted

    assert "succeeded" in output
    assert [int(epoch) for epoch in re.findall(r"^epoch (\d)/3", output, re.MULTILINE)] == [1, 2, 3]
    assert "nodes, joined" in output


def test_head_tells_no_secret_of_a_submitted_job(
    submitted_and_listed: tuple[tuple[Path, str], list[dict[str, Any]]],
) -> None:
    (_, output), listed = submitted_and_listed

    assert any("jobs/train.py" in str(job.get("entrypoint")) for job in listed), listed
    assert not any(secret in f"{listed} {output}" for secret in (*SECRETS.values(), TOKEN))


def test_run_folder_is_complete(submitted: tuple[Path, str]) -> None:
    folder = submitted[0] / "submitted"

    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("config.yaml", "environment.json", "data.json", "metrics.json", "history.csv", "predictions.csv"),
        *("model.keras", "README.md", "plots", "report.html", "checkpoints", "logs", "manifest.json"),
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["epochs"] == 3 and metrics["parameters"] == 504_342 and metrics["seed"] == 0
    assert metrics["test"]["accuracy"] > 0.5


def test_logs_of_driver_and_workers_are_in_the_run_folder(submitted: tuple[Path, str]) -> None:
    (folder,) = (submitted[0] / "submitted" / "logs").iterdir()

    driver = (folder / "driver.log").read_text()
    assert [int(epoch) for epoch in re.findall(r"Z epoch (\d)/3", driver)] == [1, 2, 3]
    assert "test accuracy" in driver.splitlines()[-1]
    assert re.search(r"^\S+Z \(RayTrainWorker pid=\d+, ip=\S+\) ", (folder / "workers.log").read_text(), re.MULTILINE)
    secrets = [value for name, value in os.environ.items() if name in ("RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY")]
    assert not any(secret in path.read_text() for path in folder.iterdir() for secret in secrets)
    assert "epoch 3/3" in command("runs", "logs", "submitted", "--artifacts", str(submitted[0])).stdout


def test_run_is_listed_shown_and_verified(submitted: tuple[Path, str]) -> None:
    artifacts = str(submitted[0])

    assert re.search(
        r"^submitted\ttrain\tfinished\t0\.\d{4}\t", command("runs", "list", "--artifacts", artifacts).stdout, re.M
    )
    assert "epochs: 3" in command("runs", "show", "submitted", "--artifacts", artifacts).stdout
    verified = command("runs", "verify", "submitted", "--artifacts", artifacts)
    assert verified.returncode == 0 and "files intact" in verified.stdout


def test_flipped_byte_is_found_in_a_pulled_run(submitted: tuple[Path, str], tmp_path: Path) -> None:
    pulled = command("runs", "pull", "submitted", "--artifacts", str(submitted[0]), "--to", str(tmp_path))
    assert pulled.returncode == 0, pulled.stderr
    assert command("runs", "verify", "submitted", "--artifacts", str(tmp_path)).returncode == 0

    model = tmp_path / "submitted" / "model.keras"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)

    verified = command("runs", "verify", "submitted", "--artifacts", str(tmp_path))
    assert verified.returncode == 1
    assert "damaged: model.keras: sha256" in verified.stdout


def test_evaluate_reproduces_the_test_accuracy(submitted: tuple[Path, str]) -> None:
    metrics = json.loads((submitted[0] / "submitted" / "metrics.json").read_text())

    ended = command("evaluate", "--run", "submitted", "--artifacts", str(submitted[0]), "--json", "--mirrored")

    assert ended.returncode == 0, ended.stderr
    measured = json.loads(ended.stdout)
    assert 0.1 < measured["mirrored_accuracy"] <= 1
    assert measured["accuracy"] == pytest.approx(metrics["test"]["accuracy"], abs=1e-6)
    assert measured["confusion_matrix"] == metrics["test"]["confusion_matrix"]


# tests/unit/runs/test_reproduction.py compares; the run trained again is a train job like any other.
@pytest.mark.slow
def test_run_is_reproduced_to_the_last_digit(submitted: tuple[Path, str], small_data: Path, tmp_path: Path) -> None:
    shutil.copytree(submitted[0] / "submitted", tmp_path / "submitted")

    ended = command("runs", "reproduce", "submitted", "--artifacts", str(tmp_path))

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "nothing differs here" in ended.stdout
    assert "reproduces run submitted: 3 epochs and all scores equal to the last digit" in ended.stdout
    # What was trained is compared again, not trained again.
    history = tmp_path / "submitted" / "history.csv"
    lines = history.read_text().splitlines()
    history.write_text("\n".join([*lines[:2], re.sub(r",0\.\d+,", ",0.5,", lines[2], count=1), lines[3], ""]))
    ended = command("runs", "reproduce", "submitted", "--artifacts", str(tmp_path))
    assert ended.returncode == 1 and "first in epoch 2 of history.csv" in ended.stdout, ended.stdout + ended.stderr


def test_predict_reads_pictures_of_any_kind(submitted: tuple[Path, str], small_data: Path, tmp_path: Path) -> None:
    images = load(str(small_data), cache=tmp_path).test
    trouser = images.pixels[int(np.flatnonzero(images.labels == 1)[0])]
    Image.fromarray(trouser).resize((200, 200)).save(tmp_path / "dark.png")
    Image.fromarray(255 - trouser).convert("RGB").resize((300, 300)).save(tmp_path / "light.jpg")
    np.save(tmp_path / "raw.npy", trouser)
    pictures = [str(tmp_path / name) for name in ("dark.png", "light.jpg", "raw.npy")]

    ended = command("predict", "--run", "submitted", "--artifacts", str(submitted[0]), "--json", *pictures)

    assert ended.returncode == 0, ended.stderr
    predictions = json.loads(ended.stdout)["predictions"]
    assert [p["background"] for p in predictions] == ["dark", "light", "dark"]
    for prediction in predictions:
        assert prediction["class"] == "Trouser"
        assert list(prediction["probabilities"]) == list(CLASS_NAMES)
        assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_finished_run_is_kept_unless_another_can_overwrite_it(
    overwritten: tuple[Path, list[str]], small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifacts, arguments = overwritten

    assert cli.main(["train", *arguments, "--data", str(small_data)]) == 2
    error = capsys.readouterr().err
    assert "run submitted" in error and "finished already" in error and "--overwrite" in error
    assert cli.main(["train", *arguments, "--data", str(tmp_path / "nowhere"), "--overwrite"]) == 2

    assert json.loads((artifacts / "submitted" / "metrics.json").read_text())["seed"] == 5
    assert command("runs", "verify", "submitted", "--artifacts", str(artifacts)).returncode == 0


# The engine's tests have the line.
@pytest.mark.slow
def test_loss_that_is_not_finite_ends_the_run_with_a_line(tiny_data: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(tiny_data), "--artifacts", str(tmp_path), "--run-id", "wild"]
    with fmnist("train", *arguments, "--learning-rate", "1e30", "--epochs", "2") as job:
        assert job.wait() == 1

    assert re.search(r"fmnist: run wild: epoch 1, step \d+ of \d+: the loss is (nan|inf)", job.output), job.output
    assert "Traceback" not in job.output
    assert not (tmp_path / "wild" / "manifest.json").exists()


@pytest.mark.slow
def test_good_epochs_of_a_training_that_diverged_later_become_a_run(tiny_data: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(tiny_data), "--artifacts", str(tmp_path), "--run-id", "late", "--batch-size", "16"]
    arguments += ["--model", "builders:exploding"]
    with fmnist("train", *arguments, "--epochs", "50") as job:
        assert job.wait() == 1
    (epochs,) = re.findall(r"with this --run-id and --epochs (\d+) finishes the run", job.output)

    with fmnist("train", *arguments, "--epochs", epochs) as job:
        assert job.wait() == 0, job.output

    metrics = json.loads((tmp_path / "late" / "metrics.json").read_text())
    assert metrics["epochs"] == int(epochs) and not metrics["stopped_early"]


def test_1998_model_learns_with_two_workers(overwritten: tuple[Path, list[str]]) -> None:
    metrics = json.loads((overwritten[0] / "submitted" / "metrics.json").read_text())
    assert metrics["parameters"] == 60_000 and metrics["workers"] == 2
    assert metrics["test"]["accuracy"] > 0.6


# The pipeline's tests interrupt a training, too.
@pytest.mark.slow
def test_control_c_ends_a_training_with_a_line_and_its_run_can_go_on(small_data: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(small_data), "--artifacts", str(tmp_path), "--run-id", "interrupted", "--patience", "0"]
    with fmnist("train", *arguments, "--epochs", "200") as job:
        job.wait_for(r"^epoch +1/")
        job.process.send_signal(signal.SIGINT)
        assert job.wait() == 130, job.output

    assert job.lines[-1] == "fmnist: interrupted" and "Traceback" not in job.output
    assert (
        command("runs", "list", "--artifacts", str(tmp_path)).stdout.splitlines()[1].startswith("interrupted\t-\tunf")
    )
