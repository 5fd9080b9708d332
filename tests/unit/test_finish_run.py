"""The last step of a job: with the manifest its run is finished, whatever happens afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist.artifacts import FolderStore, RunFolder
from fmnist.workflows.session import finish_run


def test_what_fails_after_the_manifest_is_one_line_and_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object) -> None:
        raise OSError("device or resource busy")

    run = RunFolder(FolderStore(tmp_path), "run")
    run.put_bytes("history.csv", b"epoch\n")
    run.put_bytes("trials/0001/state.json", b"{}")
    lines: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "delete_folder", unable)
        finish_run(run, "tune", ["finished"], lines.append, folders=["trials"])

    assert run.state() == "finished" and lines == ["finished"]
    assert capsys.readouterr().err == "fmnist: run run is finished, but: device or resource busy\n"


def test_scratch_files_are_no_part_of_a_finished_run(tmp_path: Path) -> None:
    run = RunFolder(FolderStore(tmp_path), "run")
    for path in ("history.csv", "checkpoints/notes.json", "checkpoints/epoch-0001/weights", "trials/0001/state.json"):
        run.put_bytes(path, b"{}")

    finish_run(run, "tune", [], print, files=["checkpoints/notes.json"], folders=["trials"])

    assert set(run.files()) == {"history.csv", "checkpoints/epoch-0001/weights", "manifest.json"}
    assert run.verify() == []
