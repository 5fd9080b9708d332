"""How an epoch's images are dealt to steps and workers."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fmnist.training.sharding import Shard, batches


@given(count=st.integers(1, 300), batch_size=st.integers(1, 70), workers=st.integers(1, 7), seed=st.integers(0, 9))
def test_every_step_uses_the_same_global_batch_however_many_workers_share_it(
    count: int, batch_size: int, workers: int, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(count)

    shares = [batches(order, batch_size, rank, workers) for rank in range(workers)]

    steps = -(-count // batch_size)
    for step in range(steps):
        together = np.concatenate([indices[step][mask[step] == 1] for indices, mask in shares])
        np.testing.assert_array_equal(together, order[step * batch_size : (step + 1) * batch_size])


@given(count=st.integers(1, 300), batch_size=st.integers(1, 70), workers=st.integers(1, 7))
def test_all_workers_take_equally_many_steps_of_one_shape(count: int, batch_size: int, workers: int) -> None:
    shapes = {batches(np.arange(count), batch_size, rank, workers)[0].shape for rank in range(workers)}

    assert len(shapes) == 1
    steps, share = shapes.pop()
    assert steps == -(-count // batch_size)
    assert share == -(-min(batch_size, count) // workers)


def test_left_over_places_repeat_images_and_weigh_nothing() -> None:
    indices, mask = batches(np.array([4, 2, 0, 1, 3]), 4, part=0, parts=1)

    np.testing.assert_array_equal(indices, [[4, 2, 0, 1], [3, 4, 2, 0]])
    np.testing.assert_array_equal(mask, [[1, 1, 1, 1], [1, 0, 0, 0]])


@pytest.mark.parametrize("lanes", [2, 3, 5, 8])
def test_graph_sums_lanes_in_the_order_of_the_tree(lanes: int) -> None:
    # Of sizes so different that each order of summation gives another result.
    random = np.random.default_rng(lanes)
    values = (random.normal(size=(lanes, 1000)) * 10 ** random.uniform(0, 6, (lanes, 1000))).astype(np.float32)

    def tree(part: np.ndarray) -> np.ndarray:
        middle = len(part) // 2
        return part[0] if len(part) == 1 else tree(part[:middle]) + tree(part[middle:])

    @tf.function
    def summed(part: tf.Tensor) -> tf.Tensor:
        return Shard(lanes).sum(tf.unstack(part)) + tf.zeros([1000])

    np.testing.assert_array_equal(summed(tf.constant(values)), tree(values))


@given(lanes=st.integers(1, 20), workers=st.integers(1, 20))
def test_each_lane_has_one_worker_and_all_have_some(lanes: int, workers: int) -> None:
    workers = min(workers, lanes)
    own = [Shard(lanes, rank, workers).own for rank in range(workers)]

    assert [lane for part in own for lane in part] == list(range(lanes))
    assert max(map(len, own)) - min(map(len, own)) <= 1 <= min(map(len, own))
