"""Two RayJobs of one run: whatever happens to the one that works, the run is whole and each epoch is there once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from kubernetes_cluster import (
    EpochWatch,
    Jobs,
    get,
    job_status,
    kubectl,
    own_jobs,
    pull,
    renamed,
    wait_for_job,
    wait_until,
)

EPOCHS = 15
TRAIN = {"limit": 4000, "epochs": EPOCHS, "batch_size": 16, "patience": 0, "max_failures": 10}
# Sends a signal to the driver of a head.
TO_DRIVER = """
import os, pathlib, sys
for process in pathlib.Path("/proc").glob("[0-9]*"):
    words = process.joinpath("cmdline").read_bytes().split(b"\\0")
    if words[0].endswith(b"python") and b"jobs/train.py" in words:
        os.kill(int(process.name), int(sys.argv[1]))
        print("sent")
"""
STOP, CONTINUE = "19", "18"


@pytest.fixture
def attempts(jobs: Jobs, run: str, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two RayJobs of the run: the first trains and has come to its second epoch, the other waits for it."""
    names = (f"{run}-1", f"{run}-2")
    kubectl("delete", "raycluster", "fmnist", "--ignore-not-found")
    variable = "/spec/submitterPodTemplate/spec/containers/0/env/0"
    patch = [
        {"op": "replace", "path": variable, "value": {"name": "RUN_ID", "value": run}},
        {"op": "replace", "path": "/spec/backoffLimit", "value": 0},
    ]
    for name in names:
        patches = renamed("train", name, *patch)
        own_jobs(tmp_path / name, settings={"train": TRAIN}, patches=patches).start("train")
        # The second one's driver comes after the first one's.
        wait_until(f"job {name}", partial(lambda name: job_status(name)[0] == "RUNNING", name))
    with EpochWatch(names[0]) as watch:
        wait_until("second epoch", lambda: watch.last >= 2, pause=0.2)
    wait_until("waiting attempt", lambda: "held by process" in output(names[1]))
    yield names
    kubectl("delete", "rayjob", *names, "--wait=false")


def output(job: str) -> str:
    return kubectl("logs", "-l", f"job-name={job}", "--tail=-1", check=False)


def head(job: str) -> str:
    cluster = get("rayjob", job)["status"]["rayClusterName"]
    (pod,) = get("pods", "", "-l", f"ray.io/node-type=head,ray.io/cluster={cluster}")
    name: str = pod["metadata"]["name"]
    return name


def signal_driver(job: str, number: str) -> None:
    assert kubectl("exec", head(job), "--", "python", "-c", TO_DRIVER, number) == "sent\n"


def assert_whole(run: str, folder: Path) -> None:
    """The run is finished, each of its files is what the manifest says, and no epoch is missing or there twice."""
    pull(run, folder)
    assert pd.read_csv(folder / run / "history.csv")["epoch"].tolist() == list(range(1, EPOCHS + 1))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("run", ["head-deleted"])
def test_both_attempts_succeed_when_the_head_of_the_first_is_deleted(
    run: str, attempts: tuple[str, str], tmp_path: Path
) -> None:
    first, second = attempts
    kubectl("delete", "pod", head(first), "--wait=false")

    for name in attempts:
        wait_for_job(name, timeout=500)

    assert re.search(r"taking over the run from .*\(attempt \d+\)", output(first) + output(second))
    assert_whole(run, tmp_path)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("run", ["driver-stopped"])
def test_driver_that_stopped_for_longer_than_its_lease_ends_with_a_line_and_harms_nothing(
    run: str, attempts: tuple[str, str], tmp_path: Path
) -> None:
    first, second = attempts
    signal_driver(first, STOP)
    wait_until("second attempt at work", lambda: "resumed after epoch" in output(second))
    signal_driver(first, CONTINUE)

    wait_until("end of the first attempt", lambda: job_status(first) == ("FAILED", "Failed"))
    wait_for_job(second, timeout=500)

    last = output(first).splitlines()[-1]
    assert re.fullmatch(r"fmnist: .*taken over by process \d+ on \S+ since \S+ \(attempt 2\).*", last), last
    assert "Traceback" not in output(first)
    assert_whole(run, tmp_path)
