"""What the benchmarks share: child processes of their own, so that no two measurements share a TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from statistics import median
from typing import Any

import numpy as np

RESULT = "RESULT "


def in_child(script: str, *arguments: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Runs ``script ARGUMENTS`` in a process of its own and returns what it reported with `report`."""
    child = subprocess.run(
        [sys.executable, script, *arguments],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(environment or {})},
        capture_output=True,
        text=True,
    )
    for line in child.stdout.splitlines():
        if line.startswith(RESULT):
            result: dict[str, Any] = json.loads(line.removeprefix(RESULT))
            return result
    raise SystemExit(f"{script} {' '.join(arguments)} failed:\n{child.stdout}\n{child.stderr}")


def report(**figures: Any) -> None:
    """Reports a child's figures to its parent."""
    print(RESULT + json.dumps(figures), flush=True)


def spread(values: list[float]) -> str:
    """The median with its range."""
    return f"{median(values):8,.0f}  ({min(values):,.0f}-{max(values):,.0f})"


def set_threads(threads: int) -> None:
    """Both of TensorFlow's pools, as in a worker of the train job."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first ``count`` published training images, uint8 [n, 28, 28], and their labels."""
    from fmnist.data import load

    train = load("auto").train
    return train.pixels[:count], train.labels[:count]


def accuracies(model: Any, images: Any) -> tuple[float, float]:
    """Returns the accuracy of a model on images, plain and averaged with their mirror images."""
    from fmnist.training.inference import averaged_with_mirror, probabilities

    plain = probabilities(model, images.pixels)
    mirrored = averaged_with_mirror(model, images.pixels, plain)
    right, also_right = ((one.argmax(axis=1) == images.labels).mean() for one in (plain, mirrored))
    return float(right), float(also_right)


def notebook_layers(layers: Any) -> list[Any]:
    """The layers of the study's notebook, from 32 x 32 x 1 to ten probabilities, of Keras 3 or of Keras 2."""
    return [
        layers.Conv2D(32, 5, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(48, 5, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(256, activation="relu"),
        layers.Dense(84, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ]
