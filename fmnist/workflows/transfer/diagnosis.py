"""What a backbone makes of images fed to it in one way or another: why some of the study's models stood at chance."""

from __future__ import annotations

import keras
import numpy as np

from fmnist.data import Images
from fmnist.workflows.transfer.network import backbone_input
from fmnist.workflows.transfer.recipes import Recipe
from fmnist.workflows.transfer.records import InputDiagnosis

BATCH_SIZE = 100


def diagnose(name: str, recipe_name: str, recipe: Recipe, extractor: keras.Model, images: Images) -> InputDiagnosis:
    """Measures what the features of some images tell about their classes, without training anything.

    Args:
        name: of the backbone.
        recipe_name: ``sound`` or ``notebook``, for the record.
        recipe: how images are fed.
        extractor: raw images to the backbone's features, fed so.
        images: two or more of each class; one half shows the classes, the other is sorted into them.
    """
    fed = backbone_input(recipe).predict(images.pixels, batch_size=BATCH_SIZE, verbose=0)
    features = extractor.predict(images.pixels, batch_size=BATCH_SIZE, verbose=0)
    size = np.abs(features).mean(axis=0)
    silent = size == 0
    spread = features.std(axis=0)[~silent] / size[~silent]
    return InputDiagnosis(
        backbone=name,
        recipe=recipe_name,
        low=float(fed.min()),
        high=float(fed.max()),
        spread=float(spread.mean()) if len(spread) else 0.0,
        silent_features=float(silent.mean()),
        separability=_separability(features.astype(np.float64), images.labels),
    )


def _separability(features: np.ndarray, labels: np.ndarray) -> float:
    """Share of every second image whose class' mean, over the other images, is nearest."""
    shown, sorted_in = features[::2], features[1::2]
    classes = np.unique(labels[::2])
    means = np.stack([shown[labels[::2] == label].mean(axis=0) for label in classes])
    # |x - m|^2 but for |x|^2, which is the same for every mean.
    distances = (means**2).sum(axis=1) - 2 * sorted_in @ means.T
    return float((classes[distances.argmin(axis=1)] == labels[1::2]).mean())
