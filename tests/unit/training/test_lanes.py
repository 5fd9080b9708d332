"""The law of lanes: how many workers compute the lanes of a training changes no bit of it.

Here the workers are threads of this process, which run TensorFlow's operations one by one;
tests/integration/workflows/train/test_workers.py has processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from worker_threads import connected

from fmnist.config import MODELS, SPACES
from fmnist.data import Images
from fmnist.models import sparse_cross_entropy
from fmnist.models.augmentation import RandomCrop
from fmnist.models.compiled import Trainable
from fmnist.models.factory import build
from fmnist.models.optimizers import FusedAdam
from fmnist.training import engine

NAMES = (*MODELS, *SPACES)
RANDOM = np.random.default_rng(0)
IMAGES = Images(RANDOM.integers(0, 256, (40, 28, 28), dtype=np.uint8), RANDOM.integers(0, 10, 40, dtype=np.uint8))


@pytest.fixture(autouse=True)
def _one_by_one() -> Iterator[None]:
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


Numbers = list[np.ndarray]


def trained(of: Callable[[int], Trainable], lanes: int, workers: int, batch_size: int) -> list[Numbers]:
    """Trains two epochs; returns the numbers of each worker: losses of all steps, scores, weights and other state."""
    gathers = connected(workers) if workers > 1 else [None]

    def work(rank: int) -> Numbers:
        built = models[rank]
        results = list(
            engine.train(
                built.model,
                built.loss,
                built.optimizer,
                IMAGES.select(np.arange(17)),
                IMAGES.select(np.arange(29, 40)),
                batch_size=batch_size,
                epochs=2,
                seed=3,
                shard=engine.Shard(lanes, rank, workers, gathers[rank]),
            )
        )
        scores = [[one.loss, one.accuracy, one.val_loss, one.val_accuracy] for one in results]
        state = [np.asarray(variable) for variable in (*built.model.variables, *built.optimizer.variables)]
        return [np.concatenate([one.step_losses for one in results]), np.array(scores), *state]

    # Layers take their seeds from one generator of the process. Other weights but on rank 0, whose all must take.
    models = [of(rank) for rank in range(workers)]
    with ThreadPoolExecutor(workers) as threads:
        return list(threads.map(work, range(workers)))


def assert_law(of: Callable[[int], Trainable], lanes: int, workers: int, batch_size: int) -> None:
    (one,) = trained(of, lanes, 1, batch_size)
    for several in trained(of, lanes, workers, batch_size):
        for expected, actual in zip(one, several, strict=True):
            np.testing.assert_array_equal(actual, expected)


def small(rank: int) -> Trainable:
    """A network with all that may differ: random layers, batch normalisation, regularisation, averaged weights."""
    keras.utils.set_random_seed(rank)
    images = keras.Input((28, 28), dtype="uint8")
    x = RandomCrop(1)(keras.layers.Reshape((28, 28, 1))(images))
    x = keras.layers.Conv2D(3, 5, strides=3)(keras.layers.Rescaling(1 / 255)(x))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    x = keras.layers.Dropout(0.3)(keras.layers.Flatten()(x))
    x = keras.layers.Dense(7, activation="relu", kernel_regularizer="l2", activity_regularizer="l1")(x)
    logits = keras.layers.Dense(10, name="logits")(keras.layers.Dropout(0.3)(x))
    model = keras.Model(images, keras.layers.Softmax()(logits))
    return Trainable(model, sparse_cross_entropy, FusedAdam(0.01, use_ema=True, ema_momentum=0.9))


@examples(4)
@given(lanes=st.integers(1, 8), workers=st.integers(2, 8), batch_size=st.sampled_from([6, 7, 16, 17, 64]))
def test_no_bit_depends_on_the_number_of_workers(lanes: int, workers: int, batch_size: int) -> None:
    assert_law(small, lanes, min(lanes, workers), batch_size)


# The test above has the layers of all.
@pytest.mark.parametrize(
    "name", ["lenet5", *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name != "lenet5")]
)
def test_no_bit_of_a_model_by_name_depends_on_the_number_of_workers(name: str) -> None:
    def of(rank: int) -> Trainable:
        return build(name, None, learning_rate=1e-3, seed=rank, precision="float32")

    assert_law(of, lanes=3, workers=2, batch_size=10)


def test_lanes_draw_other_random_numbers() -> None:
    seen: list[np.ndarray] = []

    class Noted(keras.layers.Layer):
        def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
            if training and not isinstance(x, keras.KerasTensor):
                seen.append(np.asarray(x))
            return x

    def of(rank: int) -> Trainable:
        keras.utils.set_random_seed(rank)
        images = keras.Input((28, 28), dtype="uint8")
        ones = keras.layers.Rescaling(0.0, offset=1.0)(keras.layers.Flatten()(images))
        logits = keras.layers.Dense(10, name="logits")(Noted()(keras.layers.Dropout(0.5)(ones)))
        return Trainable(keras.Model(images, keras.layers.Softmax()(logits)), sparse_cross_entropy, FusedAdam(0.01))

    trained(of, lanes=2, workers=1, batch_size=17)
    seen = [one for one in seen if one.min() == 0]

    assert len(seen) == 4  # two lanes in each of two steps
    assert len({one.tobytes() for one in seen}) == 4
