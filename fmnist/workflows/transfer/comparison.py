"""The LeNet-5 that a transfer job's backbones are shown beside."""

from __future__ import annotations

from typing import Any

from fmnist.errors import RunError
from fmnist.runs import METRICS, RunFolder, list_runs
from fmnist.storage import Store
from fmnist.workflows.train.config import TRAIN


def find_comparison(store: Store, run_id: str | None) -> dict[str, Any] | None:
    """Returns the metrics of a finished train run of the same store.

    Args:
        run_id: which one; None for the newest one of lenet5, if there is any.

    Raises:
        RunError: if the run named is not a finished train run.
    """
    if run_id is not None:
        run = RunFolder(store, run_id)
        if (job := run.manifest().job) != TRAIN:
            raise RunError(f"compare_with: {run.location} is a {job} run, expected a train run")
        metrics: dict[str, Any] = run.get_json(METRICS)
        return metrics
    trained = [known for known in list_runs(store) if known.job == TRAIN and known.status == "finished"]
    for known in sorted(trained, key=lambda known: known.finished or "", reverse=True):
        metrics = RunFolder(store, known.run_id).get_json(METRICS)
        if metrics["model"] == "lenet5":
            return metrics
    return None
