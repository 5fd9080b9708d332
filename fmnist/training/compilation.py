"""What XLA compiles of a training: whole epochs, the computing parts of steps, or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import keras
import tensorflow as tf

from fmnist.training.devices import forget_programs, xla_decides_determinism

Function = TypeVar("Function", bound=Callable[..., Any])

# How XLA says that it has no such operation, or that it cannot know a shape.
REFUSALS = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)
# How TensorFlow says that it cannot read a program that `keep_programs` has kept.
DAMAGED = (tf.errors.OutOfRangeError, tf.errors.DataLossError)


class Compiler:
    """Decorates the functions of a training, which become programs of TensorFlow.

    A model that XLA refuses is trained as a graph that TensorFlow interprets, after a line that names the layer.

    Args:
        model: that is trained.
        xla: whether to compile at all.
        whole_epochs: compile a `program` as one piece; otherwise each `part` of it for itself, since XLA does not
            compile sums over workers.
        note: shows a line.
    """

    def __init__(self, model: keras.Model, *, xla: bool, whole_epochs: bool, note: Callable[[str], None]) -> None:
        self._model, self._whole, self._note = model, whole_epochs, note
        known = [layer.name for layer in model._flatten_layers() if not layer.supports_jit]
        self._xla = xla and not known
        if xla and known:
            self._refuse(f"layer {known[0]!r}, as Keras knows")

    def part(self, function: Function) -> Function | Callable[..., Any]:
        """Compiles a function that programs call, unless they are compiled as a whole."""

        def call(*arguments: Any) -> Any:
            # Decided when a program is traced, which happens again after a refusal.
            chosen = tf.function(function, jit_compile=True) if self._xla and not self._whole else function
            return chosen(*arguments)

        return call

    def program(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Makes a function a program of tensors. A refusal shows at its first call, before it changes anything."""
        compiled, graph = tf.function(function, jit_compile=self._whole), tf.function(function)

        def call(*arguments: Any) -> Any:
            nonlocal compiled
            if self._xla:
                try:
                    with xla_decides_determinism():
                        try:
                            return compiled(*arguments)
                        except DAMAGED:
                            if not forget_programs():
                                raise
                            # TensorFlow remembers that the other could not be compiled.
                            compiled = tf.function(function, jit_compile=self._whole)
                            return compiled(*arguments)
                except REFUSALS as error:
                    self._xla = False
                    self._refuse(_refused(self._model, str(error)))
            return graph(*arguments)

        return call

    def _refuse(self, what: str) -> None:
        self._note(f"model {self._model.name!r} is trained without XLA, which cannot compile {what}")


def _refused(model: keras.Model, message: str) -> str:
    """Returns the layer and the operation that an error of XLA is about, or its first line if it names no layer."""
    layers = {layer.name for layer in model._flatten_layers()} - {model.name}
    for path in re.findall(r"\{\{node ([^}]+)\}\}", message):
        *scopes, operation = path.split("/")
        # TensorFlow numbers the scopes of a layer that is called more than once.
        for scope in reversed(scopes):
            for name in (scope, re.sub(r"_\d+$", "", scope)):
                if name in layers:
                    return f"layer {name!r} ({operation})"
    return message.splitlines()[0][:200]
