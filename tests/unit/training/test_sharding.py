"""How an epoch's images are dealt to steps and workers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fmnist.training.sharding import batches


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
