"""The examples run as their readers run them, on one Ray head that they share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from jobs import REPOSITORY

EXAMPLES = REPOSITORY / "examples"


@pytest.fixture
def examples(tmp_path: Path, ray_cluster: str, official_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the examples, whose runs go into a folder beside them; processes started here join the head."""
    monkeypatch.setenv("FMNIST_CACHE", str(official_cache))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("artifacts")))


@pytest.mark.slow
def test_every_cell_of_the_notebook_runs(examples: Path) -> None:
    notebook = nbformat.read(examples / "quickstart.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(examples)}})

    client.execute()

    printed = "".join(_text(output) for cell in notebook.cells for output in cell.get("outputs", []))
    assert "test accuracy" in printed
    assert "background assumed" in printed
    assert (examples / "artifacts/quickstart/manifest.json").is_file()


def _text(output: nbformat.NotebookNode) -> str:
    """What a stream printed, or what rich displayed."""
    return str(output.get("text", "") or output.get("data", {}).get("text/plain", ""))


# tests/acceptance/test_tune_job.py searches a user's model.
@pytest.mark.slow
def test_own_model_is_trained_and_its_model_is_saved(examples: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "own_model.py", "--limit", "1000", "--epochs", "1", "--run-id", "own"],
        cwd=examples,
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    run = examples / "artifacts/own"
    assert json.loads((run / "metrics.json").read_text())["test"]["accuracy"] > 0.2
    assert (run / "model.keras").is_file()


def test_own_model_fits_on_a_page() -> None:
    assert len((EXAMPLES / "own_model.py").read_text(encoding="utf-8").splitlines()) <= 40


def test_notebook_is_stored_without_outputs() -> None:
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
