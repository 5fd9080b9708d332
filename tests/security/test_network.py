"""What is open to the network where no policy of Kubernetes fences it off, and that it is said."""

from __future__ import annotations

import pytest

from fmnist.distributed.cluster import Resources
from fmnist.distributed.session import assumptions
from fmnist.workflows.crossval.config import CrossvalConfig
from fmnist.workflows.train.config import TrainConfig

JOINED = Resources(cpus=8, gpus=0, nodes=2, cpus_of_largest_node=4, started_here=False)
LOCAL = Resources(cpus=8, gpus=2, nodes=1, cpus_of_largest_node=8, started_here=True)


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.mark.parametrize(("resources", "gpus"), [(JOINED, 0), (JOINED, 1), (LOCAL, 1)])
def test_exchange_between_workers_is_told_where_nothing_fences_it_off(resources: Resources, gpus: int) -> None:
    (line,) = assumptions(TrainConfig(workers=2, gpus_per_worker=gpus), "s3://bucket/runs", resources)

    assert "ask for no token" in line and "SECURITY.md" in line and "\n" not in line


def test_jobs_without_an_exchange_through_the_network_say_nothing_of_one() -> None:
    assert not [*assumptions(TrainConfig(workers=1, gpus_per_worker=1), "s3://bucket/runs", JOINED)]
    assert not [*assumptions(CrossvalConfig(), "s3://bucket/runs", JOINED)]
    assert not [*assumptions(TrainConfig(workers=2, gpus_per_worker=0), "s3://bucket/runs", LOCAL)]


def test_kubernetes_fences_the_exchange_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")

    assert not [*assumptions(TrainConfig(workers=2), "s3://bucket/runs", JOINED)]


def test_folder_that_all_nodes_must_see_is_told() -> None:
    (line,) = assumptions(CrossvalConfig(), "/artifacts", JOINED)

    assert line.startswith("/artifacts: all nodes must see this folder")
