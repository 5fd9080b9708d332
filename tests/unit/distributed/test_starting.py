"""A local Ray on a busy machine, with a mock of Ray's start: no test can make a machine busy enough every time."""

from __future__ import annotations

import os

import pytest
import ray

from fmnist.distributed import cluster
from fmnist.errors import TrainingError, UserError


class SlowRay:
    """Fails to start for a number of times, as Ray does when its processes take longer than 30 s."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.addresses: list[str] = []

    def init(self, **_: object) -> None:
        self.addresses.append(os.environ["RAY_ADDRESS"])
        if len(self.addresses) <= self.failures:
            raise Exception("The current node timed out during startup.\nMore lines.")


@pytest.fixture
def slow_ray(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SlowRay:
    slow = SlowRay(request.param)
    monkeypatch.setattr(ray, "init", slow.init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(cluster, "_resources", lambda started_here: cluster.Resources(2, 0, 1, 2, started_here))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return slow


@pytest.mark.parametrize("slow_ray", [2], indirect=True)
def test_mocked_ray_that_does_not_start_in_time_is_started_again_at_another_address(
    slow_ray: SlowRay, capsys: pytest.CaptureFixture[str]
) -> None:
    with cluster.connected() as resources:
        assert resources.started_here

    assert len(set(slow_ray.addresses)) == 3
    assert capsys.readouterr().out == "Ray did not start in time on this machine; trying again\n" * 2
    assert "RAY_ADDRESS" not in os.environ


@pytest.mark.parametrize("slow_ray", [3], indirect=True)
def test_mocked_ray_that_never_starts_is_one_line(slow_ray: SlowRay) -> None:
    with pytest.raises(TrainingError) as caught, cluster.connected():
        pass

    expected = "Ray did not start on this machine in 3 attempts: The current node timed out during startup."
    assert str(caught.value) == expected


def test_mocked_cluster_of_another_version_of_ray_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.50.0\n    Python: 3.11.9\n")

    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(cluster, "check_address", lambda address: None)
    monkeypatch.setattr(cluster.local, "connect", refuse)

    with pytest.raises(UserError) as caught, cluster.connected():
        pass
    reason = "Version mismatch: The cluster was started with: Ray: 2.50.0 Python: 3.11.9"
    assert str(caught.value) == f"RAY_ADDRESS=10.0.0.1:6379: cannot join a Ray cluster there: {reason}"
