"""Which size and which layer of VGG16 the sound recipe should take: validation accuracy against cost.

Trains the sound recipe's head on features of every size and layer, from the same few images, without test images.
``python benchmarks/image_size.py --weights vgg16.weights.h5``
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from measure import set_threads

SIZES = (32, 48, 64)
LAYERS = ("block3_pool", "block4_pool", "block5_pool")
BATCH_SIZE = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="of VGG16, a file")
    parser.add_argument("--limit", type=int, default=8_000, help="images, of which a fourth validates")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    set_threads(2)
    from fmnist import data
    from fmnist.models import precision_policy
    from fmnist.training.devices import automatic_precision
    from fmnist.workflows.transfer.network import feature_extractor, load_backbone
    from fmnist.workflows.transfer.recipes import FACTS

    precision = automatic_precision(False)
    images = data.take(data.clean(data.load("auto").train)[0], options.limit, seed=0)
    train, val = data.split(images, val_fraction=0.25, seed=0)
    print(f"{len(train):,} images, {options.epochs} epochs of the head, {precision}, both threads")
    for size in SIZES:
        for layer in LAYERS:
            recipe = replace(FACTS["vgg16"].sound, image_size=size, feature_layer=layer)
            with precision_policy(precision):
                extractor = feature_extractor(load_backbone("vgg16", recipe, options.weights), recipe)
            extractor.predict(train.pixels[:200], batch_size=100, verbose=0)
            started = time.perf_counter()
            features = [extractor.predict(part.pixels, batch_size=100, verbose=0) for part in (train, val)]
            rate = len(images) / (time.perf_counter() - started)
            accuracy = head_accuracy(recipe, features, [train.labels, val.labels], options.epochs)
            print(
                f"{size} pixels, {layer}: {features[0].shape[1]:6,} features, {rate:5.0f} images/s, "
                f"val_accuracy {accuracy:.4f}",
                flush=True,
            )


def head_accuracy(recipe, features, labels, epochs: int) -> float:  # type: ignore[no-untyped-def]
    """Trains the recipe's head as ``fmnist transfer`` does; returns the last epoch's validation accuracy."""
    from fmnist.models import sparse_cross_entropy
    from fmnist.models.optimizers import FusedAdam
    from fmnist.models.schedules import CosineWithWarmup
    from fmnist.training import engine
    from fmnist.workflows.transfer.features import Features
    from fmnist.workflows.transfer.network import build_head, standardise

    train, val = (Features(*one) for one in zip(features, labels, strict=True))
    head = build_head(recipe, train.inputs.shape[1], seed=0)
    standardise(head, train.inputs)
    optimizer = FusedAdam(CosineWithWarmup(1e-3))
    results = list(
        engine.train(head, sparse_cross_entropy, optimizer, train, val, batch_size=BATCH_SIZE, epochs=epochs, seed=0)
    )
    return results[-1].val_accuracy


if __name__ == "__main__":
    main()
