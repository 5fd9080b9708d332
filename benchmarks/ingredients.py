"""What does each ingredient of a fast recipe give? One change a row, measured on validation images, never on test ones.

Every row trains a point of the space `fast` on the same images, and is measured on 10,000 other training images. Times
are processor seconds, so that rows compare on a busy machine too: ``python benchmarks/ingredients.py``.
"""

from __future__ import annotations

import argparse
import time
from statistics import mean
from typing import Any

from measure import accuracies, images

VALIDATION = 10_000

BASE = {"pooling": "stride", "optimizer": "muon", "learning_rate": 0.06, "adam_lr_ratio": 0.15, "weight_decay": 0.1}
ADAMW = {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.02}
# By name: what a row changes of the base, and for how many epochs it trains.
CHANGES: dict[str, tuple[dict[str, Any], int]] = {
    "the base": ({}, 4),
    "AdamW at 0.01": (ADAMW, 4),
    "AdamW at 0.01, pooling": ({**ADAMW, "pooling": "max"}, 4),
    "Muon at 0.02": ({"learning_rate": 0.02, "adam_lr_ratio": 0.5}, 4),
    "learning rate 0.1": ({"learning_rate": 0.1}, 4),
    "no label smoothing": ({"label_smoothing": 0.0}, 4),
    "batches of 128": ({"batch_size": 128}, 4),
    "batches of 512": ({"batch_size": 512}, 4),
    "20 filters": ({"filters": 20}, 4),
    "no shifts": ({"translation": 0}, 4),
    "no shifts, 2 epochs": ({"translation": 0}, 2),
    "no shifts, 3 epochs": ({"translation": 0}, 3),
    "8 epochs": ({}, 8),
    "shifts of 2, 8 epochs": ({"translation": 2}, 8),
    "24 filters, 6 epochs": ({"filters": 24}, 6),
    "24 filters, 8 epochs": ({"filters": 24}, 8),
    "24 filters, no shifts, 6 epochs": ({"filters": 24, "translation": 0}, 6),
    "32 filters, no shifts, 5 epochs": ({"filters": 32, "translation": 0}, 5),
    "32 filters, no shifts, 12 epochs": ({"filters": 32, "translation": 0}, 12),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", nargs="*", choices=list(CHANGES), default=list(CHANGES), metavar="CHANGE")
    parser.add_argument("--images", type=int, default=50_000, help="to train on")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    from fmnist.training import devices

    lanes = devices.configure_tensorflow(options.threads, least_lanes=2)
    import numpy as np

    from fmnist.data import Images

    pixels, labels = images(60_000)
    order = np.random.default_rng(1).permutation(len(pixels))
    val, train = order[:VALIDATION], order[VALIDATION : VALIDATION + options.images]
    sets = Images(pixels[train], labels[train]), Images(pixels[val], labels[val])
    print(f"{options.images:,} images, validation accuracy of {VALIDATION:,} others, means of {options.seeds} seeds")
    columns = ["change", "epochs", "parameters", "accuracy", "mirrored", "processor seconds"]
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for name in options.changes:
        change, epochs = CHANGES[name]
        found = [trained({**BASE, **change}, epochs, seed, lanes, *sets) for seed in range(options.seeds)]
        parameters, plain, mirrored, seconds = (mean(values) for values in zip(*found, strict=True))
        row = f"{name} | {epochs} | {parameters:,.0f} | {plain:.4f} | {mirrored:.4f} | {seconds:.0f}"
        print(f"| {row} |", flush=True)


def trained(
    change: dict[str, Any], epochs: int, seed: int, lanes: int, train: Any, val: Any
) -> tuple[int, float, float, float]:
    """Returns the parameters, the accuracy of the last weights, plain and mirrored, and the processor seconds."""
    from fmnist.data import Images
    from fmnist.models.factory import build
    from fmnist.training import engine

    built = build("fast", change, learning_rate=0.0, seed=seed, precision="float32")
    few = Images(val.pixels[:100], val.labels[:100])  # the engine wants some after each epoch
    seconds, began = [], time.process_time()
    for _ in engine.train(
        built.model,
        built.loss,
        built.optimizer,
        train,
        few,
        batch_size=change.get("batch_size", 256),
        epochs=epochs,
        seed=seed,
        shard=engine.Shard(lanes=lanes),
    ):
        seconds.append(time.process_time() - began)
        began = time.process_time()
    plain, mirrored = accuracies(built.model, val)
    # Without the compilation in the first epoch.
    return built.model.count_params(), plain, mirrored, mean(seconds[1:]) * epochs


if __name__ == "__main__":
    main()
