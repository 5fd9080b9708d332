"""``ray start`` for a head whose jobs are not submitted: without a dashboard and what goes with it."""

from __future__ import annotations

from typing import Any

from ray._private import parameter, services
from ray._private.node import Node
from ray.scripts.scripts import main

from fmnist.distributed import local


class _Parameters(parameter.RayParams):
    def __init__(self, **parameters: Any) -> None:
        super().__init__(**{**parameters, "include_log_monitor": False, "ray_client_server_port": None})


Node.start_api_server = local._announce_agent  # type: ignore[method-assign]
services.start_ray_process = local._start_without_agent
parameter.RayParams = _Parameters  # type: ignore[misc]
main()
