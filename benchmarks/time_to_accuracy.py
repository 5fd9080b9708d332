"""How soon does a training reach an accuracy? The recipes of the train job against Keras ``fit``.

The rules: a recipe fixes the length of the training beforehand, and was chosen on validation images. Every seed trains
on all training images, and the test images measure the last weights; nothing is chosen by them. A target is reached if
the mean over the seeds reaches it. The time is that of the training from its first step, without compilation, which has
a column of its own as has the whole command. The unit is K: the time in which Keras ``fit`` trains one epoch of the
study's LeNet-5 in the same run, in float32 with batches of 64 and the better setting of XLA.

Run it on an otherwise idle machine: ``python benchmarks/time_to_accuracy.py --json FILE``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from measure import accuracies, in_child, notebook_layers, report, set_threads

if TYPE_CHECKING:
    from fmnist.data import Images
    from fmnist.models.compiled import Trainable
    from fmnist.workflows.train.config import TrainConfig

# The mean test accuracy that each recipe is for.
TARGETS = {"fast-90": 0.8982, "fast-92": 0.92}
XLA = {"lenet5-keras": "auto", "lenet5-keras-no-xla": False}


@dataclass(frozen=True)
class Training:
    """One seed's training.

    Attributes:
        seed: of the weights, the order of the images and their augmentation.
        seconds: of training, without compilation and without measuring the test images.
        compilation_seconds: how much longer the first epoch took than the others on average.
        processor_seconds: of this process from the first step to the end, compilation and measurements included.
        accuracy: on the test images, with the last weights.
        mirrored_accuracy: with the mean of each image's and its mirror image's probabilities.
        curve: the accuracy on the test images after each epoch, for a picture.
    """

    seed: int
    seconds: float
    compilation_seconds: float
    processor_seconds: float
    accuracy: float
    mirrored_accuracy: float
    curve: list[float]


@dataclass(frozen=True)
class Row:
    """A line of the table: a way to train, over its seeds."""

    way: str
    target: float | None
    parameters: int
    epochs: int
    trainings: list[Training]
    command_seconds: float | None = None
    command_accuracy: float | None = None

    def mean_accuracy(self, mirrored: bool = False) -> tuple[float, float]:
        """Returns the mean over the seeds and half the width of its 95 % interval; no width for a single seed."""
        from scipy import stats

        values = [one.mirrored_accuracy if mirrored else one.accuracy for one in self.trainings]
        if len(values) < 2:
            return values[0], float("nan")
        return mean(values), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="*", default=list(TARGETS), help="which; all if not given")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each recipe")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=60_000, help="training images; fewer for a rehearsal")
    parser.add_argument("--unit-images", type=int, help="K is measured on so many, and scaled; all if not given")
    parser.add_argument("--lenet5-epochs", type=int, default=3, help="of the study's LeNet-5 in Keras fit, 2 or more")
    parser.add_argument("--no-peer", action="store_true", help="without the recipes in Keras fit")
    parser.add_argument("--no-command", action="store_true", help="without the whole command fmnist train --recipe")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return

    unit_images = options.unit_images or options.images
    rows = [_row(options, way, None, images=unit_images) for way in XLA]
    seconds_of = {row.way: row.trainings[0].seconds / row.epochs for row in rows}
    unit = min(seconds_of.values()) * options.images / unit_images
    for name in options.recipes:
        rows.append(_row(options, name, TARGETS.get(name), command=not options.no_command))
        print(_line(rows[-1], unit), flush=True)
        if not options.no_peer:
            rows.append(_row(options, f"{name}-keras", None, seeds=1))

    print(f"K = {unit:.1f} s: {options.images:,} images, {options.threads} threads, measured on {unit_images:,}")
    times = "training        compilation  command"
    print(f"  way                   parameters epochs  seeds  accuracy, mean     mirrored           {times}")
    for row in rows:
        print(_line(row, unit))
    if options.json:
        content = {"unit_seconds": unit, "images": options.images, "unit_images": unit_images}
        options.json.write_text(json.dumps({**content, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")


def _row(
    options: argparse.Namespace,
    way: str,
    target: float | None,
    images: int | None = None,
    seeds: int | None = None,
    command: bool = False,
) -> Row:
    count = seeds or (1 if way in XLA else options.seeds)
    arguments = [
        *("--child", way, "--seeds", str(count), "--threads", str(options.threads)),
        *("--images", str(images or options.images), "--lenet5-epochs", str(options.lenet5_epochs)),
    ]
    found = in_child(__file__, *arguments)
    trainings = [Training(**one) for one in found["trainings"]]
    row = Row(way, target, found["parameters"], found["epochs"], trainings)
    return Row(**{**vars(row), **(_command(way, options) if command else {})})


def _line(row: Row, unit: float) -> str:
    seconds = median(one.seconds for one in row.trainings)
    shown = [
        f"{accuracy:.4f}" + (f" ± {width:.4f}" if width == width else "         ")
        for accuracy, width in (row.mean_accuracy(), row.mean_accuracy(mirrored=True))
    ]
    command = f"{row.command_seconds:.0f} s, {row.command_accuracy:.4f}" if row.command_seconds else ""
    return (
        f"  {row.way:<22}{row.parameters:>9,}{row.epochs:>7}{len(row.trainings):>7}  {shown[0]}    {shown[1]}"
        f"{seconds:>8.1f} s{seconds / unit:>6.2f} K{median(one.compilation_seconds for one in row.trainings):>8.1f} s"
        f"      {command}"
    ).rstrip()


def _command(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Runs the whole command ``fmnist train --recipe`` once; its validation images are not trained on."""
    import subprocess

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        limit = ["--limit", str(options.images)] if options.images < 60_000 else []
        arguments = ["train", "--recipe", name, "--artifacts", folder, "--run-id", "run", *limit]
        subprocess.run([sys.executable, "-m", "fmnist", *arguments], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        metrics = json.loads(Path(folder, "run", "metrics.json").read_text())
    return {"command_seconds": seconds, "command_accuracy": metrics["test"]["accuracy"]}


def child(options: argparse.Namespace) -> None:
    """Trains one way with each seed, in a process of its own."""
    from fmnist.data import Images, load

    data = load("auto")
    train = Images(data.train.pixels[: options.images], data.train.labels[: options.images])
    # A rehearsal on few images measures on few.
    count = min(len(data.test), max(1000, options.images // 6))
    test = Images(data.test.pixels[:count], data.test.labels[:count])
    way = options.child
    if way in XLA:
        trained, parameters, epochs = lenet5_in_keras(way, options, train, test)
    else:
        from fmnist.options import parse_config
        from fmnist.workflows.train.config import TrainConfig

        name = way.removesuffix("-keras")
        config = parse_config(TrainConfig, "fmnist train", ["--recipe", name])
        assert config is not None
        train_seeds = recipe_in_keras if way.endswith("-keras") else recipe
        trained, parameters = train_seeds(config, options, train, test)
        epochs = config.epochs
    report(parameters=parameters, epochs=epochs, trainings=[asdict(one) for one in trained])


def recipe(config: TrainConfig, options: argparse.Namespace, train: Images, test: Images) -> tuple[list[Training], int]:
    """What a worker of the train job computes, on all images and without choosing an epoch."""
    from fmnist.config import batch_size_of
    from fmnist.training import devices, engine

    lanes = devices.configure_tensorflow(options.threads, least_lanes=2)
    import tensorflow as tf

    trainings, parameters = [], 0
    for seed in range(options.seeds):
        built = _built(config, seed)
        parameters = built.model.count_params()
        epochs = engine.train(
            built.model,
            built.loss,
            built.optimizer,
            train,
            test,
            batch_size=batch_size_of(config.hyperparameters, default=config.batch_size),
            epochs=config.epochs,
            seed=seed,
            shard=engine.Shard(lanes=lanes),
            # Compilation has a column of its own; on a CPU, XLA is slower.
            xla=bool(tf.config.list_physical_devices("GPU")),
        )
        began = time.process_time()
        results = list(epochs)
        seconds = [len(train) / one.images_per_second for one in results]
        curve = [one.val_accuracy for one in results]
        trainings.append(_training(seed, seconds, time.process_time() - began, curve, built.model, test))
        _say(f"{config.model} {trainings[-1]}")
    return trainings, parameters


def _built(config: TrainConfig, seed: int) -> Trainable:
    import tensorflow as tf

    from fmnist.models.factory import build
    from fmnist.training.devices import automatic_precision

    gpu = bool(tf.config.list_physical_devices("GPU"))
    return build(
        config.model,
        config.hyperparameters,
        learning_rate=config.learning_rate,
        seed=seed,
        precision=automatic_precision(gpu) if config.precision == "auto" else config.precision,
    )


def recipe_in_keras(
    config: TrainConfig, options: argparse.Namespace, train: Images, test: Images
) -> tuple[list[Training], int]:
    """The same model, optimizer, augmentation and batches in Keras ``fit``, both of its pools with all threads."""
    set_threads(options.threads)
    import keras

    from fmnist.config import batch_size_of
    from fmnist.models import LOGITS
    from fmnist.models.schedules import set_length

    batch_size = batch_size_of(config.hyperparameters, default=config.batch_size)
    trainings, parameters = [], 0
    for seed in range(options.seeds):
        built = _built(config, seed)
        parameters = built.model.count_params()
        set_length(built.optimizer, -(-len(train) // batch_size) * config.epochs)
        network = keras.Model(built.model.inputs, built.model.get_layer(LOGITS).output)
        # XLA is many times slower around augmentation on a CPU.
        network.compile(built.optimizer, built.loss, jit_compile=False)
        trainings.append(
            _in_keras(network, train.pixels, train.labels, batch_size, config.epochs, seed, built.model, test)
        )
    return trainings, parameters


def lenet5_in_keras(
    way: str, options: argparse.Namespace, train: Images, test: Images
) -> tuple[list[Training], int, int]:
    """The notebook's cells, except that the images are padded and scaled in the model, once for both sets."""
    set_threads(options.threads)
    import keras
    import numpy as np
    from keras import layers

    keras.utils.set_random_seed(0)
    x = np.pad(train.pixels, ((0, 0), (2, 2), (2, 2)))[..., None].astype("float32") / 255
    network = keras.Sequential([keras.Input((32, 32, 1)), *notebook_layers(layers)])
    network.compile("adam", "sparse_categorical_crossentropy", jit_compile=XLA[way])
    images = keras.Input((28, 28), dtype="uint8")
    served = layers.ZeroPadding2D(2)(layers.Reshape((28, 28, 1))(images))
    model = keras.Model(images, network(layers.Rescaling(1 / 255)(served)))
    training = _in_keras(network, x, train.labels, 64, options.lenet5_epochs, 0, model, test)
    return [training], network.count_params(), options.lenet5_epochs


def _in_keras(
    network: Any, x: Any, labels: Any, batch_size: int, epochs: int, seed: int, model: Any, test: Images
) -> Training:
    seconds, curve, began = [], [], time.process_time()
    for epoch in range(epochs):
        started = time.perf_counter()
        network.fit(x, labels, batch_size=batch_size, epochs=epoch + 1, initial_epoch=epoch, verbose=0)
        seconds.append(time.perf_counter() - started)
        curve.append(float((model.predict(test.pixels, 1000, verbose=0).argmax(axis=1) == test.labels).mean()))
    return _training(seed, seconds, time.process_time() - began, curve, model, test)


def _training(
    seed: int, seconds: list[float], processor: float, curve: list[float], model: Any, test: Images
) -> Training:
    later = mean(seconds[1:])
    plain, mirrored = accuracies(model, test)
    return Training(
        seed=seed,
        seconds=sum(seconds[1:]) + later,
        compilation_seconds=max(0.0, seconds[0] - later),
        processor_seconds=processor,
        accuracy=plain,
        mirrored_accuracy=mirrored,
        curve=curve,
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
