"""The processes of ``benchmarks/gpu.py``: each is one framework, and reports images/s after the first epoch.

All train the study's LeNet-5 with Adam on the same images, each once an epoch.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from measure import notebook_layers, report

Rates = Iterator[tuple[float, float]]


def images(data: str, small: bool) -> tuple[np.ndarray, np.ndarray]:
    from fmnist.data import load

    count = 256 if small else 48_000
    train = load(data).train
    return train.pixels[:count], train.labels[:count]


def measured(epochs: Rates) -> dict[str, Any]:
    """Images/s as the median of all epochs but the first, the seconds of the first, and the last loss."""
    began = time.perf_counter()
    rates, losses, first = [], [], 0.0
    for rate, loss in epochs:
        first = first or time.perf_counter() - began
        rates.append(rate)
        losses.append(loss)
    return {"images/s": median(rates[1:]), "first epoch, s": first, "losses": [round(loss, 6) for loss in losses]}


def of_runs(train: Any, runs: list[Any], small: bool) -> dict[str, Any]:
    return {
        f"{batch} {precision}": measured(train(min(batch, 64) if small else batch, precision, 2 if small else 8))
        for batch, precision in (runs[:1] if small else runs)
    }


def device() -> dict[str, Any]:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    peers = {name: bool(find_spec(name)) for name in ("jax", "optax", "torch")}
    return {"GPU": details.get("device_name") if gpus else None, "TensorFlow": tf.__version__, "installed": peers}


def ours(data: str, small: bool, runs: list[Any], xla: bool = True, deterministic: bool = False) -> dict[str, Any]:
    from fmnist.training import devices

    devices.configure_tensorflow(2, deterministic=deterministic)
    from fmnist.models.factory import build

    def train(batch: int, precision: str, epochs: int) -> Rates:
        yield from _train(
            build("lenet5", None, learning_rate=1e-3, seed=0, precision=precision),
            *images(data, small),
            batch=batch,
            epochs=epochs,
            xla=xla,
        )

    return of_runs(train, runs, small)


def extended(data: str, small: bool, xla: bool) -> dict[str, Any]:
    """The best trial of docs/results/tune-extended."""
    from fmnist.training import devices

    devices.configure_tensorflow(2)
    from fmnist.models.factory import build

    point = {
        "translation": 1, "filters_1": 24, "convolutions": 2, "filters_2": 48, "filters_3": 112, "dropout": 0.0,
        "units": 128, "batch_size": 128, "learning_rate": 0.009887727869471745, "schedule": "cosine",
        "optimizer": "adamw", "weight_decay": 0.0023995810188590597, "label_smoothing": 0.1,
        "batch_normalization": not small,
    }  # fmt: skip
    if small:
        point |= {"convolutions": 1, "filters_1": 16, "translation": 0}
    built = build("extended", point, learning_rate=0.0, seed=0, precision="float32")
    epochs = 2 if small else 8 if xla else 4
    return measured(_train(built, *images(data, small), batch=128, epochs=epochs, xla=xla))


def spans(data: str, small: bool, epochs: int) -> dict[str, Any]:
    """When each epoch began and ended, in seconds since the epoch, for processes that share a GPU."""
    from fmnist.training import devices

    devices.configure_tensorflow(1)
    from fmnist.models.factory import build

    pixels, labels = images(data, small)
    built, times = build("lenet5", None, learning_rate=1e-3, seed=0, precision="float32"), [time.time()]
    for _ in _train(built, pixels, labels, batch=64, epochs=10 if small else epochs, xla=not small):
        times.append(time.time())
    return {"images": len(pixels), "spans": list(pairwise(times[1:]))}


def _train(built: Any, pixels: np.ndarray, labels: np.ndarray, *, batch: int, epochs: int, xla: bool) -> Rates:
    from fmnist.data import Images
    from fmnist.training import engine

    data, val = Images(pixels, labels), Images(pixels[:1000], labels[:1000])
    notes: list[str] = []
    results = engine.train(
        built.model, built.loss, built.optimizer, data, val,
        batch_size=batch, epochs=epochs, seed=0, xla=xla, note=notes.append,
    )  # fmt: skip
    for result in results:
        if notes:
            raise SystemExit(notes[0])
        yield result.images_per_second, result.loss


def keras(data: str, small: bool, runs: list[Any]) -> dict[str, Any]:
    """The notebook's cells: float images, one-hot labels, compile, fit."""
    import keras
    from keras import layers

    pixels, labels = images(data, small)
    x = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))[..., None].astype("float32") / 255
    y = keras.utils.to_categorical(labels, 10)

    def train(batch: int, precision: str, epochs: int) -> Rates:
        model = keras.Sequential([keras.Input((32, 32, 1)), *notebook_layers(layers)])
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        for _ in range(min(epochs, 4)):
            began = time.perf_counter()
            history = model.fit(x, y, batch_size=batch, verbose=0).history
            yield len(x) / (time.perf_counter() - began), history["loss"][0]

    return of_runs(train, runs, small)


def jax(data: str, small: bool, runs: list[Any]) -> dict[str, Any]:
    """A whole epoch as one ``lax.scan``."""
    if missing := [name for name in ("jax", "optax") if not find_spec(name)]:
        return {"absent": f"{missing[0]} is not installed"}
    import jax
    import jax.numpy as jnp
    import optax

    pixels, labels = images(data, small)
    pixels, labels = jax.device_put(pixels), jax.device_put(labels.astype(np.int32))
    shapes = {"c1": (5, 5, 1, 32), "c2": (5, 5, 32, 48), "d1": (1728, 256), "d2": (256, 84), "d3": (84, 10)}

    def pool(x: Any) -> Any:
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def train(batch: int, precision: str, epochs: int) -> Rates:
        glorot = jax.nn.initializers.glorot_uniform()
        keys = jax.random.split(jax.random.PRNGKey(0), len(shapes))
        weights = {name: glorot(key, shape) for key, (name, shape) in zip(keys, shapes.items(), strict=True)}
        weights |= {f"{name}_bias": jnp.zeros(shape[-1]) for name, shape in shapes.items()}
        adam, steps = optax.adam(1e-3), len(pixels) // batch

        def mean_loss(weights: Any, x: Any, y: Any) -> Any:
            w = jax.tree.map(lambda a: a.astype(precision), weights)
            x = jnp.pad(x, ((0, 0), (2, 2), (2, 2)))[..., None].astype(precision) / 255
            for name, padding in (("c1", "SAME"), ("c2", "VALID")):
                x = jax.lax.conv_general_dilated(
                    x, w[name], (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
                x = pool(jax.nn.relu(x + w[f"{name}_bias"]))
            x = x.reshape(len(x), -1)
            for name in ("d1", "d2"):
                x = jax.nn.relu(x @ w[name] + w[f"{name}_bias"])
            logits = (x @ w["d3"] + w["d3_bias"]).astype(jnp.float32)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        def step(state: Any, indices: Any) -> Any:
            weights, moments = state
            loss, gradients = jax.value_and_grad(mean_loss)(weights, pixels[indices], labels[indices])
            updates, moments = adam.update(gradients, moments, weights)
            return (optax.apply_updates(weights, updates), moments), loss

        epoch = jax.jit(lambda state, order: jax.lax.scan(step, state, order), donate_argnums=0)
        state, random = (weights, adam.init(weights)), np.random.default_rng(0)
        for _ in range(epochs):
            began = time.perf_counter()
            state, losses = epoch(state, random.permutation(len(pixels))[: steps * batch].reshape(steps, batch))
            losses = np.asarray(losses)
            yield steps * batch / (time.perf_counter() - began), float(losses.mean())

    return of_runs(train, runs, small)


def torch(data: str, small: bool, runs: list[Any]) -> dict[str, Any]:
    """Each step is the replay of a CUDA graph."""
    if not find_spec("torch"):
        return {"absent": "torch is not installed"}
    import torch
    from torch import nn

    if not torch.cuda.is_available():
        return {"absent": "torch finds no GPU"}
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    pixels, labels = images(data, small)
    pixels = torch.from_numpy(pixels.copy()).cuda()
    labels = torch.from_numpy(labels.astype(np.int64)).cuda()

    def train(batch: int, precision: str, epochs: int) -> Rates:
        model = nn.Sequential(
            *(nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 48, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(1728, 256), nn.ReLU(), nn.Linear(256, 84), nn.ReLU(), nn.Linear(84, 10)),
        ).cuda()
        adam = torch.optim.Adam(model.parameters(), 1e-3, fused=True, capturable=True)
        indices, total = torch.zeros(batch, dtype=torch.long, device="cuda"), torch.zeros((), device="cuda")

        def step() -> None:
            x = nn.functional.pad(pixels[indices], (2, 2, 2, 2))[:, None].float() / 255
            with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
                loss = nn.functional.cross_entropy(model(x), labels[indices])
            loss.backward()
            adam.step()
            adam.zero_grad(set_to_none=False)
            total.add_(loss.detach())

        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(5):
                step()
        torch.cuda.current_stream().wait_stream(side)
        replayed = torch.cuda.CUDAGraph()
        with torch.cuda.graph(replayed):
            step()
        steps = len(pixels) // batch
        for _ in range(epochs):
            began = time.perf_counter()
            order = torch.from_numpy(np.random.permutation(len(pixels))).cuda()
            total.zero_()
            for start in range(0, steps * batch, batch):
                indices.copy_(order[start : start + batch])
                replayed.replay()
            loss = float(total) / steps
            yield steps * batch / (time.perf_counter() - began), loss

    return of_runs(train, runs, small)


def features(data: str, small: bool) -> dict[str, Any]:
    """Images/s of each pretrained network's features, as a task of the job transfer computes them."""
    from fmnist.training import devices

    devices.configure_tensorflow(2, sequential=True)
    from fmnist.models import precision_policy
    from fmnist.workflows.transfer.network import feature_extractor, load_backbone
    from fmnist.workflows.transfer.recipes import FACTS

    pixels, _ = images(data, small)
    figures: dict[str, Any] = {}
    for name, facts in FACTS.items():
        for precision in ("float32", "bfloat16"):
            with precision_policy(precision):
                extractor = feature_extractor(load_backbone(name, facts.sound, None), facts.sound)
            for batch in (100, 1000):
                taken, some = [], pixels[: 100 if small else 10 * batch]
                for _ in range(2 if small else 3):
                    began = time.perf_counter()
                    extractor.predict(some, batch_size=batch, verbose=0)
                    taken.append(time.perf_counter() - began)
                figures[f"{name}, {precision}, batches of {batch}, images/s"] = len(some) / min(taken[1:])
                if small:
                    return figures
    return figures


if __name__ == "__main__":
    name, settings = sys.argv[1], json.loads(sys.argv[2])
    if name == "device":
        settings = {}
    report(**globals()[name](**settings))
