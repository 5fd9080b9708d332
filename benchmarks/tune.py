"""The search: ours against keras-tuner's own Hyperband, and what a trial costs besides training.

Same space, images, maximum of epochs and factor, one after the other, a run of each for every seed. keras-tuner is
used as its guide says: one process that trains one trial after the other with all threads. For the same numbers it
plans more trials than the paper, so time is also compared by epoch trained. Run it on an otherwise idle machine:
``python benchmarks/tune.py``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median, stdev
from types import SimpleNamespace
from typing import Any

import numpy as np
from measure import in_child, report

BATCH_SIZE = 64
PATIENCE = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=10_000, help="images, a fifth of them for validation")
    parser.add_argument("--max-epochs", type=int, default=10)
    parser.add_argument("--factor", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--child", choices=["keras-tuner", "empty", "starts"])
    parser.add_argument("--seed", type=int, default=0, help="the first")
    options = parser.parse_args()
    if options.child == "keras-tuner":
        report(**keras_tuner_search(options))
    elif options.child == "empty":
        report(seconds=empty_search(options.max_epochs, options.factor))
    elif options.child == "starts":
        report(seconds=trial_starts())
    else:
        overhead(options)
        searches(options)


def overhead(options: argparse.Namespace) -> None:
    arguments = ("--max-epochs", str(options.max_epochs), "--factor", str(options.factor))
    empty = in_child(__file__, *arguments, "--child", "empty")["seconds"]
    print(f"{len(empty)} searches of empty trials: {', '.join(f'{seconds:.1f} s' for seconds in empty)}")
    starts = in_child(__file__, "--child", "starts")["seconds"]
    first, *later = starts
    print(f"a trial's start: {first:.1f} s in a new process, then {median(later):.2f} s (up to {max(later):.2f} s)")


def searches(options: argparse.Namespace) -> None:
    ways: dict[str, list[dict[str, Any]]] = {"keras-tuner": [], "ours": []}
    for seed in range(options.seed, options.seed + options.seeds):
        arguments = [
            f"--{name}={getattr(options, name.replace('-', '_'))}" for name in ("limit", "max-epochs", "factor")
        ]
        started = time.perf_counter()
        theirs = in_child(__file__, *arguments, "--seed", str(seed), "--child", "keras-tuner")
        ways["keras-tuner"].append(theirs | {"wall": time.perf_counter() - started})
        ways["ours"].append(our_search(options, seed))
        for way, runs in ways.items():
            last = runs[-1]
            print(
                f"seed {seed}  {way:<12} {last['wall']:6.0f} s  {last['trials']:3.0f} trials"
                f"  {last['epochs']:4.0f} epochs"
                f"  {last['wall'] / last['epochs']:5.2f} s/epoch  best val_accuracy {last['best']:.4f}",
                flush=True,
            )
    pairs = list(zip(ways["keras-tuner"], ways["ours"], strict=True))
    whole = [peer["wall"] / our["wall"] for peer, our in pairs]
    by_epoch = [peer["wall"] / peer["epochs"] / (our["wall"] / our["epochs"]) for peer, our in pairs]
    print(f"faster by {median(whole):.2f}x for the search ({min(whole):.2f}-{max(whole):.2f})")
    print(f"faster by {median(by_epoch):.2f}x by epoch trained ({min(by_epoch):.2f}-{max(by_epoch):.2f})")
    for way, runs in ways.items():
        best = [run["best"] for run in runs]
        spread = f" +- {stdev(best):.4f}" if len(best) > 1 else ""
        print(f"best val_accuracy, {way}: {mean(best):.4f}{spread}")


def our_search(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The command, from its start to the line that names the best trial; the training of the best is left out."""
    with tempfile.TemporaryDirectory() as artifacts:
        command = [sys.executable, "-m", "fmnist", "tune", "--artifacts", artifacts, "--run-id", "run"]
        command += ["--limit", str(options.limit), "--max-epochs", str(options.max_epochs)]
        command += ["--factor", str(options.factor), "--seed", str(seed), "--batch-size", str(BATCH_SIZE)]
        command += ["--patience", str(PATIENCE), "--retrain-epochs", "1"]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        wall = 0.0
        for line in process.stdout:
            if line.startswith("best of"):
                wall = time.perf_counter() - started
        if process.wait():
            raise SystemExit(f"{' '.join(command)} failed with {process.returncode}")
        search = json.loads(Path(artifacts, "run", "metrics.json").read_text())["search"]
    return {"wall": wall, "trials": search["trials"], "epochs": search["epochs"], "best": search["val_accuracy"]}


def keras_tuner_search(options: argparse.Namespace) -> dict[str, float]:
    import keras
    import keras_tuner

    from fmnist import data
    from fmnist.models.search_space import notebook

    cleaned, _ = data.clean(data.load("auto").train)
    train, val = data.split(data.take(cleaned, options.limit, options.seed), val_fraction=0.2, seed=options.seed)
    epochs: list[int] = []

    class Counter(keras.callbacks.Callback):
        # keras-tuner copies its callbacks for every trial.
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            epochs.append(epoch)

    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.Hyperband(
            notebook,
            objective="val_accuracy",
            max_epochs=options.max_epochs,
            factor=options.factor,
            seed=options.seed,
            directory=folder,
            project_name="search",
        )
        tuner.search(
            train.pixels,
            train.labels,
            validation_data=(val.pixels, val.labels),
            batch_size=BATCH_SIZE,
            callbacks=[keras.callbacks.EarlyStopping("val_loss", patience=PATIENCE), Counter()],
            verbose=0,
        )
        trials = tuner.oracle.trials.values()
        # It starts a trial of its own whenever it goes on with one.
        first = [trial for trial in trials if trial.hyperparameters.values["tuner/round"] == 0]
        best = max(trial.score for trial in trials if trial.score is not None)
    return {"trials": len(first), "epochs": len(epochs), "best": best}


def empty_search(max_epochs: int, factor: int, repeats: int = 3) -> list[float]:
    """Seconds of a search whose trials do nothing, on a local Ray that runs already."""
    from ray import tune

    from fmnist.distributed import cluster
    from fmnist.workflows.tune.hyperband import Hyperband, brackets

    class Empty(tune.Trainable):
        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return True

        def step(self) -> dict[str, Any]:
            return {"accuracy": self.config["quality"]}

        def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
            return {}

        def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
            pass

    seconds = []
    with cluster.connected(), tempfile.TemporaryDirectory() as storage:
        for repeat in range(repeats):
            started = time.perf_counter()
            tune.Tuner(
                Empty,
                param_space={"quality": tune.uniform(0, 1)},
                tune_config=tune.TuneConfig(
                    num_samples=sum(bracket.sizes[0] for bracket in brackets(max_epochs, factor)),
                    scheduler=Hyperband("accuracy", max_epochs, factor),
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(name=f"empty-{repeat}", storage_path=storage, verbose=0),
            ).fit()
            seconds.append(time.perf_counter() - started)
    return seconds


def trial_starts(trials: int = 8) -> list[float]:
    """Seconds from a trial's hand-over to its process until it trains, compilation included."""
    import ray
    from ray import tune
    from ray.tune.result import TRIAL_INFO

    from fmnist import data
    from fmnist.distributed import cluster
    from fmnist.distributed.spaces import Points
    from fmnist.runs import RunFolder
    from fmnist.storage import FolderStore
    from fmnist.workflows.tune.config import TuneConfig
    from fmnist.workflows.tune.trial import SearchTask, SearchTrial

    images = data.load("auto").train
    train, val = images.select(np.arange(2_000)), images.select(np.arange(2_000, 2_500))
    starts = []
    with cluster.connected(), tempfile.TemporaryDirectory() as artifacts:
        with Points("notebook", 0) as drawing:
            points = drawing.random(trials)
        run = RunFolder(FolderStore(Path(artifacts)), "starts")
        task = SearchTask(TuneConfig(), run, ray.put(train), ray.put(val))
        process = None
        for number in range(1, trials + 1):
            info = SimpleNamespace(trial_id=f"start_{number:05d}", trial_name="start")
            config = {"trial": number, "point": asdict(points[number - 1]), TRIAL_INFO: info}
            started = time.perf_counter()
            if process is None:
                process = tune.with_parameters(SearchTrial, task=task)(config)
            else:
                process.reset(config)
            process.train()
            first = time.perf_counter() - started
            # The second epoch trains as much, and starts nothing.
            started = time.perf_counter()
            process.train()
            starts.append(first - (time.perf_counter() - started))
    return starts


if __name__ == "__main__":
    main()
