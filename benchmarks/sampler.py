"""The sampler tpe against random on the same budget: a search of the same plan with each, for every seed.

By default accuracies are simulated: a smooth function of a point of the space ``extended`` by epoch, with the noise of
2,000 validation images, which takes a minute and shows whether the sampler finds what there is to find.
``--limit 10000`` trains instead, so many images: two searches for every seed. Run that on an otherwise idle machine:
``python benchmarks/sampler.py``.
"""

from __future__ import annotations

import argparse
import math
from statistics import mean, stdev
from typing import Any

import numpy as np
from tune import our_search

from fmnist.workflows.tune.hyperband import brackets
from fmnist.workflows.tune.sampler import drawn_at_random, scores

# As on two processors, for trials of one.
AHEAD = 4
VAL_IMAGES = 2_000
SAMPLERS = ("random", "tpe")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, help="images to train on, a fifth of them for validation")
    parser.add_argument("--max-epochs", type=int, default=10)
    parser.add_argument("--factor", type=int, default=3)
    parser.add_argument("--iterations", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    for iterations in options.iterations:
        best: dict[str, list[float]] = {sampler: [] for sampler in SAMPLERS}
        for seed in range(options.seeds):
            for sampler in SAMPLERS:
                if options.limit:
                    more = ("--sampler", sampler, "--iterations", str(iterations))
                    best[sampler].append(our_search(options, seed, *more)["best"])
                else:
                    best[sampler].append(simulated_search(options, sampler, iterations, seed))
            shown = ", ".join(f"{sampler} {best[sampler][-1]:.4f}" for sampler in SAMPLERS)
            print(f"iterations {iterations}  seed {seed}  {shown}", flush=True)
        shown = ", ".join(f"{sampler} {mean(values):.4f} +- {stdev(values):.4f}" for sampler, values in best.items())
        print(f"iterations {iterations}: best accuracy of a search: {shown}")


def simulated_search(options: argparse.Namespace, sampler: str, iterations: int, seed: int) -> float:
    """Returns the accuracy without noise of the trial that a simulated search finds best."""
    from fmnist.models import hyperparameters, tpe
    from fmnist.models.factory import load_builder

    space = hyperparameters.discover(load_builder("extended"))
    plan = brackets(options.max_epochs, options.factor) * iterations
    trials = sum(bracket.sizes[0] for bracket in plan)
    at_random = drawn_at_random(trials, AHEAD) if sampler == "tpe" else trials
    points: list[dict[str, Any]] = []
    curves: list[list[float]] = []
    rungs = [bracket.epochs[0] for bracket in plan for _ in range(bracket.sizes[0])]
    for trial in range(1, trials + 1):
        if trial <= at_random:
            points.append(hyperparameters.draw(space, seed, trial))
        else:
            known = scores([(curves[one][: rungs[one]], False) for one in range(trial - AHEAD)])
            known += [None] * (AHEAD - 1)
            points.append(tpe.draw(space, seed, trial, list(zip(points, known, strict=True))))
        noise = np.random.default_rng([seed, trial]).normal(size=options.max_epochs)
        true = [accuracy(points[-1], epoch) for epoch in range(1, options.max_epochs + 1)]
        curves.append([it + math.sqrt(it * (1 - it) / VAL_IMAGES) * by for it, by in zip(true, noise, strict=True)])
    best, first = (0.0, 0), 0
    for bracket in plan:
        members = list(range(first, first + bracket.sizes[0]))
        first += bracket.sizes[0]
        for size, epochs in zip(bracket.sizes, bracket.epochs, strict=True):
            reached = sorted(((max(curves[trial][:epochs]), trial) for trial in members[:size]), reverse=True)
            members = [trial for _, trial in reached]
            best = max(best, reached[0])
    return accuracy(points[best[1]], options.max_epochs)


def accuracy(point: dict[str, Any], epoch: int) -> float:
    """A validation accuracy of the size that docs/results/tune-extended has; the learning rate counts most."""
    rate = abs(math.log10(point["learning_rate"]) - math.log10(2e-3))
    final = 0.945 - 0.03 * rate**2 - 0.02 * (not point["batch_normalization"]) - 0.04 * abs(point["dropout"] - 0.2)
    final += 0.006 * math.log2(point["filters_3"] / 96) + 0.004 * (point["convolutions"] - 2)
    final -= 0.01 * (point["optimizer"] == "sgd")
    return max(0.1, final - 0.08 * math.exp(-epoch / (1.5 + rate)))


if __name__ == "__main__":
    main()
