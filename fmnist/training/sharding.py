"""Data parallelism: which images of a step each worker computes, and sums over all workers."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

# Gradients are summed over the workers in buckets of about this many bytes, last layer first: one message per variable
# costs more, and the sum of one bucket overlaps with the computation of the next.
BUCKET_BYTES = 2**20


@dataclass(frozen=True)
class Shard:
    """The share of each global batch that this process computes, and its number of lanes.

    A lane is a slice of the batch whose gradient is computed separately, in parallel with the other lanes'. On a CPU,
    one lane per thread is faster than one lane whose operations each use all threads. Two workers of one lane compute
    exactly the numbers of one worker of two lanes.

    Attributes:
        strategy: sums tensors over the workers; None for one worker.
        rank: of this worker, from 0.
        workers: number of workers.
        lanes: number of lanes of this worker.
    """

    strategy: tf.distribute.Strategy | None = None
    rank: int = 0
    workers: int = 1
    lanes: int = 1

    @tf.autograph.experimental.do_not_convert
    def sum(self, value: tf.Tensor) -> tf.Tensor:
        """Returns the sum of ``value`` over all workers, each of which must call this at the same point."""
        if self.strategy is None:
            return value

        def reduce(local: tf.Tensor) -> tf.Tensor:
            # The collective needs the tensor's device, which only the result of an operation in the replica has.
            local = tf.identity(local)
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, local)

        return self.strategy.run(reduce, args=(value,))

    def split(self, order: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the `batches` of this worker's lanes, stacked: indices and mask, both [steps, lanes, share]."""
        lanes = range(self.rank * self.lanes, (self.rank + 1) * self.lanes)
        shares = [batches(order, batch_size, lane, self.workers * self.lanes) for lane in lanes]
        return np.stack([indices for indices, _ in shares], axis=1), np.stack([mask for _, mask in shares], axis=1)

    @tf.autograph.experimental.do_not_convert
    def sum_gradients(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the gradients summed over all workers, sent in a few buckets."""
        if self.strategy is None:
            return gradients
        summed: list[tf.Tensor] = []
        bucket: list[tf.Tensor] = []
        for position, gradient in enumerate(reversed(gradients), start=1):
            bucket.append(gradient)
            if position == len(gradients) or sum(g.shape.num_elements() * g.dtype.size for g in bucket) >= BUCKET_BYTES:
                buffer = self.sum(tf.concat([tf.reshape(g, [-1]) for g in bucket], axis=0))
                parts = tf.split(buffer, [g.shape.num_elements() for g in bucket])
                summed += [tf.reshape(part, g.shape) for part, g in zip(parts, bucket, strict=True)]
                bucket = []
        return summed[::-1]

    def copy_from_rank_zero(self, variables: list[keras.Variable]) -> None:
        """Sets the variables of every worker to those of the first worker."""

        @tf.function
        def copy() -> None:
            for variable in variables:
                value = variable.value if self.rank == 0 else tf.zeros_like(variable.value)
                variable.assign(self.sum(value))

        copy()


def batches(order: np.ndarray, batch_size: int, part: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits an epoch's images into steps, and each step into one share per lane.

    Step ``s`` of all lanes together uses ``order[s * batch_size : (s + 1) * batch_size]``, each image once. All shapes
    are equal, as a compiled step needs; the padding repeats images of the epoch, with a mask of 0.

    Args:
        order: int [n], the images of the epoch in the order of their use.
        batch_size: images per step over all lanes.
        part: number of the lane, from 0, over all workers.
        parts: number of lanes of all workers.

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
