"""One process: our loop against plain Keras ``fit`` of the notebook's code, and against the machine's own limit.

Same images, same threads, same batch, in turn, several rounds in one run. Run it on an otherwise idle machine:
``python benchmarks/train.py``.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

from measure import images, in_child, notebook_layers, report, set_threads, spread

BATCH_SIZE = 64
EPOCHS = 5

# Floating-point operations for one image, forwards: 2 x kernel size x inputs x outputs x positions for each layer.
FORWARD = {
    "C1": 2 * 25 * 1 * 32 * 32 * 32,
    "C3": 2 * 25 * 32 * 48 * 12 * 12,
    "F5": 2 * 1728 * 256,
    "F6": 2 * 256 * 84,
    "logits": 2 * 84 * 10,
}
# Backwards twice as many again, for inputs and weights; the first layer's inputs are images and need no gradient.
OPERATIONS_AN_IMAGE = 3 * sum(FORWARD.values()) - FORWARD["C1"]

WAYS = {
    "keras": "plain Keras fit, as the notebook (Keras compiles it with XLA)",
    "keras-no-xla": "plain Keras fit, jit_compile=False",
    "ours": "fmnist's loop, float32",
    "ours-bfloat16": "fmnist's loop, precision=bfloat16",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=[*WAYS, "matmul"])
    options = parser.parse_args()
    if options.child:
        child(options.child, options.threads, options.images)
        return

    arguments = ("--threads", str(options.threads), "--images", str(options.images))
    rates: dict[str, list[float]] = {way: [] for way in [*WAYS, "matmul"]}
    for _ in range(options.rounds):
        for way, values in rates.items():
            # The first epoch compiles; the others count.
            values += in_child(__file__, *arguments, "--child", way)["rates"][1:]

    print(f"images/s, batch {BATCH_SIZE}, {options.threads} threads, {options.images:,} images: median (range)")
    for way, title in WAYS.items():
        print(f"  {title:<62} {spread(rates[way])}")
    ours, limit = median(rates["ours"]), median(rates["matmul"])
    for way in ("keras", "keras-no-xla"):
        print(f"ours / {way}: {ours / median(rates[way]):.2f}x")
    print(f"ours with bfloat16 / ours: {median(rates['ours-bfloat16']) / ours:.2f}x")
    print(
        f"float32 matrix product of 2048: {limit / 1e9:,.0f} GFLOP/s; training does {OPERATIONS_AN_IMAGE / 1e6:.1f} "
        f"MFLOP an image, so it reaches {ours * OPERATIONS_AN_IMAGE / limit:.0%} of that rate"
    )


def child(way: str, threads: int, count: int) -> None:
    if way.startswith("ours"):
        report(rates=our_rates(threads, count, "bfloat16" if way == "ours-bfloat16" else "float32"))
        return
    set_threads(threads)
    if way == "matmul":
        report(rates=matrix_product_rates())
    else:
        report(rates=keras_rates(count, jit_compile="auto" if way == "keras" else False))


def matrix_product_rates(size: int = 2048) -> list[float]:
    """Operations a second of a float32 matrix product, several times."""
    import tensorflow as tf

    a, b = tf.random.normal((size, size)), tf.random.normal((size, size))
    multiply = tf.function(tf.matmul)
    rates = []
    for _ in range(6):
        started = time.perf_counter()
        for _ in range(5):
            product = multiply(a, b)
        product.numpy()
        rates.append(5 * 2 * size**3 / (time.perf_counter() - started))
    return rates


def keras_rates(count: int, jit_compile: str | bool) -> list[float]:
    """The notebook's cells: float images padded to 32 x 32, one-hot labels, compile, fit."""
    import keras
    import numpy as np
    from keras import layers

    pixels, labels = images(count)
    x = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))[..., None].astype("float32") / 255
    y = keras.utils.to_categorical(labels, 10)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 1)),
            *notebook_layers(layers),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"], jit_compile=jit_compile)
    rates = []
    for _ in range(EPOCHS):
        started = time.perf_counter()
        model.fit(x, y, batch_size=BATCH_SIZE, verbose=0)
        rates.append(count / (time.perf_counter() - started))
    return rates


def our_rates(threads: int, count: int, precision: str) -> list[float]:
    """What a worker of the train job computes."""
    from fmnist.data import Images
    from fmnist.models import MODELS, build_model
    from fmnist.training import devices, engine

    lanes = devices.configure_tensorflow(threads, least_lanes=2)
    from fmnist.models.optimizers import FusedAdam

    train = Images(*images(count))
    epochs = engine.train(
        build_model("lenet5", seed=0, precision=precision),
        MODELS["lenet5"].loss,
        FusedAdam(1e-3),
        train,
        Images(train.pixels[:100], train.labels[:100]),
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        seed=0,
        shard=engine.Shard(lanes=lanes),
    )
    return [epoch.images_per_second for epoch in epochs]


if __name__ == "__main__":
    main()
