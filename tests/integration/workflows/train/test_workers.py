"""Data-parallel training: what two workers compute is what one computes."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray.train
from ray import cloudpickle

from fmnist.data import load
from fmnist.distributed import cluster
from fmnist.distributed.trainer import StrategyTrainer
from fmnist.runs import HISTORY, METRICS, RunFolder
from fmnist.training import devices
from fmnist.workflows.train.config import TrainConfig
from fmnist.workflows.train.job import train

pytestmark = pytest.mark.usefixtures("ray_cluster")

# Workers cannot import a test module: its functions travel with their code.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclass(frozen=True)
class Case:
    """What an engine trains on: how many images, in batches of how many, from which seed, and how.

    With XLA the model is tiny: a CPU takes half a minute to compile LeNet-5.
    """

    train: int
    val: int
    batch_size: int
    seed: int
    xla: bool = False


# In seeds 1 and 2 a difference of rounding alone would turn a ReLU within twenty steps: docs/decisions/ has the story.
# 1,599 and 499: neither the last batch nor the validation set divides evenly; 61: no batch does.
# One worker compiles whole epochs with XLA; two compile what a step computes before and after their sum.
CASES = [*(Case(1_599, 499, 64, seed) for seed in (0, 1, 2)), Case(305, 7, 61, 0), Case(150, 49, 32, 0, xla=True)]


def tiny_model(seed: int) -> Any:
    import keras

    keras.utils.set_random_seed(seed)
    images = keras.Input((28, 28), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(keras.layers.Flatten()(images))
    logits = keras.layers.Dense(10, name="logits")(keras.layers.Dense(8, activation="tanh")(x))
    return keras.Model(images, keras.layers.Softmax()(logits))


def losses_of_steps(settings: dict[str, Any]) -> list[list[list[float]]]:
    """A worker's training function: the engine alone, under the strategy of the train job, in each of the cases."""
    rank, workers = ray.train.get_context().get_world_rank(), ray.train.get_context().get_world_size()
    lanes = devices.configure_tensorflow(1, least_lanes=2 if workers == 1 else 1)
    import tensorflow as tf

    from fmnist.models import MODELS, build_model
    from fmnist.models.optimizers import FusedAdam
    from fmnist.training import engine

    strategy = tf.distribute.MultiWorkerMirroredStrategy() if workers > 1 else None
    losses = []
    for case in CASES:
        # Other weights on rank 1: it has to take rank 0's before the first step.
        seed = case.seed + rank
        model = tiny_model(seed) if case.xla else build_model("lenet5", seed=seed)
        epochs = engine.train(
            model,
            MODELS["lenet5"].loss,
            FusedAdam(1e-3),
            settings["train"].select(np.arange(case.train)),
            settings["val"].select(np.arange(case.val)),
            batch_size=case.batch_size,
            epochs=2,
            seed=case.seed,
            shard=engine.Shard(strategy, rank, workers, lanes),
            xla=case.xla,
        )
        losses.append(
            [[*map(float, epoch.step_losses), epoch.loss, epoch.val_loss, epoch.val_accuracy] for epoch in epochs]
        )
    return losses


@pytest.fixture(scope="module")
def losses(ray_cluster: str, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[np.ndarray]]:
    """For one worker and for two, the losses of each case's steps and epochs."""
    images = load(str(small_data), cache=tmp_path_factory.mktemp("cache"))
    with cluster.connected():
        trainers = {
            workers: StrategyTrainer(
                losses_of_steps,
                train_loop_config={"train": images.train, "val": images.test},
                scaling_config=ray.train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1}),
            )
            for workers in (1, 2)
        }
        return {workers: [np.array(case) for case in one.fit().return_value] for workers, one in trainers.items()}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_losses_do_not_depend_on_the_number_of_workers(losses: dict[int, list[np.ndarray]], case: Case) -> None:
    one, two = (losses[workers][CASES.index(case)] for workers in (1, 2))

    assert one.shape == (2, math.ceil(case.train / case.batch_size) + 3)
    np.testing.assert_allclose(two, one, rtol=1e-4)


# A finished run of two workers is also that of tests/acceptance/test_train_job.py.
@pytest.mark.slow
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
