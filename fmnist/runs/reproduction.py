"""A finished run and its repetition: what differs between the machines, and from which epoch on the numbers do."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fmnist.errors import IntegrityError, printable
from fmnist.runs.comparison import leaves
from fmnist.runs.documents import LARGEST_JSON, Names, check_size
from fmnist.runs.environment import environment
from fmnist.runs.files import HISTORY, METRICS, TRIALS_HISTORY
from fmnist.runs.folder import RunFolder

# What an epoch is of, by the columns of a table of epochs; all others are its numbers, but for those of its speed.
KEYS = ("epoch", "trial", "phase", "backbone", "fold", "weights")
SPEED = ("seconds", "images_per_second", "workers")
# Of a finished run: what follows from its weights.
SCORES = ("test.accuracy", "test.loss", "held_out.accuracy", "held_out.loss")

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Difference:
    """The first number in which two runs differ.

    Attributes:
        where: the epoch, such as ``epoch 3, fold 1 of history.csv``, or ``metrics.json``.
        name: of the number, such as ``val_loss``.
        of_run, of_repetition: the numbers; None where one has none.
    """

    where: str
    name: str
    of_run: float | None
    of_repetition: float | None

    def __str__(self) -> str:
        a, b = self.of_run, self.of_repetition
        size = "" if a is None or b is None else f", difference {b - a:+.1e}"
        return printable(f"{self.where}: {self.name} was {_shown(a)}, is {_shown(b)}{size}")


@dataclass(frozen=True)
class Reproduction:
    """How many epochs both runs have, and the first difference; None if all numbers are equal to the last digit."""

    epochs: int
    first: Difference | None


def environment_differences(recorded: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns what a run's ``environment.json`` says that is otherwise in this process, by name: then and now."""
    here = environment()
    return {name: (recorded[name], now) for name, now in here.items() if name in recorded and recorded[name] != now}


def compare_epochs(run: RunFolder, repetition: RunFolder) -> Reproduction:
    """Compares two finished runs to the last digit: epoch by epoch, then their scores.

    Raises:
        RunError: if one of them does not exist, or is unfinished.
        IntegrityError: if a file of one is damaged, or a run has no table of epochs.
    """
    epochs = 0
    for name in (TRIALS_HISTORY, HISTORY):
        a, b = _epochs(run, name), _epochs(repetition, name)
        epochs += len(a.keys() & b.keys())
        for epoch in a | b:
            if first := _difference(f"{epoch} of {name}", a.get(epoch, {}), b.get(epoch, {})):
                return Reproduction(epochs, first)
    if not epochs:
        raise IntegrityError(f"{run.location}: found no epochs in {HISTORY}, expected at least one")
    return Reproduction(epochs, _difference(METRICS, _scores(run), _scores(repetition)))


def _epochs(run: RunFolder, name: str) -> dict[str, Numbers]:
    """Returns the numbers of each epoch in a table, by what it is of; none without the table."""
    file = next((file for file in run.manifest().files if file.path == name), None)
    if file is None:
        return {}
    import pandas as pd

    where = f"{run.location}/{name}"
    check_size(file.size, LARGEST_JSON, where)
    try:
        table = pd.read_csv(io.BytesIO(run.get_bytes(name)))
        keys = [key for key in KEYS if key in table]
        columns = [column for column in table if column not in (*KEYS, *SPEED)]
        rows = table.to_dict("records")
        return {
            ", ".join(f"{key} {row[key]}" for key in keys): {str(column): float(row[column]) for column in columns}
            for row in rows
        }
    except (ValueError, TypeError) as error:
        raise IntegrityError(f"{where}: damaged, found no table of epochs") from error


def _scores(run: RunFolder) -> Numbers:
    metrics = dict(leaves(run.get_record(METRICS, Names)))
    return {name: value for name in SCORES if isinstance(value := metrics.get(name), (int, float))}


def _difference(where: str, a: Numbers, b: Numbers) -> Difference | None:
    pairs: Iterator[tuple[str, float | None, float | None]] = ((name, a.get(name), b.get(name)) for name in {**a, **b})
    # An empty cell is not a number, which does not equal itself.
    return next((Difference(where, *one) for one in pairs if one[1] != one[2] and repr(one[1]) != repr(one[2])), None)


def _shown(number: float | None) -> str:
    return "missing" if number is None else repr(number)
