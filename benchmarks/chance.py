"""Why two of the study's models may have stood at chance: what a backbone sees, and whether a head on it learns.

Repeats the study's frozen models with their inputs in three ranges, without test images:

- VGG16 with the weights given, such as ``python tests/hed_weights.py vgg16.weights.h5`` writes;
- EfficientNetB1 with fresh weights, but with the input statistics of the published ones, and its batch normalisations
  set to what images of 0 to 255 give: the range that a trained one expects. Whether images still differ behind it
  when they are fed in another range does not depend on what its filters have learnt.

``python benchmarks/chance.py --weights vgg16.weights.h5``
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

RANGES = {"0 to 1": 1 / 255, "0 to 255": 1.0}
# What the published EfficientNet's normalisation holds, of an input of 0 to 1: mean and variance a channel.
IMAGENET_MEAN, IMAGENET_STDDEV = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="of VGG16, a file; without it VGG16 is left out")
    parser.add_argument("--limit", type=int, default=5_000, help="images, of which a fifth validates")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    from fmnist import data
    from fmnist.workflows.transfer.recipes import FACTS

    images = data.take(data.clean(data.load("auto").train)[0], options.limit, seed=0)
    train, val = data.split(images, val_fraction=0.2, seed=0)
    print(
        f"{len(train):,} images, {options.epochs} epochs of the notebook's head; a model that says one tenth for every "
        f"class has a loss of {math.log(10):.4f}"
    )
    for name in ("efficientnetb1", *(["vgg16"] if options.weights else [])):
        notebook = FACTS[name].notebook
        recipes = {fed: replace(notebook, scale=scale) for fed, scale in RANGES.items()}
        if any(FACTS[name].sound.offset):
            recipes["0 to 255 minus the mean"] = replace(notebook, scale=1.0, offset=FACTS[name].sound.offset)
        for fed, recipe in recipes.items():
            experiment(name, fed, recipe, options, train, val)


def experiment(name: str, fed: str, recipe: Any, options: argparse.Namespace, train: Any, val: Any) -> None:
    """Measures a frozen backbone's features, trains the study's head on them, and prints both."""
    from fmnist.workflows.transfer.features import Features
    from fmnist.workflows.transfer.network import diagnose, feature_extractor, load_backbone

    backbone = load_backbone(name, recipe, options.weights if name == "vgg16" else None, seed=0)
    if name == "efficientnetb1":
        expect_0_to_255(backbone, replace(recipe, scale=1.0), train.select(np.arange(500)))
    extractor = feature_extractor(backbone, recipe)
    seen = diagnose(name, "notebook", recipe, extractor, train.select(np.arange(1000)))
    sets = [Features(extractor.predict(part.pixels, batch_size=100, verbose=0), part.labels) for part in (train, val)]
    print(
        f"{name} fed with {fed}: features of {sets[0].inputs.mean():.3g} on average differ by {seen.spread:.2%} "
        f"between images, {seen.silent_features:.0%} are always 0; nearest mean right for {seen.separability:.0%}"
    )
    for seed in SEEDS:
        accuracy, loss, dead = head(recipe, sets[0], sets[1], options.epochs, seed)
        layers = ", ".join(f"{share:.0%}" for share in dead)
        print(
            f"  head, seed {seed}: val_accuracy {accuracy:.4f}, val_loss {loss:.4f}, dead units by layer {layers}",
            flush=True,
        )


def expect_0_to_255(backbone: Any, recipe: Any, images: Any) -> None:
    """Sets the statistics of an EfficientNet with fresh weights, layer by layer, to those of images."""
    import keras

    from fmnist.workflows.transfer.network import backbone_input

    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.set_weights([np.array(IMAGENET_MEAN), np.array(IMAGENET_STDDEV) ** 2, np.array(1)])
            layer.finalize_state()
        if isinstance(layer, keras.layers.BatchNormalization):
            # No memory: the statistics become those of the one batch that follows.
            layer.momentum, layer.trainable = 0.0, True
    backbone(backbone_input(recipe).predict(images.pixels, verbose=0), training=True)
    backbone.trainable = False


def head(recipe: Any, train: Any, val: Any, epochs: int, seed: int) -> tuple[float, float, tuple[float, ...]]:
    """Trains the study's head with Adam; returns the last epoch's accuracy and loss, and the dead units."""
    from fmnist.models import sparse_cross_entropy
    from fmnist.models.optimizers import FusedAdam
    from fmnist.training import engine
    from fmnist.workflows.transfer.network import build_head, dead_units

    model = build_head(recipe, train.inputs.shape[1], seed=seed)
    results = list(
        engine.train(model, sparse_cross_entropy, FusedAdam(1e-3), train, val, batch_size=64, epochs=epochs, seed=seed)
    )
    return results[-1].val_accuracy, results[-1].val_loss, dead_units(model, val.inputs)


if __name__ == "__main__":
    main()
