"""Inference with a saved model: probabilities of raw uint8 images."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from fmnist.console import quiet_libraries
from fmnist.data import CLASSES, SIDE
from fmnist.errors import RunError, printable

with quiet_libraries():
    import h5py
    import keras
    from keras.src.backend.common import global_state

    import fmnist.models  # noqa: F401  (registers the custom layers that a saved model may name)

BATCH_SIZE = 1000
# Values of one layer's output for a batch: 1 GiB. A batch of a network for large images is smaller than BATCH_SIZE.
LARGEST_OUTPUT = 2**28
# Of a model that is loaded: VGG16 has 138 million, and a gigabyte of float32 has 268 million.
MOST_PARAMETERS = 2**28
LARGEST_CONFIG = 2**24


def load_model(path: Path) -> keras.Model:
    """Loads a ``model.keras``; a `RunError` that names both versions of Keras if it is no model for this one."""
    with _one_line(path):
        return keras.saving.load_model(path, compile=False, safe_mode=True)


def load_strange_model(path: Path) -> keras.Model:
    """Loads a ``model.keras`` of anybody, which takes uint8 images [n, 28, 28] and returns probabilities [n, 10].

    Its sizes are looked at before memory is allocated for them, and no code in it is run.

    Raises:
        RunError: as `load_model`; and if it is too large or another kind of model.
    """
    with _one_line(path):
        _check_sizes(path)
    model = load_model(path)
    with _one_line(path):
        answer = np.asarray(probabilities(model, np.zeros((1, SIDE, SIDE), np.uint8)))
    if answer.shape != (1, CLASSES):
        raise RunError(f"{path.name}: found an output of shape {list(answer.shape)}, expected [1, {CLASSES}]")
    if not np.isfinite(answer).all():
        raise RunError(f"{path.name}: its probabilities are not finite numbers: its weights are damaged")
    return model


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Makes every error of the block, which works with a saved model, a `RunError` of one line."""
    try:
        yield
    except _TooLargeError as error:
        raise RunError(f"{path.name}: {error}") from error
    # Keras documents no errors; h5py, zipfile, json and layers of any kind raise here.
    except Exception as error:
        saved_by = "an unknown version"
        with suppress(Exception), zipfile.ZipFile(path) as archive:
            saved_by = printable(str(_read_json(archive, "metadata.json").get("keras_version")))[:20]
        # Keras quotes the model's whole configuration, and the cause behind it.
        reason = str(error).rpartition("Exception encountered: ")[2].partition(" Full object config:")[0]
        versions = f"saved by Keras {saved_by}, this is Keras {keras.__version__}"
        text = printable(" ".join(reason.split()))[:300]
        raise RunError(f"{path.name}: not a Keras model that this version can load ({versions}): {text}") from error


def custom_names(path: Path) -> set[str]:
    """Returns the registered names in a ``model.keras`` that this process does not know, such as ``mine>Scale``."""
    try:
        with zipfile.ZipFile(path) as archive:
            level: list[Any] = [_read_json(archive, "config.json")]
    # `load_model` says what is wrong with it.
    except Exception:
        return set()
    names: set[str] = set()
    while level:
        value = level.pop()
        if isinstance(value, dict):
            name = value.get("registered_name")
            if isinstance(name, str) and ">" in name and keras.saving.get_registered_object(name) is None:
                names.add(name)
            level += value.values()
        elif isinstance(value, list):
            level += value
    return names


def probabilities(model: keras.Model, pixels: np.ndarray, mirrored: bool = False) -> np.ndarray:
    """Returns float32 probabilities [n, 10] of uint8 images [n, 28, 28].

    With ``mirrored`` they are the mean of those of each image and of its mirror image, for twice the time.
    """
    batch_size = max(1, min(BATCH_SIZE, LARGEST_OUTPUT // _largest_output(model)))
    predicted: np.ndarray = model.predict(pixels, batch_size=batch_size, verbose=0)
    return averaged_with_mirror(model, pixels, predicted) if mirrored else predicted


def averaged_with_mirror(model: keras.Model, pixels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns the `probabilities` with ``mirrored``, from those that were ``predicted`` without."""
    averaged: np.ndarray = (predicted + probabilities(model, pixels[:, :, ::-1])) / 2
    return averaged


def _read_json(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    if archive.getinfo(name).file_size > LARGEST_CONFIG:
        raise _TooLargeError(f"found a {name} of more than {LARGEST_CONFIG:,} bytes")
    content = json.loads(archive.read(name))
    if not isinstance(content, dict):
        raise TypeError(f"{name}: expected names with values")
    return content


class _TooLargeError(ValueError):
    """A model that does not fit into memory, or has its weights elsewhere."""


def _check_sizes(path: Path) -> None:
    """Raises a _TooLargeError if weights or layers are larger than a model of these images has.

    The model is built without values: its layers may claim any size, whatever the file has.
    """
    values = 0

    def count(name: str, found: Any) -> None:
        nonlocal values
        if isinstance(found, h5py.Dataset):
            values += found.size or 0
            if found.external or found.is_virtual:
                raise _TooLargeError(f"its weights {name} are in another file")

    with zipfile.ZipFile(path) as archive:
        config = _read_json(archive, "config.json")
        if (unpacked := sum(one.file_size for one in archive.infolist())) > LARGEST_CONFIG + 8 * MOST_PARAMETERS:
            raise _TooLargeError(f"found {unpacked:,} bytes, expected at most {8 * MOST_PARAMETERS:,}")
        with archive.open("model.weights.h5") as weights, h5py.File(weights) as file:
            file.visititems(count)
    model = None
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = keras.saving.deserialize_keras_object(config | {"compile_config": None}, safe_mode=True)
    except ValueError as error:
        # A layer that makes variables of arrays cannot be built so; its arrays are part of the file.
        if "in a stateless scope" not in str(error):
            raise
    finally:
        # Else the next scope would give them values.
        global_state.set_global_attribute("uninitialized_variables", [])
    values = max(values, sum(math.prod(one.shape) for one in model.weights) if model else 0)
    if values > MOST_PARAMETERS:
        raise _TooLargeError(f"found {values:,} parameters, expected at most {MOST_PARAMETERS:,}")
    if model and (largest := _largest_output(model)) > LARGEST_OUTPUT:
        raise _TooLargeError(f"found a layer with {largest:,} outputs, expected at most {LARGEST_OUTPUT:,}")


def _largest_output(model: keras.Model) -> int:
    """Returns how many values the largest output of a layer has for one image; 1 if that is not known."""
    sizes = [1]
    for layer in model._flatten_layers():
        try:
            shapes = [one.shape for one in keras.tree.flatten(layer.output)]
        # A layer that was never called, or several times, has no output of its own.
        except (AttributeError, ValueError):
            continue
        sizes += [math.prod(size or 1 for size in shape) for shape in shapes]
    return max(sizes)
