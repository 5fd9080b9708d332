"""Transfer learning: the study's way in plain Keras against ours, and how fast features are computed.

The study's way runs the whole frozen network on every image in every epoch: the notebook's VGG16 with its head, Keras
``fit``. Ours computes the frozen network's output once and trains the same head on it: ``fmnist transfer --recipe
notebook``. Both get the same weights, the same training and validation images and as many epochs, one after the other.
Run it on an otherwise idle machine: ``python benchmarks/transfer.py --weights FILE.weights.h5``; without weights both
use fresh ones, which take as long.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from measure import in_child, report, set_threads

BATCH_SIZE = 64
# A 3x3 convolution of VGG16 at 32 pixels, block by block: (pixels a side, channels in, channels out).
CONVOLUTIONS = (
    (32, 3, 64), (32, 64, 64), (16, 64, 128), (16, 128, 128), (8, 128, 256), (8, 256, 256), (8, 256, 256),
    (4, 256, 512), (4, 512, 512), (4, 512, 512), (2, 512, 512), (2, 512, 512), (2, 512, 512),
)  # fmt: skip
OPERATIONS = sum(2 * 9 * side**2 * inputs * outputs for side, inputs, outputs in CONVOLUTIONS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=10_000, help="images, of which a fifth validates")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--weights", default="none", help="of VGG16, a file")
    parser.add_argument("--child", choices=["keras", "features", "matmul"])
    parser.add_argument("--precision", default="float32")
    options = parser.parse_args()
    if options.child:
        report(**{"keras": keras_fit, "features": features, "matmul": matmul}[options.child](options))
        return

    speeds(options)
    print(f"{options.limit:,} images, {options.epochs} epochs of the head, batch {BATCH_SIZE}", flush=True)
    started = time.perf_counter()
    peer = in_child(__file__, *arguments(options), "--child", "keras")
    peer["wall"] = time.perf_counter() - started
    line = "{:<44} {:7.1f} s to a trained head, {:7.1f} s the whole command, val_accuracy {:.4f}"
    print(line.format("plain Keras, whole network every epoch", peer["training"], peer["wall"], peer["accuracy"]))
    for precision in ("float32", "auto"):
        ours = our_command(options, precision)
        name = f"fmnist transfer --precision {precision}"
        print(line.format(name, ours["training"], ours["wall"], ours["accuracy"]), flush=True)
        print(
            f"Keras / ours, {precision}: {peer['training'] / ours['training']:.1f}x to a trained head, "
            f"{peer['wall'] / ours['wall']:.1f}x the whole command (ours also measures 10,000 test images and reports)"
        )
        print(f"  ours: features {ours['features']:.1f} s, head {ours['head']:.1f} s", flush=True)


def speeds(options: argparse.Namespace) -> None:
    """Prints images a second of feature extraction on one and two processors, beside their matrix-product rate."""
    for precision in ("float32", "bfloat16"):
        for processes in (1, 2):
            measured = {
                child: sum(in_children(child, processes, *arguments(options), "--precision", precision))
                for child in ("features", "matmul")
            }
            rate, most = measured["features"] * OPERATIONS / 1e9, measured["matmul"]
            print(
                f"VGG16 at 32 pixels, {precision}, {processes} x 1 thread: {measured['features']:6.0f} images/s, "
                f"{rate:4.0f} of {most:4.0f} GFLOP/s of matrix products ({rate / most:.0%})",
                flush=True,
            )


def in_children(child: str, processes: int, *settings: str) -> list[float]:
    """Runs a child several times at once; returns what each measured while the others ran."""
    with ThreadPoolExecutor(processes) as pool:
        results = pool.map(lambda _: in_child(__file__, *settings, "--child", child), range(processes))
        return [result["rate"] for result in results]


def arguments(options: argparse.Namespace) -> list[str]:
    return [f"--{name}={getattr(options, name)}" for name in ("limit", "epochs", "weights")]


def features(options: argparse.Namespace) -> dict[str, Any]:
    """Images a second of one process of one thread, as a feature task of one processor computes."""
    set_threads(1)
    import numpy as np

    from fmnist.models import precision_policy
    from fmnist.workflows.transfer.network import feature_extractor, load_backbone
    from fmnist.workflows.transfer.recipes import FACTS

    recipe = FACTS["vgg16"].notebook
    with precision_policy(options.precision):
        extractor = feature_extractor(load_backbone("vgg16", recipe, None), recipe)
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 28, 28), np.uint8)
    extractor.predict(pixels[:200], batch_size=100, verbose=0)
    return {"rate": best_rate(lambda: extractor.predict(pixels, batch_size=100, verbose=0), len(pixels), rounds=4)}


def matmul(options: argparse.Namespace) -> dict[str, Any]:
    """Operations a second, in billions, of products of large matrices on one thread."""
    set_threads(1)
    import tensorflow as tf

    size = 2048
    left = tf.cast(tf.random.normal((size, size)), options.precision)
    product = tf.function(lambda: tf.linalg.matmul(left, left))
    product()
    return {"rate": best_rate(lambda: product().numpy(), 2 * size**3 / 1e9, rounds=20)}


def best_rate(work: Any, amount: float, rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return amount / min(taken)


def our_command(options: argparse.Namespace, precision: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as artifacts:
        command = [sys.executable, "-m", "fmnist", "transfer", "--artifacts", artifacts, "--run-id", "ours"]
        command += ["--backbone", "vgg16", "--recipe", "notebook", "--weights", options.weights, "--patience", "0"]
        command += [f"--limit={options.limit}", f"--epochs={options.epochs}", f"--batch-size={BATCH_SIZE}"]
        command += ["--images-per-shard=1000", "--precision", precision]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        # From the first that is said of features to the first that follows the last epoch.
        marks: dict[str, float] = {}
        for text in process.stdout:
            marks.setdefault("features" if text.startswith("VGG16, frozen:") else text[:5], time.perf_counter())
            if text.startswith("epoch "):
                marks["head"] = time.perf_counter()
        if process.wait():
            raise SystemExit(f"{' '.join(command)} failed with {process.returncode}")
        wall = time.perf_counter() - started
        metrics = json.loads(Path(artifacts, "ours", "metrics.json").read_text())
    head = metrics["seconds"]["training"]
    training = marks["head"] - marks["features"]
    return {
        "training": training,
        "features": training - head,
        "head": head,
        "wall": wall,
        "accuracy": metrics["val"]["accuracy"],
    }


def keras_fit(options: argparse.Namespace) -> dict[str, Any]:
    """The study's model as its notebook builds it, on images that are framed and scaled beforehand."""
    import keras
    import numpy as np
    from keras import layers

    from fmnist import data

    images = data.take(data.clean(data.load("auto").train)[0], options.limit, seed=0)
    train, val = data.split(images, val_fraction=0.2, seed=0)

    def framed(part: data.Images) -> np.ndarray:
        grey = np.pad(part.pixels, ((0, 0), (2, 2), (2, 2)))[..., None].astype("float32") / 255
        return np.repeat(grey, 3, axis=-1)

    x, x_val = framed(train), framed(val)
    base = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    if options.weights != "none":
        base.load_weights(options.weights)
    base.trainable = False
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            base,
            layers.Flatten(),
            layers.Dense(1024, activation="relu"),
            layers.Dropout(0.4),
            layers.Dense(512, activation="relu"),
            layers.Dropout(0.4),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    started = time.perf_counter()
    history = model.fit(
        x,
        train.labels,
        batch_size=BATCH_SIZE,
        epochs=options.epochs,
        validation_data=(x_val, val.labels),
        verbose=0,
    )
    return {"training": time.perf_counter() - started, "accuracy": max(history.history["val_accuracy"])}


if __name__ == "__main__":
    main()
