"""Data-parallel training: what two workers compute is what one computes, to the last bit."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import ray.train
from ray import cloudpickle

from fmnist.data import load
from fmnist.distributed import cluster
from fmnist.distributed.trainer import StrategyTrainer
from fmnist.distributed.workers import join
from fmnist.runs import HISTORY, METRICS, RunFolder
from fmnist.training import devices
from fmnist.workflows.train.config import TrainConfig
from fmnist.workflows.train.job import train

if TYPE_CHECKING:
    import tensorflow as tf

    from fmnist.training.sharding import Shard

pytestmark = pytest.mark.usefixtures("ray_cluster")

# Workers cannot import a test module: its functions travel with their code.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclass(frozen=True)
class Case:
    """What an engine trains on: how many images, in batches of how many, from which seed, and how.

    With XLA the model is tiny: a CPU takes half a minute to compile LeNet-5. The model fast has batch normalisation and
    random layers.
    """

    train: int
    val: int
    batch_size: int
    seed: int
    model: str = "lenet5"
    lanes: int = 2
    xla: bool = False


# In seed 1 a difference of rounding alone would turn a ReLU within twenty steps: docs/decisions/ has the story.
# 1,599 and 499: neither the last batch nor the validation set divides evenly; 61: no batch does.
# One worker compiles whole epochs with XLA; two compile what a step computes before and after their sum.
CASES = [
    Case(1_599, 499, 64, 1),
    Case(305, 7, 61, 0, lanes=3),
    Case(305, 7, 61, 0, "fast", lanes=5),
    Case(150, 49, 32, 0, "tiny", xla=True),
]


def tiny_model(seed: int) -> Any:
    import keras

    keras.utils.set_random_seed(seed)
    images = keras.Input((28, 28), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(keras.layers.Flatten()(images))
    logits = keras.layers.Dense(10, name="logits")(keras.layers.Dense(8, activation="tanh")(x))
    return keras.Model(images, keras.layers.Softmax()(logits))


def losses_of_steps(settings: dict[str, Any]) -> dict[str, list[list[list[float]]]]:
    """A worker's training function: the engine alone in each of the cases, by each exchange of the train job."""
    workers = ray.train.get_context().get_world_size()
    if workers == 1:
        return {"one": [losses_of_case(case, join(1, case.lanes, deterministic=False), settings) for case in CASES]}
    import tensorflow as tf

    devices.configure_tensorflow(1)
    # What `join` takes for workers of several machines; it must be the first to use TensorFlow.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    from fmnist.training.sharding import gather_over

    shared = join(1, 2, deterministic=False)
    exchanges = {"shared memory": shared, "strategy": replace(shared, gather=gather_over(strategy))}
    losses = {
        name: [losses_of_case(case, replace(shard, lanes=case.lanes), settings) for case in CASES]
        for name, shard in exchanges.items()
    }
    return {**losses, "order": exchanged_out_of_step(shared)}


def losses_of_case(case: Case, shard: Shard, settings: dict[str, Any]) -> list[list[float]]:
    from fmnist.models import sparse_cross_entropy
    from fmnist.models.compiled import Trainable
    from fmnist.models.factory import build
    from fmnist.models.optimizers import FusedAdam
    from fmnist.training import engine

    # Other weights on rank 1: it has to take rank 0's before the first step.
    seed = case.seed + shard.rank
    if case.model == "tiny":
        built = Trainable(tiny_model(seed), sparse_cross_entropy, FusedAdam(1e-3))
    else:
        built = build(case.model, None, learning_rate=1e-3, seed=seed, precision="float32")
    epochs = engine.train(
        built.model,
        built.loss,
        built.optimizer,
        settings["train"].select(np.arange(case.train)),
        settings["val"].select(np.arange(case.val)),
        batch_size=case.batch_size,
        epochs=2,
        seed=case.seed,
        shard=shard,
        xla=case.xla,
    )
    losses = []
    for epoch in epochs:
        state = sum(float(np.asarray(variable, np.float64).sum()) for variable in built.model.variables)
        losses.append([*map(float, epoch.step_losses), epoch.loss, epoch.val_loss, epoch.val_accuracy, state])
    return losses


STEPS = 100


def exchanged_out_of_step(shard: Shard) -> list[list[list[float]]]:
    """Exchanges three values a step and one at the end, none of which needs another; each worker has its own pace."""
    import tensorflow as tf

    random, gather = np.random.default_rng(shard.rank), shard.gather
    assert gather

    def pause(value: np.ndarray) -> np.ndarray:
        time.sleep(random.uniform(0, 0.002))
        return value

    def late(value: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(pause, [value], tf.float32, stateful=False), [1])

    @tf.function
    def exchange() -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.TensorArray(tf.float32, STEPS)
        for step in tf.range(STEPS):
            value = tf.reshape(tf.cast(step, tf.float32), [1])
            rows = rows.write(step, tf.stack([gather(late(value)), gather(late(value + 0.25)), gather(value + 0.5)]))
        return rows.stack(), gather(tf.constant([-1.0]))

    steps, last = exchange()
    return [*steps.numpy().tolist(), [last.numpy().tolist()]]


@pytest.fixture(scope="module")
def found(ray_cluster: str, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """By one worker and by two with either exchange: the losses of each case's steps and epochs, and the sum of all
    weights and state; and what two workers received in `exchanged_out_of_step`."""
    images = load(str(small_data), cache=tmp_path_factory.mktemp("cache"))
    with cluster.connected():
        trainers = [
            StrategyTrainer(
                losses_of_steps,
                train_loop_config={"train": images.train, "val": images.test},
                scaling_config=ray.train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1}),
            )
            for workers in (1, 2)
        ]
        return {name: value for trainer in trainers for name, value in trainer.fit().return_value.items()}


@pytest.mark.parametrize("exchange", ["shared memory", "strategy"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_losses_do_not_depend_on_the_number_of_workers(found: dict[str, list[Any]], exchange: str, case: Case) -> None:
    one, two = (np.array(found[name][CASES.index(case)]) for name in ("one", exchange))

    assert one.shape == (2, math.ceil(case.train / case.batch_size) + 4)
    if case.xla:
        # It compiles other programs for one worker, and may round otherwise.
        np.testing.assert_allclose(two, one, rtol=1e-4)
    else:
        np.testing.assert_array_equal(two, one)


def test_exchanges_follow_each_other_in_the_order_of_the_program(found: dict[str, list[Any]]) -> None:
    *steps, last = found["order"]

    assert steps == [[[step + part] * 2 for part in (0, 0.25, 0.5)] for step in range(STEPS)]
    assert last == [[-1, -1]]


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
