"""Data parallelism: which images of a step each worker computes, and sums over all lanes of all workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

# Gradients are exchanged between workers in buckets of about this many bytes, last layer first: one message per
# variable costs more, and the exchange of one bucket overlaps with the computation of the next.
BUCKET_BYTES = 2**20

# Between the seeds of two lanes' random numbers: large and odd, so that no lane has the seed of another layer.
LANE_SEED = 2_654_435_761

Gather = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Shard:
    """The lanes that this process computes.

    A lane is a slice of each global batch whose gradient is computed separately. Sums over the lanes have one order,
    that of a binary tree over all lanes. Each worker sums the whole subtrees that it has, the workers exchange these
    sums, and each adds them up to the root. So all numbers of a training depend on the number of lanes only, to the
    last bit, and not on the number of workers.

    On a CPU the lanes of a worker run in parallel: one lane per thread is faster than one lane whose operations each
    use all threads.

    Attributes:
        lanes: of all workers together, at least one for each of them.
        rank: of this worker, from 0.
        workers: number of workers.
        gather: given a tensor [n], of the same shape on each worker, returns those of all workers, [workers * n], in
            the order of their ranks; each worker must call this at the same point. None for one worker.
    """

    lanes: int = 1
    rank: int = 0
    workers: int = 1
    gather: Gather | None = None

    @property
    def own(self) -> range:
        """The lanes of this worker. Where workers cannot share the lanes evenly, some have one more than others."""
        return self._lanes_of(self.rank)

    def _lanes_of(self, rank: int) -> range:
        return range(self.lanes * rank // self.workers, self.lanes * (rank + 1) // self.workers)

    def split(self, order: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the `batches` of this worker's lanes, stacked: indices and mask, both [steps, own lanes, share]."""
        shares = [batches(order, batch_size, lane, self.lanes) for lane in self.own]
        return np.stack([indices for indices, _ in shares], axis=1), np.stack([mask for _, mask in shares], axis=1)

    @tf.autograph.experimental.do_not_convert
    def subtotals(self, of_lanes: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Sums the tensors of this worker's lanes over each of its subtrees; one worker has one subtree."""
        leaves = {range(lane, lane + 1): value for lane, value in zip(self.own, of_lanes, strict=True)}
        return [_total(subtree, leaves) for subtree in _subtrees(range(self.lanes), self.own)]

    @tf.autograph.experimental.do_not_convert
    def totals(self, values: Sequence[list[tf.Tensor]]) -> list[tf.Tensor]:
        """Returns the sum over all lanes of each value, from this worker's subtotals of it."""
        if self.gather is None:
            return [subtotal for (subtotal,) in values]
        totals = list[tf.Tensor | None]([None] * len(values))
        bucket: list[int] = []
        for place in reversed(range(len(values))):
            bucket.append(place)
            size = sum(values[one][0].shape.num_elements() * values[one][0].dtype.size for one in bucket)
            if place == 0 or size >= BUCKET_BYTES or values[place - 1][0].dtype != values[place][0].dtype:
                for one, total in zip(bucket, self._exchange([values[one] for one in bucket]), strict=True):
                    totals[one] = total
                bucket = []
        return totals

    def sum(self, of_lanes: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the sum over all lanes, from the tensors of this worker's lanes."""
        return self.totals([self.subtotals(of_lanes)])[0]

    def _exchange(self, bucket: list[list[tf.Tensor]]) -> list[tf.Tensor]:
        assert self.gather is not None
        subtrees = [_subtrees(range(self.lanes), self._lanes_of(rank)) for rank in range(self.workers)]
        # All workers send as much as the one with the most subtrees.
        most = max(map(len, subtrees))
        parts = [tf.reshape(value[i], [-1]) for i in range(len(bucket[0])) for value in bucket]
        sizes = [value[0].shape.num_elements() for value in bucket]
        if padding := (most - len(bucket[0])) * sum(sizes):
            parts.append(tf.zeros([padding], parts[0].dtype))
        rows = tf.reshape(self.gather(tf.concat(parts, axis=0)), [self.workers * most, sum(sizes)])
        received = tf.unstack(rows)
        known = {
            subtree: received[rank * most + i]
            for rank, of_rank in enumerate(subtrees)
            for i, subtree in enumerate(of_rank)
        }
        totals = tf.split(_total(range(self.lanes), known), sizes)
        return [tf.reshape(total, value[0].shape) for total, value in zip(totals, bucket, strict=True)]

    def copy_from_rank_zero(self, variables: list[keras.Variable]) -> None:
        """Sets the variables of every worker to those of the first worker."""
        gather = self.gather
        if gather is None:
            return

        @tf.function
        def copy() -> None:
            for variable in variables:
                values = gather(tf.reshape(variable.value, [-1]))
                variable.assign(tf.reshape(values[: variable.value.shape.num_elements()], variable.value.shape))

        copy()


def _total(lanes: range, known: dict[range, tf.Tensor]) -> tf.Tensor:
    """Returns the sum over a subtree of lanes, from the sums over smaller ones that are known.

    TensorFlow's optimizer of graphs makes one sum of sums of sums, in an order of its own, but only of tensors of one
    shape. So each level of the tree has another shape than the one below.
    """

    def total(lanes: range, level: int) -> tf.Tensor:
        if lanes in known:
            return known[lanes]
        middle, shape = len(lanes) // 2, [[1, -1, 1, 1, 1], [-1, 1, 1, 1, 1]][level % 2]
        left, right = (tf.reshape(total(half, level + 1), shape) for half in (lanes[:middle], lanes[middle:]))
        return left + right

    return tf.reshape(total(lanes, 0), next(iter(known.values())).shape)


def _subtrees(lanes: range, own: range) -> list[range]:
    """Returns the largest subtrees of a tree of lanes that have no lane but the worker's own."""
    if own.start <= lanes.start and lanes.stop <= own.stop:
        return [lanes]
    if lanes.stop <= own.start or own.stop <= lanes.start:
        return []
    middle = len(lanes) // 2
    return [*_subtrees(lanes[:middle], own), *_subtrees(lanes[middle:], own)]


def gather_over(strategy: tf.distribute.Strategy) -> Gather:
    """Returns the `Shard.gather` of a `tf.distribute.MultiWorkerMirroredStrategy`."""
    # The replica context's own `all_gather` exchanges lengths first, each time.
    (launcher,) = strategy.extended._cross_device_ops._launchers

    @tf.autograph.experimental.do_not_convert
    def gather(value: tf.Tensor) -> tf.Tensor:
        return launcher._all_gather(value, None)

    return gather


class LaneScope(keras.StatelessScope):
    """The forward pass of a lane inside of it changes none of the model's state; the scope has the changed values.

    Each lane of a step begins with the same statistics, and with random numbers of its own. What the pass changes of
    other variables than those given is changed as without a scope.

    Args:
        statistics: floating-point state that a forward pass may change, such as that of batch normalisation.
        counters: other state, such as that of random layers.
        lane: number of the lane.
    """

    def __init__(self, statistics: list[keras.Variable], counters: list[keras.Variable], lane: int) -> None:
        self._statistics, self._counters = statistics, counters
        seed = tf.constant([lane * LANE_SEED, 0], tf.int64)
        self._offsets = {id(v): seed for v in counters if v.name == "seed_generator_state"}
        starts = [(v, tf.identity(v.value)) for v in (*statistics, *counters)]
        own = [(v, value + self._offsets[id(v)] if id(v) in self._offsets else value) for v, value in starts]
        super().__init__(own, collect_losses=True)
        self._starts = dict(self.state_mapping)

    def get_current_value(self, variable: keras.Variable) -> tf.Tensor | tf.Variable:
        value = super().get_current_value(variable)
        # Keras asks here for the weights that it regularises.
        return variable._value if value is None else value

    def add_update(self, update: tuple[keras.Variable, tf.Tensor]) -> None:
        variable, value = update
        if id(variable) in self._starts:
            super().add_update(update)
        else:
            variable._direct_assign(value)

    def changed_statistics(self) -> list[tf.Tensor | None]:
        """Returns the lane's values of the statistics, None for one that it has not changed."""
        values = ((self.state_mapping[id(v)], self._starts[id(v)]) for v in self._statistics)
        return [None if value is start else value for value, start in values]

    def next_counters(self) -> list[tf.Tensor]:
        """Returns the counters after the step, the same of each lane."""
        values = ((id(v), self.state_mapping[id(v)]) for v in self._counters)
        return [value - self._offsets[key] if key in self._offsets else value for key, value in values]


def batches(order: np.ndarray, batch_size: int, part: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits an epoch's images into steps, and each step into one share per lane.

    Step ``s`` of all lanes together uses ``order[s * batch_size : (s + 1) * batch_size]``, each image once. All shapes
    are equal, as a compiled step needs; the padding repeats images of the epoch, with a mask of 0.

    Args:
        order: int [n], the images of the epoch in the order of their use.
        batch_size: images per step over all lanes.
        part, parts: number of the lane, from 0, and of all lanes of all workers.

    Returns:
        ``(indices, mask)``: int32 and float32 [steps, share]; the mask is 0 for padding, else 1.
    """
    count = len(order)
    batch_size = min(batch_size, count)
    steps = -(-count // batch_size)
    share = -(-batch_size // parts)
    place = part * share + np.arange(share)
    position = np.arange(steps)[:, None] * batch_size + place
    mask = (place < batch_size) & (position < count)
    return order[position % count].astype(np.int32), mask.astype(np.float32)
