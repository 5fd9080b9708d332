"""Cross-validation: the study's serial loop in plain Keras against ours, one fold at once and two.

The peer is the study's loop: one process with all threads, one model compiled anew for each fold, ``fit`` and then
``evaluate``. It gets the very parts of the images that our folds get, so that both train, validate and measure on the
same images, and as many epochs. A whole command each, from its start to its end, one after the other. Run it on an
otherwise idle machine: ``python benchmarks/crossval.py``.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from statistics import mean, median
from typing import Any

from measure import in_child, notebook_layers, report

BATCH_SIZE = 64
WORKERS = (1, 2, 5, 10)
WAYS = {
    "keras": "plain Keras fit, folds in series, all threads",
    "ours-1": "fmnist crossval --concurrency 1",
    "ours-2": "fmnist crossval",
    "ours-2-auto": "fmnist crossval --precision auto",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=10_000, help="images, of which every fold holds out its share")
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--child", choices=["keras"])
    options = parser.parse_args()
    if options.child:
        report(accuracy=keras_loop(options))
        return

    results: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    print(f"{options.folds} folds of {options.limit:,} images, {options.epochs} epochs each, batch {BATCH_SIZE}")
    for _ in range(options.rounds):
        for way, runs in results.items():
            runs.append(keras_command(options) if way == "keras" else our_command(options, way))
            last = runs[-1]
            print(f"  {WAYS[way]:<48} {last['wall']:6.1f} s  held-out accuracy {last['accuracy']:.4f}", flush=True)
    wall = {way: median(run["wall"] for run in runs) for way, runs in results.items()}
    print(f"Keras' loop / ours: {wall['keras'] / wall['ours-2']:.2f}x")
    print(f"Keras' loop / ours with --precision auto: {wall['keras'] / wall['ours-2-auto']:.2f}x")
    print(f"ours one at once / two at once: {wall['ours-1'] / wall['ours-2']:.2f}x")
    growth(options.folds, [run["ends"] for run in results["ours-1"]], wall["ours-1"], wall["ours-2"])


def growth(folds: int, ends: list[list[float]], one: float, two: float) -> None:
    """Predicts the wall time on workers that do not share processors, from the run of one fold at once.

    Args:
        ends: seconds from the command's start to the end of each fold, a list a run.
        one, two: measured wall time with one fold at once, and with two.
    """
    # The first fold also waits for Ray and TensorFlow, which every worker does at the same time.
    fold = mean(late - early for run in ends for early, late in pairwise(run))
    fixed = one - folds * fold
    print(f"workers of one processor each: wall(workers) = {fixed:.1f} s + ceil({folds} / workers) * {fold:.1f} s")
    for workers in WORKERS:
        predicted = fixed + math.ceil(folds / workers) * fold
        measured = {1: f", measured {one:.1f} s", 2: f", measured {two:.1f} s on two cores"}.get(workers, "")
        print(f"  {workers:2} workers: {predicted:6.1f} s, {one / predicted:4.2f} times one{measured}")


def our_command(options: argparse.Namespace, way: str) -> dict[str, Any]:
    _, at_once, *precision = way.split("-")
    with tempfile.TemporaryDirectory() as artifacts:
        command = [sys.executable, "-m", "fmnist", "crossval", "--artifacts", artifacts, "--patience", "0"]
        command += [f"--{name}={getattr(options, name)}" for name in ("limit", "folds", "epochs")]
        command += ["--batch-size", str(BATCH_SIZE), "--concurrency", at_once, "--cpus-per-fold", "1"]
        command += ["--precision", *precision] if precision else []
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        ends, accuracy = [], 0.0
        for line in process.stdout:
            if " ended after " in line:
                ends.append(time.perf_counter() - started)
            if line.startswith("held-out accuracy"):
                accuracy = float(line.split()[2])
        if process.wait():
            raise SystemExit(f"{' '.join(command)} failed with {process.returncode}")
        return {"wall": time.perf_counter() - started, "ends": ends, "accuracy": accuracy}


def keras_command(options: argparse.Namespace) -> dict[str, Any]:
    arguments = [f"--{name}={getattr(options, name)}" for name in ("limit", "folds", "epochs")]
    started = time.perf_counter()
    child = in_child(__file__, *arguments, "--child", "keras")
    return {"wall": time.perf_counter() - started, **child}


def keras_loop(options: argparse.Namespace) -> float:
    """Returns the mean accuracy on the held-out images; the weights are carried from fold to fold, as in the study."""
    import keras
    import numpy as np
    from keras import layers

    from fmnist import data

    images = data.take(data.clean(data.load("auto").train)[0], options.limit, seed=0)
    x = np.pad(images.pixels, ((0, 0), (2, 2), (2, 2)))[..., None].astype("float32") / 255
    y = keras.utils.to_categorical(images.labels, 10)
    model = keras.Sequential([keras.Input((32, 32, 1)), *notebook_layers(layers)])
    accuracies = []
    for fold in data.folds(images, options.folds, val_fraction=0.1, seed=0):
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        model.fit(
            x[fold.train],
            y[fold.train],
            batch_size=BATCH_SIZE,
            epochs=options.epochs,
            validation_data=(x[fold.val], y[fold.val]),
            verbose=0,
        )
        accuracies.append(model.evaluate(x[fold.held_out], y[fold.held_out], verbose=0)[1])
    return float(np.mean(accuracies))


if __name__ == "__main__":
    main()
