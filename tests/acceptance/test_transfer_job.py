"""Transfer learning as its users start it: with real weights, killed while it runs, and with wrong settings."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hed_weights import write_vgg16_weights
from kills import kill_driver

from fmnist import cli
from fmnist.data import clean, load, split
from fmnist.runs import RunFolder
from fmnist.runs.results import read_metrics
from fmnist.storage import FolderStore, S3Store
from fmnist.workflows.transfer.config import TransferConfig
from fmnist.workflows.transfer.features import feature_shards, read_shard, shard_path, stored_shards
from fmnist.workflows.transfer.recipes import recipe_of
from fmnist.workflows.transfer.results import TransferMetrics
from jobs import Job, command, fmnist, leaving_ray, without_waits

pytestmark = pytest.mark.usefixtures("ray_cluster")

# Of the features, for what does not depend on how good they are.
SMALL = ("--feature-layer", "block2_pool", "--pooling", "avg", "--batch-size", "32", "--images-per-shard", "200")
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
    ray_cluster: str, tiny_data: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunFolder, list[str]]:
    """A finished run of two small stages of the network, with fine-tuning, and what it printed."""
    artifacts = tmp_path_factory.mktemp("artifacts")
    arguments = settings(tiny_data, str(artifacts), "--weights", str(weights), *SMALL, "--fine-tune-epochs", "2")
    with Job(sys.executable, "jobs/transfer.py", *arguments) as job:
        assert job.wait() == 0, job.output
    return RunFolder(FolderStore(artifacts), "vgg"), job.lines


def test_run_folder_is_complete_and_says_which_weights_it_used(
    trained: tuple[RunFolder, list[str]], weights: Path
) -> None:
    run, _ = trained
    metrics = run.get_json("metrics.json")

    assert run.verify() == []
    assert {path.split("/")[0] for path in run.files()} == FILES | {"candidates"}
    assert read_metrics(run, TransferMetrics).weights["vgg16"].source == str(weights)
    assert metrics["job"] == "transfer" and metrics["model"] == "vgg16" and metrics["recipe"] == "sound"
    assert metrics["weights"]["vgg16"]["published"] is False
    assert len(metrics["weights"]["vgg16"]["sha256"]) == 64


def test_features_in_the_store_are_the_backbones(
    trained: tuple[RunFolder, list[str]], weights: Path, tiny_data: Path
) -> None:
    from fmnist.workflows.transfer.network import feature_extractor, load_backbone

    run, _ = trained
    config = TransferConfig(backbone="vgg16", image_size=32, feature_layer="block2_pool", pooling="avg")
    recipe = recipe_of(config, "vgg16")
    extractor = feature_extractor(load_backbone("vgg16", recipe, weights), recipe)
    images = clean(load(str(tiny_data), cache=tiny_data).train)[0]
    train, val = split(images, val_fraction=config.val_fraction, seed=0)
    pixels = np.concatenate([train.pixels, val.pixels])

    (folder,) = run.store.folders("features")
    shards = feature_shards([train, val], 200)
    assert {shard_path(folder, shard) for shard in shards} == stored_shards(run.store, folder)
    for shard in shards:
        stored = read_shard(run.store, shard_path(folder, shard))
        assert stored.dtype == np.float32
        np.testing.assert_allclose(stored, extractor.predict(pixels[shard.positions], verbose=0), rtol=1e-3, atol=1e-2)


def test_both_phases_are_measured_and_the_better_one_is_the_runs_model(trained: tuple[RunFolder, list[str]]) -> None:
    run, _ = trained
    metrics = run.get_json("metrics.json")
    by_phase = {one["phase"]: one for one in metrics["candidates"]}

    assert set(by_phase) == {"frozen", "fine-tuned"}
    assert metrics["val"]["accuracy"] == max(one["val_accuracy"] for one in by_phase.values())
    loser = next(phase for phase in by_phase if phase != metrics["phase"])
    models = [path for path in run.files() if path.endswith("model.keras")]
    assert sorted(models) == sorted(["model.keras", f"candidates/vgg16-{loser}/model.keras"])
    assert by_phase["fine-tuned"]["trained_parameters"] > by_phase["frozen"]["trained_parameters"]
    assert not any(path.startswith(("checkpoints/", "phases/")) for path in run.files())


@pytest.mark.slow
def test_pretrained_features_beat_what_so_few_images_teach_a_new_network(
    small_data: Path, weights: Path, tmp_path: Path
) -> None:
    with fmnist("transfer", *settings(small_data, str(tmp_path), "--weights", str(weights))) as job:
        assert job.wait() == 0, job.output

    run = RunFolder(FolderStore(tmp_path), "vgg")
    metrics = run.get_json("metrics.json")
    assert {path.split("/")[0] for path in run.files()} == FILES
    assert any(line.startswith("VGG16, frozen: 2,048 features an image of 32 pixels a side") for line in job.lines)
    sound, notebook = (
        next(one for one in metrics["diagnoses"] if one["recipe"] == name) for name in ("sound", "notebook")
    )
    assert sound["high"] > 100 and notebook["high"] == pytest.approx(1)
    assert sound["separability"] > notebook["separability"] + 0.2
    # 1,280 training images, four epochs of the head. Chance is .1, fresh weights of the same network give about .6.
    assert metrics["test"]["accuracy"] > 0.75


def test_output_without_a_terminal_is_a_few_plain_lines(trained: tuple[RunFolder, list[str]]) -> None:
    _, lines = trained

    assert lines[0].startswith("run vgg in ")
    assert any(line.startswith("VGG16, frozen: 128 features an image of 32 pixels a side") for line in lines)
    assert sum(line.startswith("epoch ") for line in lines) == 6
    assert lines[-2].startswith("best by validation: vgg16, f")
    assert lines[-1].startswith("finished in ")
    assert not any("\x1b" in line or "Traceback" in line for line in lines)
    assert len(without_waits(lines)) < 22, lines


def test_the_saved_model_reproduces_what_the_run_recorded(trained: tuple[RunFolder, list[str]]) -> None:
    run, _ = trained
    store = ["--artifacts", run.store.location]

    evaluated = command("evaluate", "--run", "vgg", "--json", *store)
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)["accuracy"] == pytest.approx(run.get_json("metrics.json")["test"]["accuracy"])
    shown = command("runs", "show", "vgg", *store).stdout.splitlines()
    assert any(line.split()[:1] == ["test.accuracy"] for line in shown)
    assert any("backbone vgg16, phase f" in line and "test.accuracy 0." in line for line in shown)


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
