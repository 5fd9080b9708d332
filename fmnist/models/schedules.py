"""Learning-rate schedules over the whole training, whose length a search space does not know."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from fmnist.models.optimizers import parts


@keras.saving.register_keras_serializable("fmnist")
class CosineWithWarmup(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to the peak, then falls to zero along half a cosine, over the whole training.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, equation 5,
    without restarts.

    Args:
        peak: the highest learning rate, above 0.
        warmup: share of the training in which it rises, 0-1.
        steps: of the whole training; `set_length` sets it when the training starts.
    """

    def __init__(self, peak: float, warmup: float = 0.05, steps: int | None = None) -> None:
        self.peak, self.warmup, self.steps = peak, warmup, steps

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        if self.steps is None:
            raise ValueError("CosineWithWarmup: steps is not set, expected the number of steps of the training")
        # Counted from 1: the rate of the first step must not be zero, that of the last step may be.
        done = (ops.cast(step, "float32") + 1) / self.steps
        rising = done / max(self.warmup, 1 / self.steps)
        falling = 0.5 * (1 + ops.cos(3.141592653589793 * (done - self.warmup) / (1 - self.warmup)))
        return self.peak * ops.where(done < self.warmup, rising, ops.where(done > 1, 0.0, falling))

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "warmup": self.warmup, "steps": self.steps}


def set_length(optimizer: keras.optimizers.Optimizer, steps: int) -> None:
    """Sets the length of an optimizer's schedule, if it has one of this module, to that of a training of ``steps``."""
    for part in parts(optimizer):
        schedule = part._learning_rate
        if isinstance(schedule, CosineWithWarmup):
            # An optimizer that accumulates gradients counts its updates.
            schedule.steps = max(1, steps // (part.gradient_accumulation_steps or 1))
