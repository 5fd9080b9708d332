"""Gauges of a job, as Ray is told them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import ray.util.metrics

from fmnist.distributed.cluster import Resources
from fmnist.distributed.gauges import publisher
from fmnist.training.progress import Progress, unpublished

JOINED = Resources(cpus=8, gpus=0, nodes=2, cpus_of_largest_node=4, started_here=False)
OWN = Resources(cpus=8, gpus=0, nodes=1, cpus_of_largest_node=8, started_here=True)
ROW = {"epoch": 2, "loss": 0.5, "accuracy": 0.8, "val_loss": 0.6, "val_accuracy": 0.7, "seconds": 3.0}
ROW |= {"learning_rate": 1e-3, "images_per_second": 900.0}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str, str], float]:
    """The values that Ray was told last, by gauge, run and job. No cluster exports them here."""
    values: dict[tuple[str, str, str], float] = {}

    def record(self: Any, value: float, tags: Any = None) -> None:
        values[(self._name, *(self._default_tags[key] for key in self._tag_keys))] = value

    monkeypatch.setattr(ray.util.metrics.Gauge, "set", record)
    return values


def test_epoch_of_a_training_is_exported_with_its_run_and_job(told: dict[tuple[str, str, str], float]) -> None:
    with Progress("training", 4, "epochs", publish=publisher("nightly", "train", JOINED)) as progress:
        progress.epoch(ROW)

    expected = {"epoch": 2, "loss": 0.5, "accuracy": 0.8, "val_loss": 0.6, "val_accuracy": 0.7}
    expected |= {"images_per_second": 900.0, "progress_ratio": 0.5}
    assert told == {(f"fmnist_{name}", "nightly", "train"): value for name, value in expected.items()}


def test_number_that_is_not_finite_changes_no_gauge(told: dict[tuple[str, str, str], float]) -> None:
    publisher("nightly", "train", JOINED)({"loss": math.nan, "val_loss": math.inf, "epoch": 1})

    assert told == {("fmnist_epoch", "nightly", "train"): 1}


def test_ray_of_the_jobs_own_is_told_nothing(told: dict[tuple[str, str, str], float]) -> None:
    assert publisher("nightly", "train", OWN) is unpublished
