"""The models by name. A model maps raw uint8 images [n, 28, 28] to probabilities [n, 10]."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import keras

from fmnist.errors import UserError
from fmnist.models import lenet

# Name of the layer before the softmax. The engine computes the loss from logits, because that does not overflow.
LOGITS = "logits"

Loss = Callable[..., keras.KerasTensor]


@dataclass(frozen=True)
class ModelEntry:
    """A registered model.

    Attributes:
        build: builds the model, with fresh weights from Keras' global seed.
        loss: ``loss(labels, logits)``: int labels [n] and float logits [n, 10] to one float loss per image [n].
    """

    build: Callable[[], keras.Model]
    loss: Loss


def sparse_cross_entropy(labels: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the cross-entropy of integer labels [n] and logits [n, 10], one value per image [n]."""
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


MODELS: dict[str, ModelEntry] = {
    "lenet5": ModelEntry(lenet.lenet5, sparse_cross_entropy),
    "lenet5-1998": ModelEntry(lenet.lenet5_1998, lenet.maximum_a_posteriori_loss),
}


def build_model(name: str, *, seed: int, precision: str = "float32") -> keras.Model:
    """Builds a model of `MODELS` with fresh weights; arguments and errors as in `fmnist.models.factory.build`."""
    if name not in MODELS:
        raise UserError(f"model {name!r} is unknown: expected one of {', '.join(MODELS)}")
    keras.utils.set_random_seed(seed)
    with precision_policy(precision):
        return MODELS[name].build()


@contextmanager
def precision_policy(precision: str) -> Iterator[None]:
    """Sets Keras' precision for the layers built in the block: products in ``precision``, float32 weights.

    Keras' other global settings are its defaults in the block, and all of them after it, whatever they were before: a
    builder's module may have changed them when it was imported.
    """
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")


def changing_variables(model: keras.Model) -> list[keras.Variable]:
    """Returns the variables that training changes: weights, statistics, the state of random layers.

    Variables of frozen layers are left out: they need not be saved after each epoch or summed over workers.
    """
    frozen = {id(variable) for layer in model._flatten_layers() if not layer.trainable for variable in layer.variables}
    return [variable for variable in model.variables if id(variable) not in frozen]
