"""The last step of a job: with the manifest its run is finished, whatever happens afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist.errors import IntegrityError
from fmnist.runs import METRICS, RunFolder
from fmnist.runs.results import Metrics, Results, finish_run, read_metrics, write_results
from fmnist.storage import FolderStore

METRICS_OF_A_RUN = Metrics(
    job="tune",
    run_id="run",
    started="2026-11-23T18:45:00Z",
    finished="2026-11-23T18:46:01Z",
    seconds={"total": 61.4},
)


def results(*temporary: str) -> Results:
    return Results(metrics=METRICS_OF_A_RUN, environment={}, page="<html>", plots={"loss": b"png"}, temporary=temporary)


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
        finish_run(run, results("trials"), ["accuracy 0.9"], lines.append)

    assert run.state() == "finished"
    assert lines == ["accuracy 0.9", f"finished in 61 s: {run.location}/report.html"]
    assert capsys.readouterr().err == (
        "fmnist: run run is finished, but trials was not removed: device or resource busy\n"
    )


def test_temporary_files_are_no_part_of_a_finished_run(tmp_path: Path) -> None:
    run = RunFolder(FolderStore(tmp_path), "run")
    for path in ("history.csv", "checkpoints/notes.json", "checkpoints/epoch-0001/weights", "trials/0001/state.json"):
        run.put_bytes(path, b"{}")

    finish_run(run, results("checkpoints/notes.json", "trials"), [], print)

    assert set(run.files()) == {"history.csv", "checkpoints/epoch-0001/weights", "manifest.json"}
    assert run.verify() == []


def test_metrics_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    run = RunFolder(FolderStore(tmp_path), "run")
    write_results(run, results())

    assert read_metrics(run, Metrics) == METRICS_OF_A_RUN
    run.put_json(METRICS, {"job": "tune"})
    with pytest.raises(IntegrityError, match=r"run/metrics\.json: damaged, run_id: field required"):
        read_metrics(run, Metrics)
