"""LeNet-5 twice: as the study's notebook builds it, and as LeCun, Bottou, Bengio and Haffner published it in 1998.

Source of the second: "Gradient-Based Learning Applied to Document Recognition", Proceedings of the IEEE 86 (11), 1998,
section II.B; "equation" and "table" below are that paper's.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

# Table I: row = a feature map of C3, the maps of S2 that it sees. 60 connections of 5x5 weights, and 16 biases.
C3_INPUTS = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip

F6_UNITS = 84
# Two codes differ in 42 of 84 signs, so their squared distance is 168, and the point midway between them has a penalty
# of 168 / 4 for each. Past that radius a vector belongs to no class: that is the rubbish class' constant penalty.
RUBBISH_PENALTY = 42.0


def lenet5() -> keras.Model:
    """The study's LeNet-5: 504,342 parameters (832; 38,448; 442,624; 21,588; 850).

    Returns:
        A model from uint8 images [n, 28, 28] to float32 probabilities [n, 10]. Plain Keras layers: a saved one loads
        without this package.
    """
    images = keras.Input((28, 28), dtype="uint8", name="images")
    x = layers.Reshape((28, 28, 1))(images)
    x = layers.ZeroPadding2D(2)(x)
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(32, 5, padding="same", activation="relu", name="C1")(x)
    x = layers.MaxPooling2D(2, name="S2")(x)
    x = layers.Conv2D(48, 5, activation="relu", name="C3")(x)
    x = layers.MaxPooling2D(2, name="S4")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(256, activation="relu", name="F5")(x)
    x = layers.Dense(84, activation="relu", name="F6")(x)
    logits = layers.Dense(10, name="logits", dtype="float32")(x)
    probabilities = layers.Softmax(name="probabilities", dtype="float32")(logits)
    return keras.Model(images, probabilities, name="lenet5")


def lenet5_1998() -> keras.Model:
    """LeNet-5 of 1998: 60,000 trainable parameters (C1 156, S2 12, C3 1,516, S4 32, C5 48,120, F6 10,164).

    The logits are the negated penalties of the output layer's radial basis functions (equation 7), so that the nearest
    code has the highest probability. It is trained with `maximum_a_posteriori_loss`.

    Returns:
        A model from uint8 images [n, 28, 28] to float32 probabilities [n, 10].
    """
    images = keras.Input((28, 28), dtype="uint8", name="images")
    x = layers.Reshape((28, 28, 1))(images)
    # 32x32, so that the strokes' end points fall in the middle of the receptive fields of the last feature maps.
    x = layers.ZeroPadding2D(2)(x)
    # Background -0.1 and foreground 1.175: about zero mean and unit variance, which speeds learning up.
    x = layers.Rescaling(1.275 / 255, offset=-0.1)(x)
    x = layers.Conv2D(6, 5, activation=scaled_tanh, kernel_initializer=_uniform(25), name="C1")(x)
    x = TrainableSubsampling(name="S2")(x)
    x = PartiallyConnectedConv2D(C3_INPUTS, 5, name="C3")(x)
    x = TrainableSubsampling(name="S4")(x)
    x = layers.Conv2D(120, 5, activation=scaled_tanh, kernel_initializer=_uniform(400), name="C5")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(F6_UNITS, activation=scaled_tanh, kernel_initializer=_uniform(120), name="F6")(x)
    logits = NegatedSquaredDistance(class_codes().tolist(), name="logits", dtype="float32")(x)
    probabilities = layers.Softmax(name="probabilities", dtype="float32")(logits)
    return keras.Model(images, probabilities, name="lenet5_1998")


@keras.saving.register_keras_serializable("fmnist")
def scaled_tanh(x: keras.KerasTensor) -> keras.KerasTensor:
    """The paper's squashing function ``1.7159 tanh(2/3 x)``: it maps 1 to 1 and -1 to -1 (equation 6, appendix A)."""
    return 1.7159 * ops.tanh(x * (2 / 3))


@keras.saving.register_keras_serializable("fmnist")
class TrainableSubsampling(layers.Layer):
    """S2 and S4: the sum of 2x2 neighbours, times a trainable coefficient and plus a bias, one of each a map; squashed.

    Shapes:
        float [n, height, width, maps] to float [n, height // 2, width // 2, maps].
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        maps = input_shape[-1]
        self.coefficient = self.add_weight(shape=(maps,), initializer=_uniform(4), name="coefficient")
        self.bias = self.add_weight(shape=(maps,), initializer="zeros", name="bias")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return scaled_tanh(ops.average_pool(x, 2, 2) * (4 * self.coefficient) + self.bias)


@keras.saving.register_keras_serializable("fmnist")
class PartiallyConnectedConv2D(layers.Layer):
    """C3: a valid convolution, squashed, in which each output map sees only some input maps.

    Shapes:
        float [n, height, width, inputs] to float [n, height - size + 1, width - size + 1, len(connections)].

    Args:
        connections: for each output map the input maps it sees.
        kernel_size: height and width of a kernel, in pixels.
    """

    def __init__(self, connections: tuple[tuple[int, ...], ...], kernel_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.connections = tuple(tuple(inputs) for inputs in connections)
        self.kernel_size = kernel_size

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        count = sum(len(inputs) for inputs in self.connections)
        size = self.kernel_size
        # Only existing connections are parameters. A kernel of zeros is added at the end, and each absent connection
        # of the full [size, size, inputs, outputs] kernel reads that one.
        slots = np.full((int(input_shape[-1] or 0), len(self.connections)), count, dtype="int32")
        bounds = np.empty((size, size, count), dtype="float32")
        slot = 0
        for output, inputs in enumerate(self.connections):
            for source in inputs:
                slots[source, output] = slot
                bounds[..., slot] = 2.4 / (len(inputs) * size * size)
                slot += 1
        self._slots = slots
        self.kernel = self.add_weight(
            shape=(size, size, count),
            initializer=lambda shape, dtype: keras.random.uniform(shape, -1, 1, dtype) * bounds,
            name="kernel",
        )
        self.bias = self.add_weight(shape=(len(self.connections),), initializer="zeros", name="bias")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        kernel = ops.convert_to_tensor(self.kernel)
        full = ops.take(ops.concatenate([kernel, ops.zeros_like(kernel[..., :1])], axis=-1), self._slots, axis=-1)
        return scaled_tanh(ops.conv(x, full, padding="valid") + self.bias)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "connections": self.connections, "kernel_size": self.kernel_size}


@keras.saving.register_keras_serializable("fmnist")
class NegatedSquaredDistance(layers.Layer):
    """The output layer's radial basis functions, negated: minus the squared distance to each class' fixed code.

    Shapes:
        float [n, units] to float [n, classes], all values 0 or less.

    Args:
        codes: [classes, units], each -1 or 1; not trained.
    """

    def __init__(self, codes: list[list[int]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.codes = codes

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        codes = ops.cast(np.asarray(self.codes, dtype="float32"), x.dtype)
        return -ops.sum(ops.square(ops.expand_dims(x, 1) - codes), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "codes": self.codes}


def maximum_a_posteriori_loss(labels: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Equation 9: the right class' penalty plus ``log(exp(-j) + sum over classes of exp(-penalty))``.

    That is the cross-entropy with an eleventh, rubbish class of constant penalty ``j``, which keeps the penalties of
    wrong classes from being pushed up for ever.

    Args:
        labels: int [n], 0-9.
        logits: float [n, 10], the negated penalties.

    Returns:
        float [n], at least 0.
    """
    rubbish = ops.full_like(logits[:, :1], -RUBBISH_PENALTY)
    return keras.losses.sparse_categorical_crossentropy(
        labels, ops.concatenate([logits, rubbish], axis=-1), from_logits=True
    )


def class_codes(classes: int = 10) -> np.ndarray:
    """Codes of -1 and 1 for the output layer, any two of which differ in exactly half of their 84 places.

    The paper draws its codes as 7x12 pictures of the characters. Clothes have none, so these are rows of the Hadamard
    matrix of order 84 = 83 + 1 in Paley's construction, whose rows are orthogonal: ``1`` where the difference of two
    indices is a square modulo the prime 83. Its first row, all ones, is left out, because a unit that is at 1 for no
    class but one would only count.

    Args:
        classes: how many, 1-83.

    Returns:
        int8 [classes, 84].
    """
    prime = F6_UNITS - 1
    squares = {i * i % prime for i in range(1, prime)}
    character = np.array([0] + [1 if i in squares else -1 for i in range(1, prime)], dtype=np.int8)
    skew = np.zeros((F6_UNITS, F6_UNITS), dtype=np.int8)
    skew[0, 1:], skew[1:, 0] = 1, -1
    skew[1:, 1:] = character[(np.arange(prime)[None, :] - np.arange(prime)[:, None]) % prime]
    hadamard = skew + np.eye(F6_UNITS, dtype=np.int8)
    return hadamard[1 : classes + 1]


def _uniform(fan_in: int) -> keras.initializers.Initializer:
    """Uniform in +-2.4 / fan-in: sums of weighted inputs stay where the squashing is linear (section III.B)."""
    return keras.initializers.RandomUniform(-2.4 / fan_in, 2.4 / fan_in)
