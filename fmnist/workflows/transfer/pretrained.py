"""Loading a backbone's pretrained weights: a file that does not fit is refused by naming the first layer that differs.

A model takes two formats of HDF5: the legacy one, in which Keras publishes the ImageNet weights, and Keras 3's. The
first keeps the layers in order, the second under names made of their classes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path

import h5py
import keras

from fmnist.errors import UserError

_KERAS3_SUFFIX = ".weights.h5"
_IMAGENET_STDDEV = (0.229, 0.224, 0.225)  # of red, green and blue, where 1 is full

_Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Saved:
    """A layer in a file: what it was called when it was saved, and the shapes of its weights."""

    name: str
    shapes: _Shapes


def load_pretrained(model: keras.Model, path: Path, *, published: bool, backbone: str) -> None:
    """Loads a file of weights into a whole backbone.

    Args:
        model: ``keras.applications``' network, built with ``include_top=False, weights=None``.
        path: of the file, named ``….weights.h5`` if it is in Keras 3's format, else ``….h5``.
        published: whether the file is the ImageNet weights as Keras publishes them.
        backbone: what messages call the network, and a key of ``fmnist.workflows.transfer.recipes.FACTS``.

    Raises:
        UserError: if the file is damaged, in no format that Keras reads, or of another network.
    """
    try:
        with h5py.File(path, "r") as file:
            rescales = _compare(model, file, path, backbone)
        # Keras' own loading: it also brings up to date what a layer derives from its weights.
        model.load_weights(path)
    # What h5py and Keras raise for a file that is damaged inside.
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path}: cannot be read as weights of {backbone}, expected an intact HDF5 file: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    if backbone == "efficientnetb1" and (published or rescales):
        _fold_rescaling(model)


def _compare(model: keras.Model, file: h5py.File, path: Path, backbone: str) -> bool:
    """Compares the file's layers with the model's, and tells whether they are of a model with a second Rescaling."""
    layers = [layer for layer in model.layers if _weights(layer)]
    legacy = _legacy_group(file)
    found: list[_Saved | None]
    if legacy is not None:
        _check_name(path, "the legacy format", legacy=True)
        saved = [layer for layer in _legacy_layers(legacy) if layer.shapes]
        found, others = [*saved[: len(layers)]], saved[len(layers) :]
        rescales = sum(name.startswith("rescaling") for name in _texts(legacy, "layer_names")) > 1
    elif "layers" in file:
        _check_name(path, "Keras 3's format", legacy=False)
        by_path = _keras3_layers(file["layers"])
        found = [by_path.pop(name, None) for name in _keras3_names(model)]
        others = list(by_path.values())
        rescales = "rescaling_1" in file["layers"]
    else:
        raise UserError(f"{path}: HDF5, but no weights of a Keras model, expected those of {backbone}")
    found += [None] * (len(layers) - len(found))
    for layer, there in zip(layers, found, strict=True):
        expected = tuple(tuple(weight.shape) for weight in _weights(layer))
        if there is None:
            raise UserError(f"{path}: not weights of {backbone}: layer {layer.name} has no weights in the file")
        if there.shapes != expected:
            raise UserError(
                f"{path}: not weights of {backbone}: layer {layer.name}: found {_text(there.shapes)} "
                f"in the file's {there.name}, expected {_text(expected)}"
            )
    if others:
        raise UserError(
            f"{path}: not weights of {backbone} without its classifier: the file has more layers, the first one "
            f"{others[0].name} with {_text(others[0].shapes)}"
        )
    return rescales


def _check_name(path: Path, what: str, legacy: bool) -> None:
    """Sees that a file is called as its format wants it, because Keras tells the formats by the name alone."""
    if legacy == path.name.endswith(_KERAS3_SUFFIX):
        wanted = ".h5 but not in .weights.h5" if legacy else _KERAS3_SUFFIX
        raise UserError(f"{path}: found weights in {what}, expected a name that ends in {wanted}")


def _weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    return layer.trainable_weights + layer.non_trainable_weights


def _legacy_group(file: h5py.File) -> h5py.Group | None:
    # A whole model's file has the weights in a group.
    for group in (file, file.get("model_weights")):
        if group is not None and _texts(group, "layer_names"):
            return group
    return None


def _legacy_layers(group: h5py.Group) -> Iterator[_Saved]:
    for name in _texts(group, "layer_names"):
        weights = _texts(group[name], "weight_names")
        yield _Saved(name, tuple(group[name][weight].shape for weight in weights))


def _texts(group: h5py.Group, name: str) -> list[str]:
    """Returns a list of texts that Keras saved as an attribute, or as several where it is too long for HDF5."""
    parts = takewhile(group.attrs.__contains__, (f"{name}{number}" for number in count()))
    keys = [name] if name in group.attrs else parts
    return [text.decode() if isinstance(text, bytes) else text for key in keys for text in group.attrs[key]]


def _keras3_names(model: keras.Model) -> list[str]:
    """Returns what the layers with weights are called in Keras 3's format: after their class, counted from 0.

    Their own names are not used there, because those that Keras makes up differ from model to model.
    """
    names, seen = [], Counter[str]()
    for layer in model.layers:
        words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
        name = re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
        if _weights(layer):
            names.append(f"{name}_{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


def _keras3_layers(group: h5py.Group) -> dict[str, _Saved]:
    layers = {}
    # In the order of their numbers: HDF5's is conv2d_10 before conv2d_2.
    for name in sorted(group, key=lambda name: [part.zfill(6) for part in re.split(r"(\d+)", name)]):
        variables = group[name].get("vars", {})
        if len(variables):
            shapes = tuple(variables[key].shape for key in sorted(variables, key=int))
            layers[name] = _Saved(variables.attrs.get("name", name), shapes)
    return layers


def _text(shapes: _Shapes) -> str:
    return " ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)


def _fold_rescaling(model: keras.Model) -> None:
    """Makes up for a layer that Keras' EfficientNet has with ``weights="imagenet"``, and only then.

    The published file holds the channels' standard deviations where the Normalization layer expects their variances
    (https://github.com/tensorflow/tensorflow/issues/49930). The layer divides by the root of that, so Keras puts a
    Rescaling behind it that divides by the other root. A network that is built without weights lacks the Rescaling;
    here the variance becomes what it should have been.
    """
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    layer.adapt_variance.assign(layer.adapt_variance * keras.ops.array(_IMAGENET_STDDEV, dtype="float32"))
    # The layer computes with a copy that it made when its weights were loaded.
    layer.finalize_state()
