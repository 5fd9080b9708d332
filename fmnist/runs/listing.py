"""The runs in a store, one line each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fmnist.errors import IntegrityError, RunError
from fmnist.runs.folder import CHECKPOINTS, CONFIG, MANIFEST, METRICS, RunFolder
from fmnist.runs.run_id import check_run_id
from fmnist.storage.store import MissingKeyError, Store


@dataclass(frozen=True)
class RunSummary:
    """What a list of runs shows.

    Attributes:
        job: ``train``, ``tune``, …; None while it is not known.
        status: ``finished``, ``unfinished``, or ``damaged`` where the manifest or the metrics cannot be read.
        test_accuracy: from 0 to 1; None where the run has none.
        finished: UTC time such as ``2026-11-23T18:45:00Z``, or None.
        seconds: what the whole run took, or None.
        held_out_accuracy: of a cross-validation, which leaves the test images alone: the mean over its folds, or None.
    """

    run_id: str
    job: str | None
    status: str
    test_accuracy: float | None = None
    finished: str | None = None
    seconds: float | None = None
    held_out_accuracy: float | None = None


def list_runs(store: Store) -> list[RunSummary]:
    """Returns the runs in a store, sorted by id. Reads the manifest and the metrics of each, and no other file.

    Raises:
        StoreError: if the store cannot be read.
    """
    names = [name for name in store.folders() if _is_run_id(name)]
    # Each run costs a few round trips of some 20 ms, in which a thread only waits.
    with ThreadPoolExecutor(8) as pool:
        summaries = pool.map(lambda name: _summarise(RunFolder(store, name)), names)
        return [summary for summary in summaries if summary is not None]


def _is_run_id(name: str) -> bool:
    try:
        check_run_id(name)
    except RunError:
        return False
    return True


def _summarise(run: RunFolder) -> RunSummary | None:
    """Returns None for a folder that is not a run's."""
    if not run.exists(MANIFEST):
        is_run = run.exists(CONFIG) or any(True for _ in run.store.entries(f"{run.run_id}/{CHECKPOINTS}"))
        return RunSummary(run.run_id, None, "unfinished") if is_run else None
    try:
        job = run.manifest().job
        try:
            metrics = run.get_json(METRICS)
        except MissingKeyError:
            metrics = {}
        return RunSummary(
            run.run_id,
            job,
            "finished",
            test_accuracy=_number(metrics, "test", "accuracy"),
            finished=metrics.get("finished"),
            seconds=_number(metrics, "seconds", "total"),
            held_out_accuracy=_number(metrics, "held_out", "accuracy"),
        )
    except (IntegrityError, AttributeError):
        return RunSummary(run.run_id, None, "damaged")


def _number(metrics: dict[str, Any], group: str, name: str) -> float | None:
    value = metrics.get(group, {}).get(name)
    return float(value) if isinstance(value, (int, float)) else None
