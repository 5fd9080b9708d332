"""Data-parallel training: what two workers compute is what one computes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray.train
from ray import cloudpickle

from fmnist import cluster, devices
from fmnist.artifacts import HISTORY, METRICS, RunFolder
from fmnist.config import TrainConfig
from fmnist.data import Images, load
from fmnist.workflows.tensorflow_trainer import StrategyTrainer
from fmnist.workflows.train import train

pytestmark = pytest.mark.usefixtures("ray_cluster")

# Workers cannot import a test module: its functions travel with their code.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def losses_of_steps(settings: dict[str, Any]) -> list[list[float]]:
    """A worker's training function: the engine alone, under the strategy of the train job."""
    rank, workers = ray.train.get_context().get_world_rank(), ray.train.get_context().get_world_size()
    lanes = devices.configure_tensorflow(1, least_lanes=2 if workers == 1 else 1)
    import tensorflow as tf

    from fmnist import engine
    from fmnist.models import build_model, model_entry
    from fmnist.optimizers import FusedAdam

    strategy = tf.distribute.MultiWorkerMirroredStrategy() if workers > 1 else None
    # Other weights on rank 1: it has to take rank 0's before the first step.
    model = build_model("lenet5", seed=settings["seed"] + rank)
    epochs = engine.train(
        model,
        model_entry("lenet5").loss,
        FusedAdam(1e-3),
        settings["train"],
        settings["val"],
        batch_size=settings["batch_size"],
        epochs=2,
        seed=settings["seed"],
        shard=engine.Shard(strategy, rank, workers, lanes),
    )
    return [[*map(float, epoch.step_losses), epoch.loss, epoch.val_loss, epoch.val_accuracy] for epoch in epochs]


def run_engine(
    workers: int, train_images: Images, val_images: Images, batch_size: int = 64, seed: int = 0
) -> list[np.ndarray]:
    settings = {"train": train_images, "val": val_images, "batch_size": batch_size, "seed": seed}
    with cluster.connected():
        trainer = StrategyTrainer(
            losses_of_steps,
            train_loop_config=settings,
            scaling_config=ray.train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1}),
        )
        return [np.array(epoch) for epoch in trainer.fit().return_value]


# In seeds 1 and 2 a difference of rounding alone would turn a ReLU within twenty steps: docs/decisions/ has the story.
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_losses_do_not_depend_on_the_number_of_workers(small_data: Path, tmp_path: Path, seed: int) -> None:
    images = load(str(small_data), cache=tmp_path)
    # 1,599 and 499: neither the last batch nor the validation set divides evenly.
    train_images, val_images = images.train.select(np.arange(1_599)), images.test.select(np.arange(499))

    one, two = (run_engine(workers, train_images, val_images, seed=seed) for workers in (1, 2))

    assert len(one[0]) == 25 + 3
    np.testing.assert_allclose(two[0][:20], one[0][:20], rtol=1e-4)
    np.testing.assert_allclose(two, one, rtol=1e-4)


def test_a_batch_that_does_not_divide_by_the_workers_is_shared_all_the_same(small_data: Path, tmp_path: Path) -> None:
    images = load(str(small_data), cache=tmp_path)
    train_images, val_images = images.train.select(np.arange(305)), images.test.select(np.arange(7))

    one, two = (run_engine(workers, train_images, val_images, batch_size=61) for workers in (1, 2))

    assert len(one[0]) == 5 + 3
    np.testing.assert_allclose(two[0], one[0], rtol=1e-4)


def test_two_workers_leave_a_finished_run_like_one_workers(small_data: Path, tmp_path: Path) -> None:
    runs: list[RunFolder] = [
        train(
            TrainConfig(
                data=str(small_data),
                artifacts=str(tmp_path),
                run_id=f"workers-{workers}",
                epochs=2,
                workers=workers,
                cpus_per_worker=1,
            )
        )
        for workers in (1, 2)
    ]

    for run in runs:
        assert run.verify() == []
    one, two = (run.get_json(METRICS) for run in runs)
    assert two["workers"] == 2
    assert two["val"]["loss"] == pytest.approx(one["val"]["loss"], rel=0.02)
    assert two["test"]["accuracy"] == pytest.approx(one["test"]["accuracy"], abs=0.02)
    assert len(runs[1].get_bytes(HISTORY).splitlines()) == 1 + 2
