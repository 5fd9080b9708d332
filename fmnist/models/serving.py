"""A trained model as it is saved: without what is for training only."""

from __future__ import annotations

import inspect
from typing import Any

import keras


def without_augmentation(model: keras.Model) -> keras.Model:
    """Returns the model without its layers of random augmentation, nested ones included.

    Keras' augmentation layers take a call that does not say otherwise for training: unlike ``model.predict(images)``,
    the plain call ``model(images)`` would turn and move the images. The result has the same weights, and predicts what
    ``model.predict`` did, however it is called.

    Args:
        model: functional; returned as it is if there is nothing to leave out.
    """
    if not any(_augments(layer) for layer in model._flatten_layers()):
        return model
    served = keras.models.clone_model(model, clone_function=_clone, call_function=_call, recursive=True)
    served.set_weights(model.get_weights())
    return served


def _clone(layer: keras.layers.Layer) -> keras.layers.Layer:
    # A Sequential keeps the place.
    return keras.layers.Identity() if _augments(layer) else layer.__class__.from_config(layer.get_config())


def _call(layer: keras.layers.Layer, *inputs: Any, **settings: Any) -> Any:
    # In a functional model the place would keep the augmentation's training=True, and hand it on.
    return inputs[0] if isinstance(layer, keras.layers.Identity) else layer(*inputs, **settings)


def _augments(layer: keras.layers.Layer) -> bool:
    """Whether a layer trains unless it is told not to. Others, such as Dropout, wait to be told to."""
    training = inspect.signature(layer.call).parameters.get("training")
    return training is not None and training.default is True
