"""The training loop: how an image becomes a gradient, a metric and an epoch's result.

It knows nothing of Ray, files or stores. `train` is a generator of epochs; the caller decides when to stop and what to
keep. An epoch is one call into TensorFlow: the images stay on the device as uint8, the call takes their order and
returns sums. Where XLA compiles it, it is one program, so that no step waits for Python or for the launch of a kernel.

Keras' own ``fit`` does not run under ``MultiWorkerMirroredStrategy`` with Keras 3, and is slower on a CPU;
docs/decisions/ has the measurements.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fmnist.errors import TrainingError
from fmnist.models import LOGITS, Loss, changing_variables
from fmnist.models.optimizers import swap_averages
from fmnist.models.schedules import set_length
from fmnist.training.compilation import Compiler
from fmnist.training.examples import Examples, on_device
from fmnist.training.sharding import LaneScope, Shard

# Images of a validation step, over all workers: large enough that dispatch costs nothing, small enough for any GPU.
VALIDATION_BATCH_SIZE = 1000


@dataclass(frozen=True)
class EpochResult:
    """The result of one epoch, summed over all workers and equal on each of them.

    Attributes:
        epoch: counted from 1.
        loss: mean over the training images of the loss at the step that used the image.
        accuracy: share of training images classified correctly at that step, 0-1.
        val_loss: mean over the validation images after the epoch.
        val_accuracy: share of validation images classified correctly after the epoch, 0-1.
        learning_rate: at the end of the epoch.
        seconds: wall time of training and validation.
        images_per_second: training images per second of training, without validation.
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


def train(
    model: keras.Model,
    loss: Loss,
    optimizer: keras.optimizers.Optimizer,
    train_images: Examples,
    val_images: Examples,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    first_epoch: int = 1,
    train_positions: np.ndarray | None = None,
    val_positions: np.ndarray | None = None,
    shard: Shard | None = None,
    xla: bool = False,
    note: Callable[[str], None] = lambda line: None,
) -> Iterator[EpochResult]:
    """Trains ``model`` in place and yields after each epoch.

    All numbers depend on the number of lanes, and not on the number of workers that compute them. Each lane normalises
    its own slice of a batch, and the statistics for prediction are the mean of those of the lanes.

    Args:
        model: the examples' inputs, such as uint8 [n, 28, 28], to probabilities [n, 10], with a layer named "logits"
            before the softmax.
        loss: int labels [n] and logits [n, 10] to one loss per image [n].
        optimizer: any Keras optimizer. A `CosineWithWarmup` schedule is stretched over all epochs, 1 to ``epochs``.
            With ``use_ema`` the averaged weights are those of the model between epochs, and of the validation.
        train_images: at least one.
        val_images: at least one.
        batch_size: images per step over all workers, 1 or more; the last, incomplete batch of an epoch is used too.
        epochs: number of the last epoch.
        seed: of the order of the images. Seed and epoch alone decide the order, so that a resumed run uses the same
            one as an undisturbed run.
        first_epoch: number of the first epoch; above 1 when model and optimizer come from a checkpoint.
        train_positions, val_positions: integers [n], which of the images to use; all if None. A process that trains on
            several subsets of the images keeps the images once.
        shard: this worker's share; all of it if None.
        xla: compile with XLA: the whole epoch, or with several workers the parts of a step, as `Compiler` says.
        note: shows a line, such as that XLA cannot compile the model.

    Yields:
        One result per epoch. Model and optimizer have that epoch's state until the next result is requested.

    Raises:
        TrainingError: if the loss of a step, or on the validation images, is not finite.
    """
    shard = shard or Shard()
    train_positions = np.arange(len(train_images)) if train_positions is None else train_positions
    val_positions = np.arange(len(val_images)) if val_positions is None else val_positions
    set_length(optimizer, math.ceil(len(train_positions) / batch_size) * epochs)
    optimizer.build(model.trainable_variables)
    compiler = Compiler(model, xla=xla, whole_epochs=shard.workers == 1, note=note)
    train_epoch, validate = _programs(model, loss, optimizer, train_images, val_images, shard, compiler)
    shard.copy_from_rank_zero([*model.variables, *optimizer.variables])

    val_batches = shard.split(val_positions, VALIDATION_BATCH_SIZE)
    for epoch in range(first_epoch, epochs + 1):
        started = time.perf_counter()
        if epoch > 1:
            swap_averages(optimizer)
        order = np.random.default_rng([seed, epoch]).permutation(train_positions)
        indices, mask = shard.split(order, batch_size)
        images_of_step = np.minimum(batch_size, len(order) - batch_size * np.arange(len(indices)))
        step_losses, hits = train_epoch(indices, mask, images_of_step.astype(np.float32))
        step_losses = step_losses.numpy()
        trained = time.perf_counter()
        if not np.isfinite(step_losses).all():
            step = int(np.flatnonzero(~np.isfinite(step_losses))[0])
            raise TrainingError(
                f"epoch {epoch}, step {step + 1} of {len(step_losses)}: the loss is {step_losses[step]}, expected a "
                f"finite number; try a learning rate below {float(optimizer.learning_rate):g}"
            )
        swap_averages(optimizer)
        val_loss, val_hits = (float(total) for total in validate(*val_batches))
        if not np.isfinite(val_loss):
            raise TrainingError(f"epoch {epoch}: the validation loss is {val_loss}, expected a finite number")
        yield EpochResult(
            epoch=epoch,
            loss=float(step_losses.astype(np.float64) @ images_of_step / len(order)),
            accuracy=float(hits) / len(order),
            val_loss=val_loss / len(val_positions),
            val_accuracy=val_hits / len(val_positions),
            learning_rate=float(optimizer.learning_rate),
            seconds=time.perf_counter() - started,
            images_per_second=len(order) / (trained - started),
            step_losses=step_losses,
        )


def _programs(
    model: keras.Model,
    loss: Loss,
    optimizer: keras.optimizers.Optimizer,
    train_images: Examples,
    val_images: Examples,
    shard: Shard,
    compiler: Compiler,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns the two programs of an epoch: its training and its validation.

    Their arguments are indices and mask [steps, own lanes, share], and for training the images [steps] of each step.
    Each has one shape, also for incomplete batches, which a mask fills up: it is compiled once.
    """
    network = keras.Model(model.inputs, model.get_layer(LOGITS).output)
    variables = model.trainable_variables
    state = [v for v in changing_variables(model) if not v.trainable]
    statistics, counters = ([v for v in state if ("float" in v.dtype) == wanted] for wanted in (True, False))
    train_inputs, train_labels = on_device(train_images)
    val_inputs, val_labels = on_device(val_images)

    def forward(inputs: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the summed loss, and the number of correct predictions, over the images that the mask keeps."""
        labels = tf.cast(labels, tf.int32)
        logits = network(inputs, training=training)
        correct = tf.cast(tf.argmax(logits, axis=-1, output_type=tf.int32) == labels, tf.float32)
        return tf.reduce_sum(loss(labels, logits) * mask), tf.reduce_sum(correct * mask)

    def of_lane(lane: int, inputs: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor, count: tf.Tensor) -> tuple[Any, ...]:
        with LaneScope(statistics, counters, lane) as scope, tf.GradientTape() as tape:
            total, hits = forward(inputs, labels, mask, training=True)
            # The sum over the lanes is the gradient of the global batch's mean loss, so each lane divides by the global
            # batch. Regularisation belongs to the model, not to an image, so each lane adds its share of it.
            mean = total / count
            objective = optimizer.scale_loss(mean + tf.add_n([0.0, *network.losses]) / shard.lanes)
        gradients = tape.gradient(
            objective, [v.value for v in variables], unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
        return mean, hits, dense, scope.changed_statistics(), scope.next_counters()

    @compiler.part
    def compute(indices: tf.Tensor, mask: tf.Tensor, count: tf.Tensor) -> tuple[Any, ...]:
        """Returns of this worker's share [own lanes, share] of a step: losses and correct predictions [own lanes], the
        subtotals of each gradient and of each statistic (None for one that does not change), and the next counters.
        """
        inputs, labels = tf.gather(train_inputs, indices), tf.gather(train_labels, indices)
        # A Python loop, so that the graph has independent lanes, which TensorFlow runs in parallel.
        lanes = [of_lane(lane, inputs[i], labels[i], mask[i], count) for i, lane in enumerate(shard.own)]
        losses, hits, gradients, changed, (following, *_) = zip(*lanes, strict=True)
        summed = [shard.subtotals(of_variable) for of_variable in zip(*gradients, strict=True)]
        merged = [None if one[0] is None else shard.subtotals(one) for one in zip(*changed, strict=True)]
        return tf.stack(losses), tf.stack(hits), summed, merged, following

    @compiler.part
    def update(gradients: list[tf.Tensor]) -> None:
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    @compiler.program
    def train_epoch(indices: tf.Tensor, mask: tf.Tensor, counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Known before it runs: XLA's loop then asks nothing between two steps.
        steps = indices.shape[0]
        losses, hits = tf.TensorArray(tf.float32, steps), tf.zeros([len(shard.own)])
        for step in tf.range(steps):
            step_losses, step_hits, gradients, merged, following = compute(indices[step], mask[step], counts[step])
            changed = [variable for variable, one in zip(statistics, merged, strict=True) if one is not None]
            totals = shard.totals([*gradients, *(one for one in merged if one is not None)])
            update(totals[: len(variables)])
            for variable, total in zip(changed, totals[len(variables) :], strict=True):
                variable.assign(total / shard.lanes)
            for variable, value in zip(counters, following, strict=True):
                variable.assign(value)
            losses, hits = losses.write(step, step_losses), hits + step_hits
        return shard.sum(tf.unstack(losses.stack(), axis=1)), shard.sum(tf.unstack(hits))

    @compiler.part
    def measure(indices: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Returns summed loss and correct predictions [own lanes, 2] of this worker's share of a validation step."""
        inputs, labels = tf.gather(val_inputs, indices), tf.gather(val_labels, indices)
        lanes = [tf.stack(forward(inputs[i], labels[i], mask[i], training=False)) for i in range(len(shard.own))]
        return tf.cast(tf.stack(lanes), tf.float64)

    @compiler.program
    def validate(indices: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        sums = tf.zeros([len(shard.own), 2], tf.float64)
        for step in tf.range(indices.shape[0]):
            sums += measure(indices[step], mask[step])
        loss_and_hits = shard.sum(tf.unstack(sums))
        return loss_and_hits[0], loss_and_hits[1]

    return train_epoch, validate
