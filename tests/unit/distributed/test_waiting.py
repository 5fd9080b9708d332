"""Waits for Ray: how long for room, and reasons from Ray's logs."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from fmnist.distributed import waiting
from fmnist.distributed.waiting import reason_in_logs


@pytest.mark.parametrize(
    ("cpus", "gpus", "limit"),
    [(1, 0, math.inf), (2, 1, math.inf), (4, 0, waiting.ROOM_SECONDS), (1, 2, waiting.ROOM_SECONDS)],
)
def test_only_what_no_node_has_room_for_has_a_limit(
    cpus: float, gpus: float, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0, "GPU": 1.0})

    assert waiting.room_limit(cpus, gpus) == limit


def test_reason_is_the_last_line_about_an_error_in_rays_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = SimpleNamespace(get_logs_dir_path=lambda: str(tmp_path))
    monkeypatch.setattr(ray._private.worker, "_global_node", node)
    assert reason_in_logs() == ""

    (tmp_path / "raylet.out").write_text(
        "[2026-11-28 (raylet) worker_pool.cc:577: failed to start a worker\nall well\n"
    )
    assert reason_in_logs().startswith("Ray's raylet.out says: [2026-11-28")

    (tmp_path / "worker-1.err").write_text("bash: line 1: /my: No such file or directory\n")
    assert reason_in_logs() == "Ray's worker-1.err says: bash: line 1: /my: No such file or directory"
