"""The training loop: how an image becomes a gradient, a metric and an epoch's result.

It knows nothing of Ray, files or stores. `train` is a generator of epochs; whoever calls it decides when to stop and
what to keep. An epoch is one call into TensorFlow: the images stay on the device as uint8; their order in the epoch
goes in, sums come out.

Keras' own ``fit`` does not run under ``MultiWorkerMirroredStrategy`` with Keras 3, and on a CPU it is the slower one of
the two; docs/decisions/ has the measurements.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fmnist.data import Images
from fmnist.errors import TrainingError
from fmnist.models import LOGITS, Loss

# Gradients travel in buckets of about this many bytes, last layer first, so that the sum over workers of one bucket
# overlaps with the computation of the next. One message a variable costs more, and a single one overlaps with nothing.
BUCKET_BYTES = 2**20

# Images a validation step, over all workers. Large enough that dispatch costs nothing, small enough for any GPU.
VALIDATION_BATCH_SIZE = 1000


@dataclass(frozen=True)
class EpochResult:
    """What one epoch did, summed over all workers and equal on each of them.

    Attributes:
        epoch: counted from 1.
        loss: mean over the training images of the loss at the step that used the image.
        accuracy: share of training images classified rightly at that step, 0-1.
        val_loss: mean over the validation images after the epoch.
        val_accuracy: share of validation images classified rightly after the epoch, 0-1.
        learning_rate: at the end of the epoch.
        seconds: wall time of training and validation.
        images_per_second: training images over the wall time of training alone.
        step_losses: float32 [steps], the mean loss of each global batch.
    """

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    seconds: float
    images_per_second: float
    step_losses: np.ndarray = field(repr=False, compare=False)

    def row(self) -> dict[str, float]:
        """The scalars, as a row of ``history.csv``."""
        return {name: value for name, value in asdict(self).items() if name != "step_losses"}


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


def train(
    model: keras.Model,
    loss: Loss,
    optimizer: keras.optimizers.Optimizer,
    train_images: Images,
    val_images: Images,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    first_epoch: int = 1,
    shard: Shard | None = None,
    xla: bool = False,
) -> Iterator[EpochResult]:
    """Trains ``model`` in place and yields after each epoch.

    With W workers every step uses the same global batch as with one, split W ways, so the losses do not depend on W
    but for rounding; that holds for models without dropout and batch normalisation, which see only their share.

    Args:
        model: uint8 [n, 28, 28] to probabilities [n, 10], with a layer named "logits" before the softmax.
        loss: int labels [n] and logits [n, 10] to a loss an image [n].
        optimizer: any Keras optimizer.
        train_images: at least one.
        val_images: at least one.
        batch_size: images a step over all workers, 1 or more; the last, incomplete batch of an epoch is used too.
        epochs: number of the last epoch.
        seed: of the order of the images, which is drawn anew for each epoch from (seed, epoch) alone, so that a resumed
            run sees the same order as an undisturbed one.
        first_epoch: number of the first epoch; above 1 when model and optimizer come from a checkpoint.
        shard: this worker's share; all of it if None.
        xla: compile the step with XLA.

    Yields:
        One result an epoch. Model and optimizer hold that epoch's state until the next one is asked for.

    Raises:
        TrainingError: if the loss of a step is not finite.
    """
    shard = shard or Shard()
    optimizer.build(model.trainable_variables)
    train_epoch, validate = _compile(model, loss, optimizer, train_images, val_images, shard, xla)
    if shard.strategy is not None:
        _copy_from_rank_zero([*model.variables, *optimizer.variables], shard)

    val_batches = _of_lanes(np.arange(len(val_images)), VALIDATION_BATCH_SIZE, shard)
    for epoch in range(first_epoch, epochs + 1):
        started = time.perf_counter()
        order = np.random.default_rng([seed, epoch]).permutation(len(train_images))
        step_losses, hits = train_epoch(*_of_lanes(order, batch_size, shard))
        step_losses = step_losses.numpy()
        trained = time.perf_counter()
        if not np.isfinite(step_losses).all():
            step = int(np.flatnonzero(~np.isfinite(step_losses))[0])
            raise TrainingError(
                f"epoch {epoch}, step {step + 1} of {len(step_losses)}: the loss is {step_losses[step]}, expected a "
                f"finite number; try a learning rate below {float(optimizer.learning_rate):g}"
            )
        val_loss, val_hits = (float(total) for total in validate(*val_batches))
        images_a_step = np.minimum(batch_size, len(order) - batch_size * np.arange(len(step_losses)))
        yield EpochResult(
            epoch=epoch,
            loss=float(step_losses.astype(np.float64) @ images_a_step / len(order)),
            accuracy=float(hits) / len(order),
            val_loss=val_loss / len(val_images),
            val_accuracy=val_hits / len(val_images),
            learning_rate=float(optimizer.learning_rate),
            seconds=time.perf_counter() - started,
            images_per_second=len(order) / (trained - started),
            step_losses=step_losses,
        )


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


def _of_lanes(order: np.ndarray, batch_size: int, shard: Shard) -> tuple[np.ndarray, np.ndarray]:
    """`batches` of this worker's lanes, stacked: both [steps, lanes, share]."""
    parts = range(shard.rank * shard.lanes, (shard.rank + 1) * shard.lanes)
    dealt = [batches(order, batch_size, part, shard.workers * shard.lanes) for part in parts]
    return np.stack([indices for indices, _ in dealt], axis=1), np.stack([present for _, present in dealt], axis=1)


def _compile(
    model: keras.Model,
    loss: Loss,
    optimizer: keras.optimizers.Optimizer,
    train_images: Images,
    val_images: Images,
    shard: Shard,
    xla: bool,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns the two functions that run an epoch's training and its validation inside TensorFlow."""
    network = keras.Model(model.inputs, model.get_layer(LOGITS).output)
    variables = model.trainable_variables
    averaged = [v for v in model.non_trainable_variables if "float" in v.dtype]
    train_pixels, train_labels = tf.constant(train_images.pixels), tf.constant(train_images.labels)
    val_pixels, val_labels = tf.constant(val_images.pixels), tf.constant(val_images.labels)

    def forward(
        pixels: tf.Tensor, labels: tf.Tensor, present: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The summed loss and the number of right answers of the images that count."""
        labels = tf.cast(labels, tf.int32)
        logits = network(pixels, training=training)
        right = tf.cast(tf.argmax(logits, axis=-1, output_type=tf.int32) == labels, tf.float32)
        return tf.reduce_sum(loss(labels, logits) * present), tf.reduce_sum(right * present)

    def gradients_of(
        pixels: tf.Tensor, labels: tf.Tensor, present: tf.Tensor, count: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            total, hits = forward(pixels, labels, present, training=True)
            # Divided by the global batch, the lanes' shares sum to the gradient of the global mean. Regularisation
            # belongs to the model, not to an image, so every lane brings its part of it.
            mean = total / count
            objective = mean + tf.add_n([0.0, *network.losses]) / (shard.workers * shard.lanes)
        gradients = tape.gradient(
            objective, [v.value for v in variables], unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return mean, hits, gradients

    gradients_of = tf.function(gradients_of, jit_compile=True) if xla else gradients_of

    @tf.function
    def train_epoch(indices: tf.Tensor, present: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        steps = tf.shape(indices)[0]
        counts = shard.sum(tf.reduce_sum(present, axis=[1, 2]))
        losses, hits = tf.TensorArray(tf.float32, steps), 0.0
        for step in tf.range(steps):
            pixels, labels = tf.gather(train_pixels, indices[step]), tf.gather(train_labels, indices[step])
            # A Python loop: TensorFlow sees lanes that do not depend on each other, and runs them at once.
            lanes = [
                gradients_of(pixels[lane], labels[lane], present[step, lane], counts[step])
                for lane in range(shard.lanes)
            ]
            lane_losses, lane_hits, lane_gradients = zip(*lanes, strict=True)
            gradients = [tf.add_n(list(of_variable)) for of_variable in zip(*lane_gradients, strict=True)]
            optimizer.apply(_sum_gradients(gradients, shard), variables)
            losses, hits = losses.write(step, tf.add_n(list(lane_losses))), hits + tf.add_n(list(lane_hits))
        for variable in averaged if shard.workers > 1 else []:
            variable.assign(shard.sum(variable.value) / shard.workers)
        return shard.sum(losses.stack()), shard.sum(hits)

    @tf.function
    def validate(indices: tf.Tensor, present: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # In float64 the sums are exact to the float32 losses that enter them, however they are sharded.
        sums = tf.zeros((2,), tf.float64)
        for step in tf.range(tf.shape(indices)[0]):
            pixels, labels = tf.gather(val_pixels, indices[step]), tf.gather(val_labels, indices[step])
            for lane in range(shard.lanes):
                loss_and_hits = forward(pixels[lane], labels[lane], present[step, lane], training=False)
                sums += tf.cast(tf.stack(loss_and_hits), tf.float64)
        sums = shard.sum(sums)
        return sums[0], sums[1]

    return train_epoch, validate


@tf.autograph.experimental.do_not_convert
def _sum_gradients(gradients: list[tf.Tensor], shard: Shard) -> list[tf.Tensor]:
    """Sums gradients over the workers, packed into a few buffers."""
    if shard.strategy is None:
        return gradients
    summed: list[tf.Tensor] = []
    bucket: list[tf.Tensor] = []
    for position, gradient in enumerate(reversed(gradients), start=1):
        bucket.append(gradient)
        if position == len(gradients) or sum(g.shape.num_elements() * g.dtype.size for g in bucket) >= BUCKET_BYTES:
            buffer = shard.sum(tf.concat([tf.reshape(g, [-1]) for g in bucket], axis=0))
            parts = tf.split(buffer, [g.shape.num_elements() for g in bucket])
            summed += [tf.reshape(part, g.shape) for part, g in zip(parts, bucket, strict=True)]
            bucket = []
    return summed[::-1]


def _copy_from_rank_zero(variables: list[keras.Variable], shard: Shard) -> None:
    """Makes every worker start from the first one's state, whatever its own random numbers were."""

    @tf.function
    def copy() -> None:
        for variable in variables:
            value = variable.value if shard.rank == 0 else tf.zeros_like(variable.value)
            variable.assign(shard.sum(value))

    copy()
