"""The train run that a transfer is compared with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tracked_runs import begun

from fmnist.errors import IntegrityError
from fmnist.runs import METRICS, RunFolder
from fmnist.storage import FolderStore
from fmnist.workflows.transfer.job import find_comparison

PUBLISHED = Path(__file__).parents[4] / "docs/results/tune-notebook/metrics.json"


def trained(store: FolderStore, name: str, content: bytes) -> RunFolder:
    run = begun(store, name)
    run.put_bytes(METRICS, content)
    run.finish("train")
    return run


def test_newest_run_of_lenet5_that_can_be_read_is_compared_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, metrics = FolderStore(tmp_path), json.loads(PUBLISHED.read_bytes()) | {"model": "lenet5"}
    trained(store, "sound", json.dumps(metrics).encode())
    trained(store, "another", json.dumps(metrics | {"model": "notebook"}).encode())
    for name, content in {"empty": b"{}", "text": b"no JSON", "list": b"[]"}.items():
        trained(store, name, content)
    trained(store, "partial", json.dumps(metrics | {"val": None}).encode())

    found = find_comparison(store, None)

    assert found is not None and found.run_id == metrics["run_id"]
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"fmnist: {tmp_path}/partial is not compared with: ")
    with pytest.raises(IntegrityError):
        find_comparison(store, "empty")
