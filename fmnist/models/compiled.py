"""Adapts a compiled Keras model, such as a keras-tuner builder returns, to the training engine.

Keras models commonly take scaled images of various shapes and end in a softmax. The engine passes raw uint8 images, and
needs the logits.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras import layers
from keras.src.ops.nn import Softmax

from fmnist.data import CLASSES, SIDE
from fmnist.errors import UserError, first_line
from fmnist.models import LOGITS, Loss, sparse_cross_entropy
from fmnist.models.optimizers import fused

# Keras' reductions that are the mean over the images of a batch if the images have no weights, as in the engine.
MEANS = ("sum_over_batch_size", "mean", "mean_with_sample_weight")
SOFTMAXES = (keras.activations.softmax, keras.ops.softmax, tf.nn.softmax)
# What a subclass of a Keras model may define. The engine never calls the rest of what Keras' own models have.
MAY_DEFINE = {"__init__", "build", "compile", "from_config", "get_config", "save", "summary"}
# What Keras itself sets on a model, where it may be a function.
SET_BY_KERAS = {"build", "loss", "quantize"}


@dataclass(frozen=True)
class Trainable:
    """The model, loss and optimizer that `fmnist.training.engine.train` takes; the optimizer is not built yet.

    Attributes:
        unused: what the model was compiled with that the engine does not use.
    """

    model: keras.Model
    loss: Loss
    optimizer: keras.optimizers.Optimizer
    unused: tuple[str, ...] = ()


def trainable(model: keras.Model) -> Trainable:
    """Adapts a compiled model. The result shares its layers, so the model itself must not be used afterwards.

    A model of uint8 images [n, 28, 28] whose softmax follows a layer "logits" stays unchanged. Any other model becomes
    a layer of a new one, which scales the images to 0-1 for an input of floats (not for one of integers), pads them
    evenly with zeros to the input's height and width, and copies them to three channels or flattens them as the input
    needs. The model's softmax is removed, not inverted, so the logits are exact.

    Args:
        model: Sequential or functional, compiled; from [n, H, W], [n, H, W, 1], [n, H, W, 3] with H and W 28 or more,
            or [n, 784], to [n, 10].

    Raises:
        UserError: if the model, its loss or its shapes are not supported, or anything else that the model has and Keras
            would use.
    """
    if not isinstance(model, keras.Model):
        raise UserError(f"the builder's model: found {type(model).__name__}, expected a compiled keras.Model")
    if not model.compiled or model.optimizer is None:
        raise _error(model, "found no optimizer and loss, expected a model that compile() was called on")
    loss, from_logits = _loss(model)
    unused = _unused(model)
    if isinstance(model, keras.Sequential) and not model.built:
        try:
            model.build((None, SIDE, SIDE, 1))
        except Exception as error:
            taken = f"layers that do not take [n, {SIDE}, {SIDE}, 1] ({first_line(error)})"
            raise _error(model, f"found no keras.Input, and {taken}, expected a keras.Input") from error
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        raise _error(model, "found a subclass of keras.Model, expected a Sequential or functional one")
    _check_methods(model)
    if len(inputs) != 1 or len(outputs) != 1:
        raise _error(model, f"found {len(inputs)} inputs and {len(outputs)} outputs, expected one of each")
    if tuple(outputs[0].shape) != (None, CLASSES):
        raise _error(model, f"found output {_shown(outputs[0].shape)}, expected [n, {CLASSES}]")
    _check_dtypes(model)
    if not model.trainable_weights:
        raise _error(model, "found no trainable weights, expected some")
    if model._losses:
        raise _error(model, "found add_loss() of the model itself, expected it in the call() of a layer")
    if _is_ready(model):
        for layer in (model.get_layer(LOGITS), _last(outputs[0])[0]):
            layer.dtype_policy = "float32"
        # Without the arguments of compile(): saved ones would need the schedule's class to load the model.
        return Trainable(keras.Model(inputs[0], outputs[0], name=model.name), loss, fused(model.optimizer), unused)

    logits = _without_softmax(model, from_logits)
    network = keras.Model(inputs[0], logits, name="network")
    images = keras.Input((SIDE, SIDE), dtype="uint8", name="images")
    x = network(_prepared(images, model))
    x = layers.Activation("linear", name=LOGITS, dtype="float32")(x)
    probabilities = layers.Softmax(name="probabilities", dtype="float32")(x)
    return Trainable(keras.Model(images, probabilities, name=model.name), loss, fused(model.optimizer), unused)


def _error(model: keras.Model, text: str) -> UserError:
    return UserError(f"model {model.name!r}: {text}")


def _unused(model: keras.Model) -> tuple[str, ...]:
    """Names what `compile` was given and the engine does not use; loss and accuracy are recorded anyway."""
    settings, metrics = model.get_compile_config() or {}, model._compile_metrics
    found = keras.tree.flatten([metrics._user_metrics, metrics._user_weighted_metrics]) if metrics else []
    names = [one if isinstance(one, str) else getattr(one, "name", getattr(one, "__name__", "")) for one in found]
    return (
        *(f"metric {name}" for name in names if name and "acc" not in name.lower()),
        *(["run_eagerly"] if settings.get("run_eagerly") else []),
        *(["steps_per_execution"] if settings.get("steps_per_execution", 1) not in (None, 1) else []),
    )


def _check_methods(model: keras.Model) -> None:
    """Raises a UserError if a subclass, or the model itself, replaces what Keras' training would call."""
    # Keras' models have a base of TensorFlow's.
    of_keras = [cls for cls in type(model).__mro__ if cls.__module__.split(".")[0] in ("keras", "tensorflow")]
    own = [(cls.__name__, set(vars(cls))) for cls in type(model).__mro__ if cls not in of_keras and cls is not object]
    own.append(("model", {name for name, value in vars(model).items() if callable(value)} - SET_BY_KERAS))
    for owner, names in own:
        for name in sorted(names - MAY_DEFINE):
            special = name.startswith("__") and name != "__call__"
            if not special and any(hasattr(base, name) for base in of_keras):
                raise _error(model, f"found {owner}.{name}, expected Keras' own: fmnist trains in its own loop")


def _check_dtypes(model: keras.Model) -> None:
    """Raises a UserError if a layer computes in, or has weights of, another type than the job's setting says."""
    allowed = ("float32", keras.config.dtype_policy().compute_dtype)
    for layer in model._flatten_layers():
        policy = layer.dtype_policy
        for dtype in (policy.compute_dtype, policy.variable_dtype):
            if "float" in dtype and dtype not in allowed:
                expected = "expected float32; fmnist's setting precision decides what is computed in bfloat16"
                raise _error(model, f"found layer {layer.name!r} in {policy.name}, {expected}")
        if policy.quantization_mode is not None:
            raise _error(model, f"found quantized layer {layer.name!r}, expected float32")


def _loss(model: keras.Model) -> tuple[Loss, bool]:
    """Returns the loss of labels and logits, and whether the model's output is logits."""
    found = model.loss
    # Of its one output, by position or by name.
    if isinstance(found, (list, tuple, dict)) and len(found) == 1:
        (found,) = found.values() if isinstance(found, dict) else found
    if isinstance(found, str):
        with suppress(ValueError):
            found = keras.losses.get(found)
    if model._compile_loss is not None and model._compile_loss._user_loss_weights is not None:
        raise _error(model, "found loss_weights, expected none, as there is one output")
    if found is keras.losses.sparse_categorical_crossentropy or found is keras.losses.categorical_crossentropy:
        return sparse_cross_entropy, False
    if type(found) not in (keras.losses.SparseCategoricalCrossentropy, keras.losses.CategoricalCrossentropy):
        named = found is None or isinstance(found, str)
        shown = found if named else getattr(found, "__name__", type(found).__name__)
        expected = "expected sparse_categorical_crossentropy or categorical_crossentropy"
        raise _error(model, f"found loss {shown}, {expected}")
    settings = found.get_config()
    if settings["reduction"] not in MEANS:
        raise _error(model, f"found loss with reduction {settings['reduction']!r}, expected a mean")
    axis = found._fn_kwargs.get("axis", -1)
    if axis not in (-1, 1) or found.dtype != "float32":
        raise _error(model, f"found loss with axis {axis} in {found.dtype}, expected -1 in float32")
    if settings.get("ignore_class") is not None:
        raise _error(model, f"found loss with ignore_class {settings['ignore_class']}, expected none")
    if not (smoothing := settings.get("label_smoothing", 0)):
        return sparse_cross_entropy, found.from_logits

    def smoothed(labels: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        labels = keras.ops.one_hot(labels, CLASSES)
        return keras.losses.categorical_crossentropy(labels, logits, from_logits=True, label_smoothing=smoothing)

    return smoothed, found.from_logits


def _is_ready(model: keras.Model) -> bool:
    image = model.inputs[0]
    if tuple(image.shape) != (None, SIDE, SIDE) or image.dtype != "uint8":
        return False
    last, before = _last(model.outputs[0])
    return _is_softmax_layer(last) and isinstance(_last(before)[0], layers.Layer) and _last(before)[0].name == LOGITS


def _without_softmax(model: keras.Model, from_logits: bool) -> keras.KerasTensor:
    """Returns the tensor of the logits, computed in float32. Removes the softmax of a last Dense layer."""
    output = model.outputs[0]
    last, before = _last(output)
    if _is_softmax_layer(last):
        output, last = before, _last(before)[0]
    else:
        while isinstance(last, keras.Model):
            last = _last(last.outputs[0])[0]
        if getattr(last, "activation", None) in SOFTMAXES:
            if last.activity_regularizer is not None:
                expected = "expected none: fmnist computes with its logits"
                raise _error(model, f"found activity_regularizer of the softmax {last.name!r}, {expected}")
            last.activation = keras.activations.linear
        elif not from_logits:
            expected = "expected a softmax, or a loss with from_logits=True"
            raise _error(model, f"found a last layer {last.name!r} without softmax, {expected}")
    # bfloat16 logits would have only three significant digits.
    if isinstance(last, layers.Layer) and not isinstance(last, keras.Model):
        last.dtype_policy = "float32"
    return output


def _is_softmax_layer(layer: Any) -> bool:
    if isinstance(layer, layers.Activation):
        return layer.activation in SOFTMAXES and layer.activity_regularizer is None
    # The second is the operation of `keras.ops.softmax`.
    return isinstance(layer, (layers.Softmax, Softmax)) and layer.axis in (-1, 1)


def _last(tensor: keras.KerasTensor) -> tuple[Any, keras.KerasTensor | None]:
    """Returns the operation that a symbolic tensor is the output of, and that operation's first input."""
    operation, node, _ = tensor._keras_history
    return operation, next(iter(operation._inbound_nodes[node].input_tensors), None)


def _prepared(images: keras.KerasTensor, model: keras.Model) -> keras.KerasTensor:
    """Returns images [n, 28, 28] in the shape and type of the model's input."""
    wanted = model.inputs[0]
    shape = tuple(wanted.shape[1:])
    flat = shape == (SIDE * SIDE,)
    height, width, *channels = (SIDE, SIDE) if flat else (*shape, *(None,) * (2 - len(shape)))
    sides = [side for side in (height, width) if side is not None and side >= SIDE]
    if len(sides) != 2 or channels not in ([], [1], [3]):
        expected = f"[n, H, W], [n, H, W, 1] or [n, H, W, 3] with H and W {SIDE} or more, or [n, {SIDE * SIDE}]"
        raise _error(model, f"found input {_shown(wanted.shape)}, expected {expected}")
    x = layers.Reshape((SIDE, SIDE, 1))(images)
    if sides != [SIDE, SIDE]:
        x = layers.ZeroPadding2D([((side - SIDE) // 2, (side - SIDE + 1) // 2) for side in sides])(x)
    if channels == [3]:
        x = layers.Concatenate()([x, x, x])
    if not channels:
        x = layers.Reshape(shape)(x)
    return layers.Rescaling(1 / 255, dtype="float32")(x) if "float" in wanted.dtype else x


def _shown(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('n' if (place, side) == (0, None) else str(side) for place, side in enumerate(shape))}]"
