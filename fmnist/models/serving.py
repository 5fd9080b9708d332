"""A trained model as it is saved: without the layers that are for training only."""

from __future__ import annotations

import inspect
from typing import Any

import keras


def without_augmentation(model: keras.Model) -> keras.Model:
    """Returns the model without its layers of random augmentation, nested ones included.

    Keras' augmentation layers default to ``training=True``: unlike ``model.predict(images)``, ``model(images)`` would
    augment the images. The result has the same weights, and predicts the same in both cases. A model without such
    layers is returned unchanged.
    """
    if not any(_augments(layer) for layer in model._flatten_layers()):
        return model
    served = keras.models.clone_model(model, clone_function=_clone, call_function=_call, recursive=True)
    served.set_weights(model.get_weights())
    return served


def _clone(layer: keras.layers.Layer) -> keras.layers.Layer:
    # A Sequential keeps the Identity.
    return keras.layers.Identity() if _augments(layer) else layer.__class__.from_config(layer.get_config())


def _call(layer: keras.layers.Layer, *inputs: Any, **settings: Any) -> Any:
    # A functional model would keep the augmentation's training=True for the Identity, and pass it on.
    return inputs[0] if isinstance(layer, keras.layers.Identity) else layer(*inputs, **settings)


def _augments(layer: keras.layers.Layer) -> bool:
    """Whether a layer defaults to ``training=True``; others, such as Dropout, do not."""
    training = inspect.signature(layer.call).parameters.get("training")
    return training is not None and training.default is True
