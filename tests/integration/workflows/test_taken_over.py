"""A job whose run another process takes over ends with one line, whatever its workers, trials and folds do."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fmnist.runs import LEASE, RunFolder
from fmnist.runs.lease import LeaseRecord
from fmnist.runs.replacement import has_checkpoint
from fmnist.storage import FolderStore
from jobs import LIMIT, fmnist

pytestmark = pytest.mark.usefixtures("ray_cluster")

OTHER = LeaseRecord(7, "another", "elsewhere", "another machine", 4242, 1, "2026-11-28T12:00:00Z", seconds=600)
LONG = {
    "train": ("--epochs", "200", "--patience", "0", "--cpus-per-worker", "1"),
    "tune": ("--max-epochs", "81", "--patience", "0"),
    "crossval": ("--folds", "2", "--epochs", "200", "--patience", "0"),
    "transfer": (
        *("--backbone", "vgg16", "--weights", "none", "--image-size", "32", "--epochs", "2000", "--patience", "0"),
        *("--cpus-per-worker", "1"),
    ),
    "pipeline": ("--profile", "smoke", "--stages", "train"),
}
# The run whose first checkpoint shows that the job is at work, where it is not the job's own.
AT_WORK = {"pipeline": "run-train-lenet5"}


# tests/integration/workflows/train/test_two_drivers.py takes a training over.
@pytest.mark.slow
@pytest.mark.parametrize("job", LONG)
def test_job_whose_run_is_taken_over_ends_with_a_line(tiny_data: Path, tmp_path: Path, job: str) -> None:
    run, at_work = (RunFolder(FolderStore(tmp_path), name) for name in ("run", AT_WORK.get(job, "run")))
    arguments = ("--data", str(tiny_data), "--artifacts", str(tmp_path), "--run-id", "run", *LONG[job])
    with fmnist(job, *arguments, environment={"FMNIST_LEASE_SECONDS": "6"}) as started:
        deadline = time.monotonic() + LIMIT
        while not has_checkpoint(at_work):
            assert started.process.poll() is None and time.monotonic() < deadline, started.output
            time.sleep(0.1)
        run.store.put_bytes(f"run/{LEASE}", OTHER.to_json())
        assert started.wait() == 1, started.output

    assert "taken over by process 4242 on elsewhere" in started.lines[-1]
    assert "Traceback" not in started.output
    assert set(run.store.folders()) == {run.run_id, at_work.run_id}
    before = run.files()
    time.sleep(2)
    assert run.files() == before and run.state() == "unfinished"
