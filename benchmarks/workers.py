"""Data-parallel: two workers of one thread against one, and against Ray's documented TensorFlow path.

Ray's path is tf-keras ``fit`` under ``MultiWorkerMirroredStrategy`` in `ray.train.tensorflow.TensorflowTrainer`, with
the same images, global batch and threads. All in turn in one run, several rounds, on an otherwise idle machine:
``python benchmarks/workers.py``.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

from measure import images, in_child, notebook_layers, report, set_threads, spread

BATCH_SIZE = 256
EPOCHS = 4

WAYS = {"ours-1": "fmnist, 1 worker", "ours-2": "fmnist, 2 workers", "ray-2": "Ray's documented path, 2 workers"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=25_600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=WAYS)
    options = parser.parse_args()
    if options.child:
        way, workers = options.child.split("-")
        report(
            rates=ray_rates(int(workers), options.images) if way == "ray" else our_rates(int(workers), options.images)
        )
        return

    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way, values in rates.items():
            # Ray sets this in its workers, but only after they have imported TensorFlow, which reads it at its import.
            legacy = {"TF_USE_LEGACY_KERAS": "1"} if way == "ray-2" else {}
            child = in_child(__file__, "--images", str(options.images), "--child", way, environment=legacy)
            values += child["rates"][1:]
    print(f"images/s, global batch {BATCH_SIZE}, 1 thread a worker, {options.images:,} images: median (range)")
    for way, title in WAYS.items():
        print(f"  {title:<34} {spread(rates[way])}")
    print(f"two workers / one: {median(rates['ours-2']) / median(rates['ours-1']):.2f}x")
    print(f"ours / Ray's documented path, two workers: {median(rates['ours-2']) / median(rates['ray-2']):.2f}x")


def our_rates(workers: int, count: int) -> list[float]:
    from fmnist.distributed import cluster
    from fmnist.distributed.trainer import StrategyTrainer

    with cluster.connected():
        trainer = StrategyTrainer(
            our_worker, train_loop_config={"images": images(count)}, scaling_config=scaling(workers)
        )
        rates: list[float] = trainer.fit().return_value
        return rates


def our_worker(settings: dict[str, Any]) -> list[float]:
    from fmnist.data import Images
    from fmnist.distributed.workers import join

    shard = join(1, 2, deterministic=False)
    from fmnist.models import MODELS, build_model
    from fmnist.models.optimizers import FusedAdam
    from fmnist.training import engine

    train = Images(*settings["images"])
    epochs = engine.train(
        build_model("lenet5", seed=0),
        MODELS["lenet5"].loss,
        FusedAdam(1e-3),
        train,
        Images(train.pixels[:100], train.labels[:100]),
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        seed=0,
        shard=shard,
    )
    return [epoch.images_per_second for epoch in epochs]


def ray_rates(workers: int, count: int) -> list[float]:
    from ray.train.tensorflow import TensorflowTrainer

    from fmnist.distributed import cluster

    with cluster.connected():
        trainer = TensorflowTrainer(
            ray_worker, train_loop_config={"images": images(count)}, scaling_config=scaling(workers)
        )
        rates: list[float] = trainer.fit().return_value
        return rates


def ray_worker(settings: dict[str, Any]) -> list[float]:
    """The notebook's model, as Ray's guide for TensorFlow and Keras builds, compiles and fits it."""
    set_threads(1)
    import numpy as np
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    pixels, labels = settings["images"]
    x = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))[..., None].astype("float32") / 255
    data = tf.data.Dataset.from_tensor_slices((x, labels.astype("int64"))).shuffle(10_000, seed=0)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    data = data.batch(BATCH_SIZE, drop_remainder=True).prefetch(2).with_options(options)
    layers = tf.keras.layers
    with strategy.scope():
        model = tf.keras.Sequential(
            [
                layers.InputLayer(input_shape=(32, 32, 1)),
                *notebook_layers(layers),
            ]
        )
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    rates = []
    for _ in range(EPOCHS):
        started = time.perf_counter()
        model.fit(data, verbose=0)
        rates.append(len(x) / (time.perf_counter() - started))
    return rates


def scaling(workers: int) -> Any:
    import ray.train

    return ray.train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1})


if __name__ == "__main__":
    main()
