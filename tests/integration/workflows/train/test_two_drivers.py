"""Two drivers with one run id: one works, the other is refused or waits, and what was taken over changes nothing."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from fmnist import cli
from fmnist.runs import HISTORY, LEASE, RunFolder
from fmnist.storage import FolderStore, S3Store, Store
from jobs import fmnist

pytestmark = pytest.mark.usefixtures("ray_cluster")

# Seconds of a lease: a stopped driver loses it soon.
SHORT = {"FMNIST_LEASE_SECONDS": "15"}


def settings(data: Path, artifacts: str) -> list[str]:
    return [
        *("--data", str(data), "--artifacts", artifacts, "--run-id", "run", "--epochs", "12", "--patience", "0"),
        *("--batch-size", "16", "--workers", "1", "--cpus-per-worker", "1"),
    ]


def assert_complete(store: Store) -> None:
    run = RunFolder(store, "run")
    assert run.verify() == []
    epochs = [line.split(b",")[0] for line in run.get_bytes(HISTORY).splitlines()]
    assert epochs == [b"epoch", *(str(epoch).encode() for epoch in range(1, 13))]
    assert not store.exists(f"run/{LEASE}")


def test_stopped_driver_is_taken_over_and_harms_nothing_when_it_continues(
    small_data: Path, s3_bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = settings(small_data, f"s3://{s3_bucket}/runs")
    with fmnist("train", *arguments, environment=SHORT) as first:
        first.wait_for(r"^epoch +1/")
        for more in ((), ("--max-failures", "5")):
            assert cli.main(["train", *arguments, *more]) == 2
            refused = capsys.readouterr()
            assert refused.out == "" and re.fullmatch(
                rf"fmnist: run run in s3://{s3_bucket}/runs: held by process {first.process.pid} on \S+ since \S+ "
                r"\(attempt 1\).*\n",
                refused.err,
            ), refused

        first.process.send_signal(signal.SIGSTOP)
        with fmnist("train", *arguments, "--wait", environment=SHORT) as second:
            second.wait_for(r"^taking over the run from process \d+")
            second.wait_for(r"resumed after epoch")
            first.process.send_signal(signal.SIGCONT)
            assert first.wait() == 1, first.output
            assert re.search(rf"taken over by process {second.process.pid} on .* \(attempt 2\)", first.lines[-1])
            assert "Traceback" not in first.output
            assert second.wait() == 0, second.output

    assert_complete(S3Store(s3_bucket, "runs"))


# tests/unit/runs/test_lifecycle.py has every moment of it without Ray.
@pytest.mark.slow
def test_overwriting_that_is_killed_at_once_leaves_the_finished_run_and_another_one_replaces_it(
    small_data: Path, tmp_path: Path
) -> None:
    store, arguments = FolderStore(tmp_path), settings(small_data, str(tmp_path))
    with fmnist("train", *arguments) as job:
        assert job.wait() == 0, job.output
    before = store.get_bytes("run/manifest.json")

    with fmnist("train", *arguments, "--overwrite", "--seed", "1") as job:
        job.wait_for(r"^Ray: ")
        job.process.kill()
        job.wait()
    assert store.get_bytes("run/manifest.json") == before
    assert all(problem.is_note for problem in RunFolder(store, "run").verify())

    # Its lease is that of a process that is gone.
    with fmnist("train", *arguments, "--overwrite", "--seed", "1", environment=SHORT) as job:
        assert job.wait() == 0, job.output
    assert_complete(store)
    assert b"seed: 1" in store.get_bytes("run/config.yaml")
