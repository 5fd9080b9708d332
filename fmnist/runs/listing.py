"""The runs in a store, one line each."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field, FiniteFloat

from fmnist.errors import FmnistError, IntegrityError, RunError, StoreError
from fmnist.runs.files import CHECKPOINTS, CONFIG, METRICS
from fmnist.runs.folder import RunFolder
from fmnist.runs.run_id import check_run_id
from fmnist.storage.store import CredentialsError, MissingKeyError, Store

NAMES = ("run_id", "job", "status")
SORTS = (*NAMES, "finished", "seconds", "test_accuracy", "held_out_accuracy")
STATUSES = ("finished", "unfinished", "damaged", "unreadable")


@dataclass(frozen=True)
class RunSummary:
    """One row of a list of runs.

    Attributes:
        job: ``train``, ``tune``, …; None while it is not known.
        status: one of `STATUSES`: ``damaged`` where the manifest or the metrics are none, or ``unreadable``
            where they may not be read.
        test_accuracy: from 0 to 1; None where the run has none.
        finished: UTC time such as ``2026-11-23T18:45:00Z``, or None.
        seconds: wall time of the whole run, or None.
        held_out_accuracy: mean over the folds of a cross-validation, which does not use the test images; or None.
        problem: why a run is damaged or unreadable, one line.
    """

    run_id: str
    job: str | None
    status: str
    test_accuracy: float | None = None
    finished: str | None = None
    seconds: float | None = None
    held_out_accuracy: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class _Accuracy:
    accuracy: Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class _Seconds:
    total: FiniteFloat


@dataclass(frozen=True)
class _Metrics:
    finished: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    seconds: _Seconds
    test: _Accuracy | None = None
    held_out: _Accuracy | None = None


@dataclass(frozen=True)
class Selection:
    """Which runs of a list are shown, and in what order.

    Attributes:
        job, status: of the runs; None for any.
        since: runs that finished at this UTC time or later, such as ``2026-11-23T18:45:00Z``; None for any.
        sort: one of `SORTS`: names in the order of the alphabet, all others with the greatest first. Runs that lack it
            are last, and of equals the ids decide.
    """

    job: str | None = None
    status: str | None = None
    since: str | None = None
    sort: str = "run_id"

    def of(self, summaries: Iterable[RunSummary]) -> list[RunSummary]:
        """Returns the selected runs in their order."""
        found = sorted(filter(self._has, summaries), key=lambda run: run.run_id)
        known = [run for run in found if getattr(run, self.sort) is not None]
        known.sort(key=lambda run: getattr(run, self.sort), reverse=self.sort not in NAMES)
        return known + [run for run in found if getattr(run, self.sort) is None]

    def _has(self, run: RunSummary) -> bool:
        of_kind = self.job in (None, run.job) and self.status in (None, run.status)
        return of_kind and (self.since is None or (run.finished or "") >= self.since)


ALL = Selection()


def list_runs(store: Store) -> list[RunSummary]:
    """Returns the runs in a store, sorted by id. Reads the manifest and the metrics of each, and no other file.

    Raises:
        StoreError: if the store cannot be listed, or refuses the credentials. A run that cannot be read is a row.
    """
    names = [name for name in store.folders() if _is_run_id(name)]
    # Each run costs a few round trips of some 20 ms, in which a thread only waits.
    with ThreadPoolExecutor(8) as pool:
        return [summary for summary in pool.map(lambda name: _summarise(RunFolder(store, name)), names) if summary]


def _is_run_id(name: str) -> bool:
    with suppress(RunError):
        return bool(check_run_id(name))
    return False


def _summarise(run: RunFolder) -> RunSummary | None:
    """Returns None for a folder that is not a run's."""
    summary = RunSummary(run.run_id, None, "finished")
    try:
        manifest = run.manifest()
        summary = replace(summary, job=manifest.job)
        if all(file.path != METRICS for file in manifest.files):
            return summary
        metrics = run.get_record(METRICS, _Metrics)
    except RunError:
        try:
            is_run = run.exists(CONFIG) or any(True for _ in run.store.entries(f"{run.run_id}/{CHECKPOINTS}"))
        except StoreError as error:
            return replace(summary, status="unreadable", problem=_problem(run, error))
        return replace(summary, status="unfinished") if is_run else None
    except (IntegrityError, MissingKeyError) as error:
        return replace(summary, status="damaged", problem=_problem(run, error))
    # A run of somebody else.
    except StoreError as error:
        return replace(summary, status="unreadable", problem=_problem(run, error))
    return replace(
        summary,
        test_accuracy=metrics.test.accuracy if metrics.test else None,
        finished=metrics.finished,
        seconds=metrics.seconds.total,
        held_out_accuracy=metrics.held_out.accuracy if metrics.held_out else None,
    )


def _problem(run: RunFolder, error: FmnistError) -> str:
    if isinstance(error, CredentialsError):
        raise error
    return str(error).removeprefix(f"{run.location}/")
