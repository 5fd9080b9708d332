"""The sampler tpe against random on the same budget: a search of the same plan with each, for every seed.

By default accuracies are simulated: a smooth function of a point of the space ``extended`` by epoch, with the noise of
2,000 validation images, which takes a minute and shows whether the sampler finds what there is to find.
``--images 2000`` trains points of the space ``notebook`` instead, by the engine of every job but in this process: on so
many images, validated by as many others. Both samplers begin with the same points, which are trained once.
``python benchmarks/sampler.py``.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from statistics import mean, stdev
from typing import Any

import numpy as np

from fmnist.workflows.tune.hyperband import brackets
from fmnist.workflows.tune.sampler import drawn_at_random, scores

# As on two processors, for trials of one.
AHEAD = 4
VAL_IMAGES = 2_000
SAMPLERS = ("random", "tpe")

# Validation accuracy of a trial, by its number and point, in each of so many epochs.
Accuracies = Callable[[int, dict[str, Any], int], list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, help="train on so many")
    parser.add_argument("--max-epochs", type=int, default=10)
    parser.add_argument("--factor", type=int, default=3)
    parser.add_argument("--iterations", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    if options.images:
        from fmnist.training import devices

        devices.configure_tensorflow(1)
    for iterations in options.iterations:
        best: dict[str, list[float]] = {sampler: [] for sampler in SAMPLERS}
        for seed in range(options.seeds):
            trainings = Trainings(options.images, options.max_epochs, seed) if options.images else None
            for sampler in SAMPLERS:
                if trainings:
                    _, score = search(options, "notebook", sampler, iterations, seed, trainings)
                else:
                    point, _ = search(options, "extended", sampler, iterations, seed, simulated(seed))
                    # Without noise.
                    score = accuracy(point, options.max_epochs)
                best[sampler].append(score)
            shown = ", ".join(f"{sampler} {best[sampler][-1]:.4f}" for sampler in SAMPLERS)
            print(f"iterations {iterations}  seed {seed}  {shown}", flush=True)
        shown = ", ".join(f"{sampler} {mean(values):.4f} +- {stdev(values):.4f}" for sampler, values in best.items())
        print(f"iterations {iterations}: best accuracy of a search: {shown}")


def search(
    options: argparse.Namespace, space_name: str, sampler: str, iterations: int, seed: int, accuracies: Accuracies
) -> tuple[dict[str, Any], float]:
    """Returns the point that a search finds best, and its accuracy."""
    from fmnist.models import hyperparameters, tpe
    from fmnist.models.factory import load_builder

    space = hyperparameters.discover(load_builder(space_name))
    plan = brackets(options.max_epochs, options.factor) * iterations
    rungs = [bracket.epochs[0] for bracket in plan for _ in range(bracket.sizes[0])]
    trials = len(rungs)
    at_random = drawn_at_random(trials, AHEAD) if sampler == "tpe" else trials
    points: list[dict[str, Any]] = []
    for trial in range(1, trials + 1):
        if trial <= at_random:
            points.append(hyperparameters.draw(space, seed, trial))
        else:
            known = scores([(accuracies(one + 1, points[one], rungs[one]), False) for one in range(trial - AHEAD)])
            known += [None] * (AHEAD - 1)
            points.append(tpe.draw(space, seed, trial, list(zip(points, known, strict=True))))
    best, first = (0.0, 0), 0
    for bracket in plan:
        members = list(range(first, first + bracket.sizes[0]))
        first += bracket.sizes[0]
        for size, epochs in zip(bracket.sizes, bracket.epochs, strict=True):
            reached = [(max(accuracies(trial + 1, points[trial], epochs)), trial) for trial in members[:size]]
            members = [trial for _, trial in sorted(reached, reverse=True)]
            best = max(best, *reached)
    return points[best[1]], best[0]


def simulated(seed: int) -> Accuracies:
    """Returns accuracies as `accuracy` has them, with noise."""

    def accuracies(trial: int, point: dict[str, Any], epochs: int) -> list[float]:
        noise = np.random.default_rng([seed, trial]).normal(size=epochs)
        true = [accuracy(point, epoch) for epoch in range(1, epochs + 1)]
        return [it + math.sqrt(it * (1 - it) / VAL_IMAGES) * by for it, by in zip(true, noise, strict=True)]

    return accuracies


class Trainings:
    """Trains points for as many epochs as they are asked for; call it as `Accuracies`."""

    def __init__(self, images: int, max_epochs: int, seed: int) -> None:
        from fmnist import data

        cleaned, _ = data.clean(data.load("auto").train)
        self._images = data.split(data.take(cleaned, 2 * images, seed), val_fraction=0.5, seed=seed)
        self._max_epochs, self._seed = max_epochs, seed
        self._known: dict[str, tuple[list[float], Iterator[float]]] = {}

    def __call__(self, trial: int, point: dict[str, Any], epochs: int) -> list[float]:
        key = json.dumps(point, sort_keys=True)
        if key not in self._known:
            self._known[key] = [], self._trained(point)
        reached, more = self._known[key]
        reached.extend(next(more) for _ in range(epochs - len(reached)))
        return reached[:epochs]

    def _trained(self, point: dict[str, Any]) -> Iterator[float]:
        from fmnist.config import batch_size_of
        from fmnist.models.factory import build
        from fmnist.training import engine

        built = build("notebook", point, learning_rate=0.0, seed=self._seed, precision="float32")
        for result in engine.train(
            built.model,
            built.loss,
            built.optimizer,
            *self._images,
            batch_size=batch_size_of(point, default=64),
            epochs=self._max_epochs,
            seed=self._seed,
        ):
            yield float(result.row()["val_accuracy"])


def accuracy(point: dict[str, Any], epoch: int) -> float:
    """A validation accuracy of the size that docs/results/tune-extended has; the learning rate counts most."""
    rate = abs(math.log10(point["learning_rate"]) - math.log10(2e-3))
    final = 0.945 - 0.03 * rate**2 - 0.02 * (not point["batch_normalization"]) - 0.04 * abs(point["dropout"] - 0.2)
    final += 0.006 * math.log2(point["filters_3"] / 96) + 0.004 * (point["convolutions"] - 2)
    final -= 0.01 * (point["optimizer"] == "sgd")
    return max(0.1, final - 0.08 * math.exp(-epoch / (1.5 + rate)))


if __name__ == "__main__":
    main()
