"""Ray Tune's own controller with the brackets: every search ends, whatever its numbers and its trials do."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import cloudpickle, tune
from ray.tune.search import BasicVariantGenerator

from fmnist.distributed import cluster
from fmnist.workflows.tune.hyperband import Hyperband, brackets

# Ray's workers do not have the tests on their path.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Trivial(tune.Trainable):
    """Reports a number, ends early or fails, as its configuration says."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        epoch = self.iteration + 1
        if self.config["fails_at"] == epoch:
            raise RuntimeError("as configured")
        return {"accuracy": self.config["quality"], "done": epoch == self.config["ends_at"]}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        if self.iteration == self.config["max_epochs"]:
            time.sleep(self.config["last_save"])
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        pass


def search(
    storage: Path, max_epochs: int, factor: int, cpus: float, trouble: bool = False, last_save: float = 0
) -> list[Any]:
    """Runs a search of the trivial trainable, ``2 / cpus`` trials at once; returns Tune's trials' last results.

    Args:
        trouble: some trials end early, and some fail.
        last_save: seconds that a trial at the maximum takes to be saved.
    """
    never = 10_000
    plan = brackets(max_epochs, factor)
    results = tune.Tuner(
        tune.with_resources(Trivial, {"CPU": cpus}),
        param_space={
            "max_epochs": max_epochs,
            "last_save": last_save,
            "quality": tune.uniform(0, 1),
            "ends_at": tune.choice([never, 1, 2, 3]) if trouble else never,
            "fails_at": tune.choice([never, never, never, never, 2]) if trouble else never,
        },
        tune_config=tune.TuneConfig(
            num_samples=sum(bracket.sizes[0] for bracket in plan),
            search_alg=BasicVariantGenerator(random_state=0),
            scheduler=Hyperband("accuracy", max_epochs, factor),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=f"{max_epochs}-{factor}-{cpus:g}-{trouble}-{last_save:g}",
            storage_path=str(storage),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=1),
        ),
    ).fit()
    return list(results._experiment_analysis.trials)


@pytest.fixture(scope="module")
def connected(ray_cluster: str):
    with cluster.connected():
        yield ray.cluster_resources()


# Simulated in tests/unit/workflows/tune/test_hyperband.py.
@pytest.mark.slow
@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize(("max_epochs", "factor"), [(1, 2), (2, 5), (5, 4), (7, 2), (10, 3), (14, 4), (23, 3)])
def test_search_trains_its_plan_and_leaves_no_trial_behind(
    connected: Any, tmp_path: Path, max_epochs: int, factor: int, cpus: int
) -> None:
    trials = search(tmp_path, max_epochs, factor, cpus)

    assert {trial.status for trial in trials} == {"TERMINATED"}
    trained = sum(trial.last_result["training_iteration"] for trial in trials)
    assert trained == sum(bracket.budget for bracket in brackets(max_epochs, factor))


def test_trial_that_is_still_saved_when_the_last_of_its_bracket_comes_is_not_forgotten(
    connected: Any, tmp_path: Path
) -> None:
    # The two uncut trials run at once, and come to the maximum together.
    trials = search(tmp_path, 5, 4, 1, last_save=3)

    assert {trial.status for trial in trials} == {"TERMINATED"}


@pytest.mark.parametrize("cpus", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_search_ends_though_trials_end_early_and_fail(connected: Any, tmp_path: Path, cpus: int) -> None:
    trials = search(tmp_path, 10, 3, cpus, trouble=True)

    assert {trial.status for trial in trials} == {"TERMINATED", "ERROR"}
    failed = [trial for trial in trials if trial.status == "ERROR"]
    assert all(trial.config["fails_at"] == 2 and trial.num_failures == 2 for trial in failed)
