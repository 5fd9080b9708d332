"""Which images of a step each worker computes, and sums over all of them."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

# Gradients travel in buckets of about this many bytes, last layer first, so that the sum over workers of one bucket
# can overlap with the computation of the next. One message a variable costs more.
BUCKET_BYTES = 2**20


@dataclass(frozen=True)
class Shard:
    """Which share of each global batch this process computes, and in how many lanes.

    A lane is a slice of the batch whose gradient is computed apart from the others'. On a CPU, as many lanes as threads
    with operations of one thread each are faster than one lane whose every operation waits for all threads; and two
    workers of one lane compute the very numbers of one worker of two.

    Attributes:
        strategy: sums tensors over the workers; None when there is one worker.
        rank: of this worker, from 0.
        workers: how many there are.
        lanes: of this worker.
    """

    strategy: tf.distribute.Strategy | None = None
    rank: int = 0
    workers: int = 1
    lanes: int = 1

    @tf.autograph.experimental.do_not_convert
    def sum(self, value: tf.Tensor) -> tf.Tensor:
        """Returns the sum of ``value`` over all workers; each has to call it at the same point."""
        if self.strategy is None:
            return value

        def reduce(local: tf.Tensor) -> tf.Tensor:
            # The collective wants to know the tensor's device, which only an operation of the replica itself has.
            local = tf.identity(local)
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, local)

        return self.strategy.run(reduce, args=(value,))

    def deal(self, order: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns `batches` of this worker's lanes, stacked: both [steps, lanes, share]."""
        parts = range(self.rank * self.lanes, (self.rank + 1) * self.lanes)
        dealt = [batches(order, batch_size, part, self.workers * self.lanes) for part in parts]
        return np.stack([indices for indices, _ in dealt], axis=1), np.stack([present for _, present in dealt], axis=1)

    @tf.autograph.experimental.do_not_convert
    def sum_gradients(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the gradients summed over all workers, sent in a few buffers."""
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
        """Makes every worker start from the first one's state, whatever its own random numbers were."""

        @tf.function
        def copy() -> None:
            for variable in variables:
                value = variable.value if self.rank == 0 else tf.zeros_like(variable.value)
                variable.assign(self.sum(value))

        copy()


def batches(order: np.ndarray, batch_size: int, part: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Deals an epoch's images to the steps, and a step's to the lanes of all workers.

    Step ``s`` of all parts together uses ``order[s * batch_size : (s + 1) * batch_size]``, each image once. All
    shapes are equal, which a compiled step wants; places left over at the end repeat images of the epoch and weigh 0.

    Args:
        order: int [n], the images of the epoch in the order of their use.
        batch_size: images a step over all parts.
        part: this lane, counted from 0 over all workers.
        parts: how many there are.

    Returns:
        ``(indices, present)``: int32 and float32 [steps, share]; ``present`` is 1 for an image that counts, else 0.
    """
    count = len(order)
    batch_size = min(batch_size, count)
    steps = -(-count // batch_size)
    share = -(-batch_size // parts)
    place = part * share + np.arange(share)
    position = np.arange(steps)[:, None] * batch_size + place
    present = (place < batch_size) & (position < count)
    return order[position % count].astype(np.int32), present.astype(np.float32)
