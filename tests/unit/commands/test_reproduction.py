"""What cannot be reproduced is one line, before anything is written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fmnist import cli, data
from fmnist.options import settings_yaml
from fmnist.runs import CONFIG, DATA, ENVIRONMENT, RunFolder
from fmnist.runs.environment import environment
from fmnist.storage import FolderStore
from fmnist.workflows import JOBS


def finished(folder: Path, job: str, images: Path, sums: dict[str, str], **settings: Any) -> RunFolder:
    run = RunFolder(FolderStore(folder), "one")
    config = asdict(JOBS[job].Config()) | {"data": str(images), "run_id": "one"} | settings
    run.put_bytes(CONFIG, settings_yaml(config).encode())
    run.put_json(DATA, {"sha256": sums})
    run.put_json(ENVIRONMENT, environment())
    run.finish(job)
    return run


@pytest.fixture(scope="module")
def sums(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return data.load(str(small_data), cache=tmp_path_factory.mktemp("cache")).source.sha256


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["runs", "reproduce", *arguments, "--artifacts", str(folder)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert [path.name for path in folder.iterdir()] == ["one"]
    return error


def test_pipeline_is_none_that_can_be_reproduced(
    tmp_path: Path, small_data: Path, sums: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path, "pipeline", small_data, sums)
    expected = "found a pipeline run, expected one of train, tune, crossval, transfer"
    assert expected in refused(tmp_path, capsys, "one")


def test_other_images_are_no_reproduction(
    tmp_path: Path, small_data: Path, sums: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path, "train", small_data, {**sums, "train-labels-idx1-ubyte": "0" * 64})
    assert "has other images than run one (train-labels-idx1-ubyte)" in refused(tmp_path, capsys, "one")


def test_run_is_no_reproduction_of_itself(
    tmp_path: Path, small_data: Path, sums: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path, "train", small_data, sums)
    assert "run-id: found one" in refused(tmp_path, capsys, "one", "--run-id", "one")
    assert "none: no such run" in refused(tmp_path, capsys, "none")
    assert "workers: found 0" in refused(tmp_path, capsys, "one", "--workers", "0")
    assert "/no/such/folder" in refused(tmp_path, capsys, "one", "--data", "/no/such/folder")


def test_unfinished_run_cannot_be_reproduced(
    tmp_path: Path, small_data: Path, sums: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path, "train", small_data, sums).reopen()
    assert "unfinished run" in refused(tmp_path, capsys, "one")
