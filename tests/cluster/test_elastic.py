"""A training whose worker pods go and come back."""

from __future__ import annotations

import json
import re
from itertools import groupby
from pathlib import Path

import pandas as pd
import pytest
from kubernetes_cluster import (
    EpochWatch,
    Jobs,
    get,
    kubectl,
    own_jobs,
    pull,
    renamed,
    wait_for_job,
    wait_until,
)

# Long enough for two changes, at least a minute apart, on a machine that is fast.
EPOCHS = 40
TRAIN = {"limit": 8000, "epochs": EPOCHS, "batch_size": 16, "patience": 0}


@pytest.mark.timeout(1500)
def test_worker_pods_go_and_come_back_while_a_run_trains(jobs: Jobs, tmp_path: Path) -> None:
    kubectl("delete", "raycluster", "fmnist", "--ignore-not-found")
    patches = renamed("train", "elastic")
    own_jobs(tmp_path / "jobs", ("elastic",), settings={"train": TRAIN}, patches=patches).start("train")

    with EpochWatch("elastic") as watch:
        wait_until("second epoch", lambda: watch.last >= 2, timeout=400)
        for pods in (0, 1, 2):
            scale("elastic", pods)
            # Without a worker it waits; with others than before it begins anew at an epoch.
            if pods:
                line = re.compile(rf"^{pods} workers? from epoch (\d+) on$", re.MULTILINE)
                wait_until(f"{pods} at work", lambda line=line: last_start(line) > 1, timeout=400)
                epoch = last_start(line)
                wait_until("epoch more", lambda epoch=epoch: watch.last > epoch, timeout=400)
        wait_for_job("elastic", timeout=600)

    pull("elastic", tmp_path)
    history = pd.read_csv(tmp_path / "elastic" / "history.csv")
    assert history["epoch"].tolist() == list(range(1, EPOCHS + 1))
    assert [workers for workers, _ in groupby(history["workers"])] == [2, 1, 2]
    kubectl("delete", "rayjob", "elastic", "--wait=false")


def scale(job: str, pods: int) -> None:
    """Asks for a number of worker pods, and waits until there are as many."""
    cluster = get("rayjob", job)["status"]["rayClusterName"]
    change = [{"op": "replace", "path": "/spec/workerGroupSpecs/0/replicas", "value": pods}]
    kubectl("patch", "raycluster", cluster, "--type=json", "--patch", json.dumps(change))
    of_workers = f"ray.io/node-type=worker,ray.io/cluster={cluster}"
    wait_until(f"{pods} worker pods", lambda: len(get("pods", "", "-l", of_workers)) == pods)


def last_start(line: re.Pattern[str]) -> int:
    """The last epoch that such a line names; 0 without one."""
    output = kubectl("logs", "-l", "job-name=elastic", "--tail=-1", check=False)
    return max(map(int, line.findall(output)), default=0)
