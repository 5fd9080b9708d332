"""Transfer learning as its users start it: with real weights, killed while it runs, and with wrong settings."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from hed_weights import write_vgg16_weights
from kills import kill_driver

from fmnist import cli
from fmnist.runs import RunFolder
from fmnist.runs.results import read_metrics
from fmnist.storage import FolderStore, S3Store
from fmnist.workflows.transfer.results import TransferMetrics
from jobs import Job, command, fmnist, leaving_ray

pytestmark = pytest.mark.usefixtures("ray_cluster")

FILES = {
    *("config.yaml", "environment.json", "data.json", "metrics.json", "history.csv", "predictions.csv"),
    *("candidates.csv", "model.keras", "README.md", "plots", "report.html", "logs", "manifest.json"),
}


def settings(data: Path, artifacts: str, *more: str) -> list[str]:
    return [
        *("--data", str(data), "--artifacts", artifacts, "--run-id", "vgg", "--backbone", "vgg16", "--epochs", "4"),
        *("--image-size", "32", "--images-per-shard", "400", *more),
    ]


def history(run: RunFolder) -> pd.DataFrame:
    table = pd.read_csv(io.BytesIO(run.get_bytes("history.csv")))
    return table.drop(columns=["seconds", "images_per_second"])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG16's convolutions, pretrained on ImageNet and fine-tuned to detect edges: real, but not the published ones."""
    return write_vgg16_weights(tmp_path_factory.mktemp("weights") / "vgg16.weights.h5")


@pytest.fixture(scope="module")
def trained(
    ray_cluster: str, small_data: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunFolder, list[str]]:
    """A finished run on 1,600 images, and what it printed."""
    artifacts = tmp_path_factory.mktemp("artifacts")
    arguments = settings(small_data, str(artifacts), "--weights", str(weights))
    with Job(sys.executable, "jobs/transfer.py", *arguments) as job:
        assert job.wait() == 0, job.output
    return RunFolder(FolderStore(artifacts), "vgg"), job.lines


def test_run_folder_is_complete_and_says_which_weights_it_used(
    trained: tuple[RunFolder, list[str]], weights: Path
) -> None:
    run, _ = trained
    metrics = run.get_json("metrics.json")

    assert run.verify() == []
    assert {path.split("/")[0] for path in run.files()} == FILES
    assert read_metrics(run, TransferMetrics).weights["vgg16"].source == str(weights)
    assert metrics["job"] == "transfer" and metrics["model"] == "vgg16" and metrics["recipe"] == "sound"
    assert metrics["weights"]["vgg16"]["published"] is False
    assert len(metrics["weights"]["vgg16"]["sha256"]) == 64
    sound, notebook = (
        next(one for one in metrics["diagnoses"] if one["recipe"] == name) for name in ("sound", "notebook")
    )
    assert sound["high"] > 100 and notebook["high"] == pytest.approx(1)
    assert sound["separability"] > notebook["separability"] + 0.2


def test_pretrained_features_beat_what_so_few_images_teach_a_new_network(trained: tuple[RunFolder, list[str]]) -> None:
    run, _ = trained

    # 1,280 training images, four epochs of the head. Chance is .1, fresh weights of the same network give about .6.
    assert run.get_json("metrics.json")["test"]["accuracy"] > 0.75


def test_output_without_a_terminal_is_a_few_plain_lines(trained: tuple[RunFolder, list[str]]) -> None:
    _, lines = trained

    assert lines[0].startswith("run vgg in ")
    assert any(line.startswith("VGG16, frozen: 2,048 features an image of 32 pixels a side") for line in lines)
    assert sum(line.startswith("epoch ") for line in lines) == 4
    assert lines[-2].startswith("best by validation: vgg16, frozen: test accuracy 0.")
    assert lines[-1].startswith("finished in ")
    assert not any("\x1b" in line or "Traceback" in line for line in lines)
    assert len(lines) < 18, lines


def test_the_saved_model_reproduces_what_the_run_recorded(trained: tuple[RunFolder, list[str]]) -> None:
    run, _ = trained
    store = ["--artifacts", run.store.location]

    evaluated = command("evaluate", "--run", "vgg", "--json", *store)
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)["accuracy"] == pytest.approx(run.get_json("metrics.json")["test"]["accuracy"])
    shown = command("runs", "show", "vgg", *store).stdout.splitlines()
    assert any(line.split()[:1] == ["test.accuracy"] for line in shown)
    assert any("backbone vgg16, phase frozen, " in line and "test.accuracy 0." in line for line in shown)


@pytest.mark.slow
def test_killed_driver_costs_no_shard_and_at_most_one_epoch(tiny_data: Path, weights: Path, s3_bucket: str) -> None:
    stage = ["weights", "fetch", "--backbone", "vgg16", "--from", str(weights), "--to", f"s3://{s3_bucket}/w"]
    assert cli.main(stage) == 0
    # Many small steps, so that an epoch does not end before it is killed.
    more = ["--weights", f"s3://{s3_bucket}/w", "--batch-size", "1", "--images-per-shard", "100"]
    arguments = settings(tiny_data, f"s3://{s3_bucket}/runs", *more)
    run = RunFolder(S3Store(s3_bucket, "runs"), "vgg")
    with fmnist("transfer", *arguments) as job:
        job.wait_for(r"^epoch 2/4")
        kill_driver(job, "RayTrainWorker")
    assert run.state() == "unfinished"

    with leaving_ray("transfer", *arguments) as job:
        assert job.wait() == 0, job.output

    assert any("4 of 4 shards found" in line for line in job.lines), job.output
    # The driver died during the second epoch's report, or after it.
    assert any(re.match(r"resumed after epoch [123]", line) for line in job.lines), job.output
    assert run.verify() == [] and {path.split("/")[0] for path in run.files()} == FILES
    assert history(run)["epoch"].tolist() == [1, 2, 3, 4]
    assert run.get_json("metrics.json")["candidates"][0]["shards_computed"] == 0


@pytest.mark.slow
def test_all_backbones_leave_a_model_each(tiny_data: Path, tmp_path: Path) -> None:
    arguments = [
        *("--data", str(tiny_data), "--artifacts", str(tmp_path), "--run-id", "all", "--weights", "none"),
        # At their default sizes the inspection would take most of the test.
        *("--limit", "100", "--epochs", "1", "--image-size", "32"),
    ]
    with fmnist("transfer", *arguments) as job:
        assert job.wait() == 0, job.output

    run = RunFolder(FolderStore(tmp_path), "all")
    assert run.verify() == []
    table = pd.read_csv(io.BytesIO(run.get_bytes("candidates.csv")))
    assert table["backbone"].tolist() == ["resnet152v2", "efficientnetb1", "vgg16"]
    models = [path for path in run.files() if path.endswith("model.keras")]
    best = run.get_json("metrics.json")["model"]
    others = [f"candidates/{name}-frozen/model.keras" for name in table["backbone"] if name != best]
    assert sorted(models) == sorted(["model.keras", *others])
    page = run.get_bytes("report.html").decode()
    assert all(title in page for title in ("ResNet152V2", "EfficientNetB1", "VGG16"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--backbone", "vgg19"],
            "transfer: backbone: found vgg19, expected one of resnet152v2, efficientnetb1, vgg16",
        ),
        (["--image-size", "28"], "transfer: image_size: found 28, expected a whole number of 32 or more or auto"),
        (["--recipe", "notebook", "--pooling", "max"], "image_size: found 32, expected auto"),
        (["--weights", "/nowhere/vgg16.h5"], "/nowhere/vgg16.h5: "),
        (["--weights", "none", "--compare-with", "nothing"], ""),
    ],
)
def test_wrong_settings_are_one_line_and_leave_nothing(
    tiny_data: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["transfer", *settings(tiny_data, str(tmp_path)), *arguments]) == 2

    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"fmnist: {message}")
    assert list(tmp_path.iterdir()) == []


# tests/unit/workflows/transfer/test_pretrained.py has the line.
@pytest.mark.slow
def test_weights_of_another_network_are_one_line_that_names_the_layer(
    tiny_data: Path, weights: Path, tmp_path: Path
) -> None:
    arguments = settings(tiny_data, str(tmp_path), "--backbone", "efficientnetb1", "--weights", str(weights))
    ended = command("transfer", *arguments)

    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.strip().splitlines()
    # The name that the user gave, not that of a copy on the cluster.
    assert line.startswith(f"fmnist: {weights}: not weights of efficientnetb1: <Normalization name=normalization")
    assert not (tmp_path / "vgg").exists()
