"""What is killed in the middle of training costs at most the epoch in flight, whatever it is.

E2E_KILLS says in how many trainings each kind is killed, one if not given, in an order and at epochs drawn by E2E_SEED.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
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
    state,
    wait_for_job,
    wait_until,
)

KILLS = int(os.environ.get("E2E_KILLS", "1"))
SEED = int(os.environ.get("E2E_SEED", "0"))
# Room for every kill to meet an epoch of its own.
EPOCHS = 15
TRAIN = {"limit": 4000, "epochs": EPOCHS, "batch_size": 16, "patience": 0, "max_failures": 10}
AT_ONCE = ("--force", "--grace-period=0", "--wait=false")


def cluster_of(job: str) -> str:
    name: str = get("rayjob", job)["status"]["rayClusterName"]
    return name


def kill_pods(selector: str) -> Callable[[str], None]:
    """Kills one pod that a selector chooses, as when its machine is gone."""

    def kill(job: str) -> None:
        labels = selector.format(job=job, cluster=cluster_of(job))
        running = [pod for pod in get("pods", "", "-l", labels) if pod["status"]["phase"] == "Running"]
        kubectl("delete", "pod", running[0]["metadata"]["name"], *AT_ONCE)

    return kill


def kill_cluster(job: str) -> None:
    name = cluster_of(job)
    kubectl("delete", "pods", "-l", f"ray.io/cluster={name}", *AT_ONCE)
    kubectl("delete", "raycluster", name, "--wait=false")


VICTIMS: dict[str, Callable[[str], None]] = {
    "worker": kill_pods("ray.io/node-type=worker,ray.io/cluster={cluster}"),
    "head": kill_pods("ray.io/node-type=head,ray.io/cluster={cluster}"),
    "submitter": kill_pods("job-name={job}"),
    "store": kill_pods("app.kubernetes.io/name=seaweedfs"),
    "cluster": kill_cluster,
}


def started(job: str, folder: Path) -> Jobs:
    jobs = own_jobs(folder, settings={"train": TRAIN}, patches=renamed("train", job))
    jobs.start("train")
    return jobs


def history(job: str, folder: Path) -> pd.DataFrame:
    """The history that a finished run has left in the store, without what its epochs took."""
    pull(job, folder)
    return pd.read_csv(folder / job / "history.csv").drop(columns=["seconds", "images_per_second"])


@pytest.fixture(scope="module")
def undisturbed(jobs: Jobs, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    kubectl("delete", "raycluster", "fmnist", "--ignore-not-found")
    folder = tmp_path_factory.mktemp("undisturbed")
    started("undisturbed", folder)
    wait_for_job("undisturbed", timeout=600)
    return history("undisturbed", folder)


def come_to(job: str, watch: EpochWatch, epoch: int) -> bool:
    _, deployment = job_status(job)
    assert deployment != "Failed", state()
    return watch.last >= epoch or deployment == "Complete"


def train_and_kill(job: str, kills: list[tuple[int, str]], folder: Path) -> EpochWatch:
    """Trains with a kill after each of the epochs, and returns what was seen of the training when it has succeeded."""
    started(job, folder)
    with EpochWatch(job) as watch:
        for epoch, victim in kills:
            wait_until(f"epoch {epoch}", partial(come_to, job, watch, epoch), timeout=300, pause=0.2)
            before = watch.last
            assert before < EPOCHS, "trained to its end before the kill"
            VICTIMS[victim](job)
            print(f"killed the {victim} after epoch {before}")
            wait_until(f"epoch after {before}", partial(come_to, job, watch, before + 1), timeout=300)
        wait_for_job(job, timeout=400)
        watch.look()
    return watch


@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(1, KILLS + 1))
def test_all_that_can_be_killed_in_the_middle_of_training_costs_at_most_an_epoch_each(
    undisturbed: pd.DataFrame, number: int, tmp_path: Path
) -> None:
    draw = random.Random(f"{SEED} {number}")
    victims = draw.sample(list(VICTIMS), len(VICTIMS))
    kills = list(zip(sorted(draw.sample(range(1, EPOCHS - 1), len(victims))), victims, strict=True))
    job = f"kills-{number}"

    watch = train_and_kill(job, kills, tmp_path)

    found = history(job, tmp_path)
    assert found["epoch"].tolist() == list(range(1, EPOCHS + 1))
    pd.testing.assert_frame_equal(found, undisturbed, check_exact=False, rtol=1e-4)
    assert watch.computed_again <= len(kills), watch.lines
    print(f"{watch.computed_again} epochs computed again")
