"""Inference with a saved model: probabilities of raw uint8 images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fmnist.console import quiet_libraries
from fmnist.errors import RunError, first_line

with quiet_libraries():
    import keras

    import fmnist.models  # noqa: F401  (registers the custom layers that a saved model may name)

BATCH_SIZE = 1000


def load_model(path: Path) -> keras.Model:
    """Loads a ``model.keras``; a `RunError` if the file is not a Keras model."""
    try:
        return keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, KeyError) as error:
        raise RunError(f"{path.name}: not a Keras model that this version can load ({first_line(error)})") from error


def probabilities(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Returns float32 probabilities [n, 10] of uint8 images [n, 28, 28]."""
    return model.predict(pixels, batch_size=BATCH_SIZE, verbose=0)
