"""What trackers show of a run, read from the documents in its folder, whether it is finished or still at work."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pydantic import FiniteFloat

from fmnist import clock
from fmnist.errors import IntegrityError, RunError
from fmnist.runs import CHECKPOINTS, CONFIG, FOLDS, FOLDS_TABLE, HISTORY, METRICS, RunFolder
from fmnist.runs.documents import Names
from fmnist.runs.files import DATA, ENVIRONMENT, MANIFEST, OUTCOME, PHASES, STATE, TRIALS, TRIALS_HISTORY, TRIALS_TABLE
from fmnist.runs.inputs import IDENTITY
from fmnist.runs.reproduction import KEYS
from fmnist.storage import MissingKeyError
from fmnist.training.checkpoint_files import HISTORY as CHECKPOINT_HISTORY
from fmnist.training.history import Row

Kind = Literal["run", "trial", "fold", "phase"]
Rows = tuple[Row, ...]

# Columns of trials.csv; the others are hyper-parameters.
_OF_TRIAL = {
    *("trial", "bracket", "status", "epochs", "best_epoch", "best_val_accuracy", "val_loss", "seconds", "error"),
    "model_parameters",
}
_OF_FOLD = ("held_out_loss", "held_out_accuracy")
# What an epoch is of.
_OF_EPOCH = set(KEYS) - {"epoch"}


@dataclass(frozen=True)
class Part:
    """The epochs of a run itself, or of one of its trials, folds or phases.

    Attributes:
        name: ``trial-0001``, ``fold-fresh-0001``, ``vgg16-frozen``; empty for the run itself.
        rows: as in ``history.csv``, one an epoch, without gaps.
        parameters: hyper-parameters of a trial by name, those that it uses.
        scores: that are known at its end only.
        failed: whether it ended by a failure.
    """

    name: str
    kind: Kind
    rows: Rows
    parameters: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    failed: bool = False


@dataclass(frozen=True)
class RunRecord:
    """A run as its documents have it now.

    Attributes:
        identity: the same for every attempt at the run, another for a run that replaces it.
        job: None while it is not finished.
        metrics: content of ``metrics.json``; empty while the run is not finished.
    """

    folder: RunFolder
    identity: str
    job: str | None
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    metrics: Mapping[str, Any]
    parts: tuple[Part, ...]

    @property
    def run_id(self) -> str:
        return self.folder.run_id

    @property
    def finished(self) -> bool:
        return self.job is not None

    @property
    def ended(self) -> float:
        """Seconds since 1970 of its end, or now."""
        if finished := self.metrics.get("finished"):
            return datetime.fromisoformat(finished).timestamp()
        return clock.now()

    def times(self, part: Part) -> list[float]:
        """Returns the end of each of a part's epochs in seconds since 1970, as if the last one had ended just now."""
        seconds = [float(row.get("seconds", 0.0)) for row in part.rows]
        return [self.ended - sum(seconds[epoch:]) for epoch in range(1, len(seconds) + 1)]

    @property
    def stages(self) -> list[str]:
        """Ids of the finished runs that a pipeline consists of."""
        return [stage["run_id"] for stage in self.metrics.get("stages", ()) if stage["status"] == "finished"]


@dataclass(frozen=True)
class _State:
    rows: tuple[dict[str, FiniteFloat | int], ...]
    parameters: dict[str, Any] | None = None


class Reader:
    """Reads a run again and again; a file of which it knows the size is not fetched twice."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._known: dict[str, tuple[int, _State]] = {}

    def read(self) -> RunRecord:
        """Returns the run as it is now.

        Raises:
            RunError: if there is no such run, or it has not begun.
            IntegrityError: if a document is damaged.
        """
        run = self.folder
        files = run.files()
        if CONFIG not in files:
            raise RunError(f"{run.location}: no such run, or it has not begun: it has no {CONFIG}")
        environment = run.get_record(ENVIRONMENT, dict[str, Any]) if ENVIRONMENT in files else {}
        job = run.manifest().job if MANIFEST in files else None
        return RunRecord(
            folder=run,
            # Runs of earlier versions have none.
            identity=str(environment.get(IDENTITY, run.run_id)),
            job=job,
            settings=run.get_yaml(CONFIG, Names),
            environment=environment,
            data=run.get_record(DATA, dict[str, Any]) if DATA in files else {},
            metrics=run.get_record(METRICS, dict[str, Any]) if job and METRICS in files else {},
            parts=tuple(_finished_parts(run, files) if job else self._unfinished_parts(files)),
        )

    def _unfinished_parts(self, files: Mapping[str, int]) -> Iterator[Part]:
        """Yields what trials, folds, phases and checkpoints have reached."""
        latest: dict[str, str] = {}
        for path in sorted(files):
            folder, _, name = path.rpartition("/")
            top, _, inner = folder.partition("/")
            if name == STATE and top == TRIALS:
                state = self._state(path, files[path])
                yield Part(f"trial-{inner}", "trial", state.rows, state.parameters or {})
            elif name == STATE and top == FOLDS:
                yield Part(f"fold-{inner}", "fold", self._state(path, files[path]).rows)
            elif (name == CHECKPOINT_HISTORY and top == CHECKPOINTS) or (name == OUTCOME and top == PHASES):
                # Of the checkpoints in a folder the last; the outcome of a phase is behind all of them.
                latest[inner.rpartition("/")[0] if name == CHECKPOINT_HISTORY else inner] = path
        for name, path in latest.items():
            yield Part(name, "phase" if name else "run", self._state(path, files[path]).rows)

    def _state(self, path: str, size: int) -> _State:
        # A file that gets one more epoch grows.
        if path not in self._known or self._known[path][0] != size:
            if path.endswith(CHECKPOINT_HISTORY):
                state = _State(self.folder.get_record(path, tuple[dict[str, FiniteFloat | int], ...]))
            else:
                state = self.folder.get_record(path, _State)
            self._known[path] = size, state
        return self._known[path][1]


def read_run(folder: RunFolder) -> RunRecord:
    """Returns a run as it is now; errors as in `Reader.read`."""
    return Reader(folder).read()


def _finished_parts(run: RunFolder, files: Mapping[str, int]) -> Iterator[Part]:
    """Yields the run's own epochs, and those of its trials, folds or phases, from its tables."""
    if TRIALS_HISTORY in files:
        trials = {row["trial"]: row for row in _table(run, TRIALS_TABLE)}
        rows_of = _grouped(_table(run, TRIALS_HISTORY))
        for number, trial in trials.items():
            own = {name.removesuffix(" (hyper-parameter)"): it for name, it in trial.items() if name not in _OF_TRIAL}
            yield Part(
                f"trial-{number:04d}", "trial", rows_of.get((number,), ()), own, failed=trial["status"] == "failed"
            )
    if HISTORY not in files:
        return
    folds = {(row["weights"], row["fold"]): row for row in _table(run, FOLDS_TABLE)} if FOLDS_TABLE in files else {}
    for key, rows in _grouped(_table(run, HISTORY)).items():
        if not key:
            yield Part("", "run", rows)
        elif key in folds:
            scores = {name: folds[key][name] for name in _OF_FOLD if name in folds[key]}
            yield Part(f"fold-{key[0]}-{key[1]:04d}", "fold", rows, scores=scores)
        else:
            yield Part("-".join(map(str, key)), "phase", rows)


def _grouped(table: list[dict[str, Any]]) -> dict[tuple[Any, ...], Rows]:
    """Returns the epochs of a table by what the columns that are not of an epoch have."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in table:
        key = tuple(value for name, value in row.items() if name in _OF_EPOCH)
        groups.setdefault(key, []).append({name: it for name, it in row.items() if name not in _OF_EPOCH})
    return {key: tuple(rows) for key, rows in groups.items()}


def _table(run: RunFolder, path: str) -> list[dict[str, Any]]:
    """Returns the rows of a CSV file, without the cells that are empty."""
    import pandas as pd

    try:
        table = pd.read_csv(io.BytesIO(run.get_bytes(path)), keep_default_na=False, na_values=[""])
    except (MissingKeyError, ValueError) as error:
        raise IntegrityError(f"{run.location}/{path}: damaged or missing, expected a table") from error
    return [{str(k): v for k, v in row.items() if not pd.isna(v)} for row in table.to_dict("records")]
