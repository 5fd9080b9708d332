"""A trial in a process of its own, as Ray Tune runs it: reused, interrupted, resumed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
from ray import tune
from ray.tune.result import TRIAL_INFO

from fmnist.data import Images, load
from fmnist.distributed import cluster
from fmnist.runs import RunFolder
from fmnist.storage import FolderStore
from fmnist.workflows.tune.config import TuneConfig
from fmnist.workflows.tune.trial import SearchTask, SearchTrial, trial_state

EPOCHS = 4
# All that has a state from step to step: Adam's averages, the schedule, batch normalisation, and random layers.
VALUES = {
    "batch_normalization": True,
    "translation": 1,
    "convolutions": 1,
    "filters_1": 16,
    "filters_2": 48,
    "filters_3": 96,
    "dropout": 0.4,
    "units": 96,
    "batch_size": 64,
    "learning_rate": 0.003,
    "schedule": "cosine",
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "label_smoothing": 0.1,
}
OTHERS = VALUES | {"filters_1": 32, "batch_normalization": False, "learning_rate": 0.001}


@pytest.fixture(scope="module")
def images(small_data: Path, ray_cluster: str, tmp_path_factory: pytest.TempPathFactory):
    with cluster.connected():
        train = load(str(small_data), cache=tmp_path_factory.mktemp("cache")).train
        yield ray.put(train.select(np.arange(320))), ray.put(train.select(np.arange(320, 400)))


class Process:
    """The actor of a trial, and Tune's part of it."""

    def __init__(self, folder: Path, images: tuple[Images, Images], *points: dict[str, Any]) -> None:
        self.run = RunFolder(FolderStore(folder), "search")
        config = TuneConfig(space="extended", max_epochs=EPOCHS, patience=0)
        trainable = tune.with_parameters(SearchTrial, task=SearchTask(config, self.run, *images))
        self._points = points
        self._make = ray.remote(num_cpus=1)(trainable).remote
        self._actor: Any = None

    def begin(self, number: int) -> None:
        info = SimpleNamespace(trial_id=f"test_{number - 1:05d}", trial_name="test")
        config = {"trial": number, "point": {"values": self._points[number - 1]}, TRIAL_INFO: info}
        if self._actor is None:
            self._actor = self._make(config)
        else:
            assert ray.get(self._actor.reset.remote(config))

    def train(self, epochs: int) -> list[dict[str, Any]]:
        return [ray.get(self._actor.train.remote()) for _ in range(epochs)]

    def kill(self) -> None:
        ray.kill(self._actor)
        self._actor = None


def numbers(results: list[dict[str, Any]]) -> list[dict[str, float]]:
    """What the trial has trained, without how long it took."""
    timing = ("seconds", "images_per_second")
    return [{name: value for name, value in row.items() if name not in timing} for row in results[-1]["rows"]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, images: Any) -> list[dict[str, float]]:
    process = Process(tmp_path_factory.mktemp("undisturbed"), images, VALUES)
    process.begin(1)
    results = process.train(EPOCHS)
    process.kill()
    assert [result["done"] for result in results] == [False] * (EPOCHS - 1) + [True]
    return numbers(results)


def test_process_that_trains_another_trial_in_between_changes_nothing(
    tmp_path: Path, images: Any, undisturbed: list[dict[str, float]]
) -> None:
    process = Process(tmp_path, images, VALUES, OTHERS)
    process.begin(1)
    process.train(2)
    process.begin(2)
    process.train(1)

    process.begin(1)
    results = process.train(EPOCHS)
    process.kill()

    assert numbers(results) == undisturbed
    assert [len(result["rows"]) for result in results] == [*range(1, EPOCHS + 1)]


# tests/acceptance/test_tune_job.py kills a trial of a search.
@pytest.mark.slow
def test_killed_process_costs_no_finished_epoch(
    tmp_path: Path, images: Any, undisturbed: list[dict[str, float]]
) -> None:
    process = Process(tmp_path, images, VALUES, OTHERS)
    process.begin(1)
    before = process.train(3)[-1]["rows"]
    process.kill()

    process.begin(1)
    results = process.train(EPOCHS)
    process.kill()

    assert numbers(results) == undisturbed
    assert list(results[-1]["rows"][:3]) == [dict(row) for row in before]


# tests/unit/distributed/test_checkpoints.py has damaged checkpoints of every kind.
@pytest.mark.slow
def test_damaged_checkpoint_of_a_trial_is_a_line_and_changes_no_number(
    tmp_path: Path, images: Any, undisturbed: list[dict[str, float]]
) -> None:
    process = Process(tmp_path, images, VALUES)
    process.begin(1)
    process.train(2)
    process.kill()
    file = tmp_path / "search/trials/0001/epoch-0002/variables.npz"
    file.write_bytes(file.read_bytes()[:-1])

    process.begin(1)
    results = process.train(EPOCHS)
    process.kill()

    assert numbers(results) == undisturbed
    (note,) = [note for result in results for note in result["notes"]]
    assert "trials/0001/epoch-0002: damaged checkpoint, not used" in note


@pytest.mark.slow
def test_state_of_other_hyperparameters_is_not_used(tmp_path: Path, images: Any) -> None:
    process = Process(tmp_path, images, VALUES, OTHERS)
    process.begin(1)
    process.train(1)

    process.kill()

    process = Process(tmp_path, images, OTHERS)
    process.begin(1)
    rows = process.train(1)[0]["rows"]
    process.kill()

    assert len(rows) == 1
    assert trial_state(process.run, 1, VALUES).history().epochs == 0
    assert trial_state(process.run, 1, OTHERS).history().epochs == 1
    assert len(list(tmp_path.glob("search/trials/0001/epoch-*"))) == 1
