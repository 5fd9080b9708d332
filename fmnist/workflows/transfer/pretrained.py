"""Loading the pretrained weights of a backbone, in both of Keras' HDF5 formats.

Keras publishes the ImageNet weights in the legacy format, which has a list of layers in order. Keras 3's own format has
a group ``layers``, whose names are made of the layers' classes.
"""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import keras

from fmnist.errors import UserError
from fmnist.workflows.transfer.weights import KERAS3_SUFFIX

_IMAGENET_STDDEV = (0.229, 0.224, 0.225)  # of red, green and blue, on a scale of 0 to 1


def load_pretrained(model: keras.Model, path: Path, *, published: bool, backbone: str) -> None:
    """Loads a file of weights, ``….weights.h5`` in Keras 3's format, otherwise ``….h5``, into a whole backbone.

    Args:
        model: ``keras.applications``' network, built with ``include_top=False, weights=None``. After an error, some of
            its layers may have the file's weights.
        published: whether the file is the ImageNet weights as Keras publishes them.
        backbone: a key of `FACTS`.

    Raises:
        UserError: if the file is damaged, in no format that Keras reads, or of another network.
    """
    try:
        with h5py.File(path, "r") as file:
            rescales = _rescales(file, path)
        model.load_weights(path)
    except ValueError as error:
        # Keras' error, which names the layer if the format does: without the lists before and after that.
        text = str(error).rpartition("for object ")[2].partition(" Target variable")[0].partition("\n\nList of")[0]
        raise UserError(f"{path}: not weights of {backbone}: {' '.join(text.split())}") from error
    except (OSError, KeyError, RuntimeError) as error:
        raise UserError(
            f"{path}: cannot be read as weights of {backbone}, expected an intact HDF5 file: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    if backbone == "efficientnetb1" and (published or rescales):
        _fold_rescaling(model)


def _rescales(file: h5py.File, path: Path) -> bool:
    """Returns whether a file is of a model with a second Rescaling, after checking that its name fits its format."""
    keras3 = "layers" in file
    if keras3 != path.name.endswith(KERAS3_SUFFIX):
        # Keras chooses the format by the name alone.
        found, expected = ("Keras 3's", KERAS3_SUFFIX) if keras3 else ("not Keras 3's", ".h5 but not in .weights.h5")
        raise UserError(f"{path}: the format is {found}, expected a name that ends in {expected}")
    # A whole model's file has the weights in a group. A layer without weights has a group, too.
    names = file["layers"] if keras3 else file.get("model_weights", file)
    # The legacy format has the names of the process that saved it, which number the layers of all its models.
    return sum(re.fullmatch(r"rescaling(_\d+)?", name) is not None for name in names) > 1


def _fold_rescaling(model: keras.Model) -> None:
    """Applies a layer that Keras' EfficientNet has with ``weights="imagenet"``, and only then.

    The published file has the channels' standard deviations where the Normalization layer expects their variances
    (https://github.com/tensorflow/tensorflow/issues/49930). The layer divides by their square root, so Keras adds a
    Rescaling that divides by the square root again. A network that is built without weights lacks the Rescaling; here
    the variance is corrected instead.
    """
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    layer.adapt_variance.assign(layer.adapt_variance * keras.ops.array(_IMAGENET_STDDEV, dtype="float32"))
    # The layer computes with a copy that it made when its weights were loaded.
    layer.finalize_state()
