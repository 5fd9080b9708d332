"""Room on the cluster of workers whose controller died."""

from __future__ import annotations

import time

import pytest
import ray

from fmnist.distributed.cluster import connected
from fmnist.distributed.trainer import _free_room

pytestmark = pytest.mark.usefixtures("ray_cluster")


@ray.remote(num_cpus=0)
class Controller:
    def reserve(self) -> None:
        self.group = ray.util.placement_group([{"CPU": 1}])
        ray.get(self.group.ready())


def states() -> list[str]:
    job = ray.get_runtime_context().get_job_id()
    return [group["state"] for name, group in ray.util.placement_group_table().items() if name.endswith(job)]


def test_room_of_a_controller_that_died_is_freed() -> None:
    with connected():
        controller = Controller.remote()
        ray.get(controller.reserve.remote())
        ray.kill(controller)
        assert states() == ["CREATED"]

        _free_room()

        deadline = time.monotonic() + 60
        while states() != ["REMOVED"] and time.monotonic() < deadline:
            time.sleep(0.1)
        assert states() == ["REMOVED"]
