"""Ray Tune's own controller asks the sampler tpe: every trial runs, and how many run at once changes no point."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle, tune

from fmnist.distributed import cluster
from fmnist.distributed.spaces import Point
from fmnist.workflows.tune.config import TuneConfig
from fmnist.workflows.tune.hyperband import Hyperband
from fmnist.workflows.tune.sampler import TpeSearch, drawn_at_random

# Ray's workers do not have the tests on their path.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

TRIALS, AHEAD = 17, 3


class Trivial(tune.Trainable):
    """Has the accuracies that its point says."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.x = new_config["point"]["values"]["x"]
        return True

    def step(self) -> dict[str, Any]:
        rows = [{"val_accuracy": self.x * (1 - 0.5**epoch)} for epoch in range(1, self.iteration + 2)]
        return {"rows": tuple(rows), "accuracy": rows[-1]["val_accuracy"], "done": len(rows) == 10}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        pass


def search(storage: Path, cpus: float) -> tuple[dict[int, float], dict[int, int]]:
    """Runs a search, ``2 / cpus`` trials at once; returns the value and the epochs of each trial."""

    def draw(number: int, tried: list[tuple[dict[str, Any], float | None]]) -> Point:
        best, _ = max(((values, score) for values, score in tried if score is not None), key=lambda it: it[1])
        return Point({"x": min(1.0, best["x"] + number / 1000)})

    points = [Point({"x": number * 7 % 10 / 10}) for number in range(1, drawn_at_random(TRIALS, AHEAD) + 1)]
    results = tune.Tuner(
        tune.with_resources(Trivial, {"CPU": cpus}),
        tune_config=tune.TuneConfig(
            num_samples=TRIALS,
            search_alg=TpeSearch(TuneConfig(sampler="tpe"), TRIALS, points, AHEAD, draw),
            scheduler=Hyperband("accuracy", 10, 3),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name=f"{cpus:g}", storage_path=str(storage), verbose=0),
    ).fit()
    trials = results._experiment_analysis.trials
    assert {trial.status for trial in trials} == {"TERMINATED"}
    numbered = {trial.config["trial"]: trial for trial in trials}
    return (
        {number: trial.config["point"]["values"]["x"] for number, trial in numbered.items()},
        {number: trial.last_result["training_iteration"] for number, trial in numbered.items()},
    )


# tests/unit/workflows/tune/test_sampler.py has the law without Ray.
@pytest.mark.slow
def test_how_many_trials_run_at_once_changes_no_point_and_no_decision(ray_cluster: str, tmp_path: Path) -> None:
    with cluster.connected():
        one, two = search(tmp_path, 2), search(tmp_path, 1)

    values, epochs = one
    assert one == two
    assert sorted(values) == list(range(1, TRIALS + 1))
    assert sum(epochs.values()) == 92
    # Drawn from the trial before those that were ahead of it, which was drawn in the same way.
    assert max(values.values()) == values[TRIALS] == pytest.approx(0.942)
