"""Optimizers: Adam as one fused operation per variable, optimizers inside of others, averaged weights."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("fmnist")
class FusedAdam(keras.optimizers.Adam):
    """Keras' Adam with TensorFlow's fused kernel: the same update in one pass over memory instead of a dozen.

    It has the arguments and variables of `keras.optimizers.Adam`, so each loads the other's checkpoint.
    """

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable | keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        if self.amsgrad or variable.dtype != "float32":
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


@keras.saving.register_keras_serializable("fmnist")
class KernelMuon(keras.optimizers.Muon):
    """Keras' Muon, which also updates the kernels of convolutions as matrices [height * width * inputs, outputs].

    Keras' own leaves them to AdamW, as everything but matrices. Source: Jordan, "Muon: An optimizer for hidden layers
    in neural networks", 2024.
    """

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        excluded = any(word in variable.path for word in self.exclude_layers)
        return len(variable.shape) not in (2, 4) or excluded

    def zeropower_via_newtonschulz5(self, x: tf.Tensor, steps: int) -> tf.Tensor:
        matrix = keras.ops.reshape(x, (-1, x.shape[-1]))
        # `lr_adjust` would see the kernel's height and width.
        size = max(matrix.shape) ** 0.5 / max(x.shape[:2]) ** 0.5
        return keras.ops.reshape(size * super().zeropower_via_newtonschulz5(matrix, steps), x.shape)


def fused(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns a `FusedAdam` with the settings of a Keras Adam or AdamW; any other optimizer unchanged.

    An optimizer that is built, or that excludes variables from weight decay, is returned unchanged too.
    """
    if type(optimizer) not in (keras.optimizers.Adam, keras.optimizers.AdamW):
        return optimizer
    if optimizer.built or hasattr(optimizer, "_exclude_from_weight_decay"):
        return optimizer
    settings = optimizer.get_config()
    rate = optimizer._learning_rate
    # The config has a serialised schedule, which Keras could restore only if its class were registered.
    if not isinstance(rate, keras.Variable):
        settings["learning_rate"] = rate
    return FusedAdam(**settings)


def parts(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """Returns the optimizers that update variables: the one given, or those inside a LossScale- or MultiOptimizer."""
    inner = getattr(optimizer, "inner_optimizer", None)
    several = [inner] if inner is not None else getattr(optimizer, "optimizers", None)
    return [optimizer] if several is None else [part for one in several for part in parts(one)]


def swap_averages(optimizer: keras.optimizers.Optimizer) -> None:
    """Exchanges the variables of a built optimizer that has ``use_ema`` with their moving averages."""
    for part in parts(optimizer):
        if part.use_ema:
            for variable, average in zip(part._trainable_variables, part._model_variables_moving_average, strict=True):
                value = tf.identity(variable.value)
                variable.assign(average.value)
                average.assign(value)


def _handle(variable: tf.Variable | keras.Variable) -> tf.Tensor:
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
