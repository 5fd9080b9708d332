"""What a person sees while a cross-validation works: a bar for each fold that runs, plain lines in a log."""

from __future__ import annotations

import time
from statistics import mean
from threading import Lock
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from fmnist.console import plain_console, rounded
from fmnist.training.history import Row
from fmnist.workflows.crossval.records import Weights

# In a log, a line about the folds that run is written so often, in seconds.
LINE_INTERVAL = 30

Key = tuple[Weights, int]


class FoldProgress:
    """Shows folds as they come on. Use it as a context manager.

    In a terminal each fold that runs has a bar, below one for all folds; anywhere else a line now and then says how far
    they are. A fold that has ended is a line in both.

    Attributes:
        restarts: how often a fold was started again.

    Args:
        folds: how many there are.
        epochs: of a fold at most.
        carried: whether the study's protocol runs too, with as many folds.
        console: where to; standard output if None.
    """

    def __init__(self, folds: int, epochs: int, *, carried: bool = False, console: Console | None = None) -> None:
        self.folds, self.epochs = folds, epochs
        self.restarts = 0
        self.console = console or plain_console()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self._expected = folds * (2 if carried else 1)
        self._all = self._bars.add_task("all folds", total=self._expected, unit="folds")
        self._running: dict[Key, TaskID] = {}
        self._rows: dict[Key, Row] = {}
        self._accuracies: dict[Key, float] = {}
        # Epochs of the folds that have ended, and of all, since the clock was started.
        self._of_ended: list[int] = []
        self._trained = 0
        self._began = self._told = time.monotonic()
        # News comes from a listener, and what a task returns from the driver's own thread.
        self._lock = Lock()

    def __enter__(self) -> FoldProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    @property
    def begun(self) -> bool:
        """Whether any fold has begun."""
        return bool(self._running or self._accuracies)

    def note(self, text: str) -> None:
        """Shows a line."""
        self.console.print(text, markup=False)

    def begin(self, ended: dict[Key, float]) -> None:
        """Starts the clock.

        Args:
            ended: accuracies on the held-out images of folds that an earlier process has trained.
        """
        self._began = self._told = time.monotonic()
        self._accuracies = dict(ended)
        self._bars.update(self._all, completed=len(ended))
        if ended:
            self.note(f"resumed: {len(ended)} of {self._expected} folds were there already")

    def fold_begins(self, weights: Weights, fold: int, known: int) -> None:
        """Shows a fold that begins, or begins again, with ``known`` epochs."""
        key = weights, fold
        with self._lock:
            if key in self._accuracies:
                return
            after = f" after epoch {known}" if known else ""
            if key not in self._running:
                self._running[key] = self._bars.add_task(_name(key), total=self.epochs, unit="epochs")
                if known:
                    self.note(f"{_name(key)} goes on{after}")
            else:
                self.restarts += 1
                self.note(f"{_name(key)} was started again{after}")
            self._bars.update(self._running[key], completed=known)

    def epoch(self, weights: Weights, fold: int, row: Row) -> None:
        """Shows an epoch's result and moves the fold's bar."""
        key = weights, fold
        with self._lock:
            if key not in self._running:
                return
            self._rows[key] = row
            self._trained += 1
            unit = f"epochs, val_accuracy {row['val_accuracy']:.4f}"
            self._bars.update(self._running[key], completed=row["epoch"], unit=unit)
            if not self.console.is_terminal and time.monotonic() - self._told >= LINE_INTERVAL:
                self._line("; ".join(self._position(key) for key in sorted(self._running) if key in self._rows))

    def fold_ends(self, weights: Weights, fold: int, epochs: int, accuracy: float) -> None:
        """Shows what a fold has reached on its held-out images; hearing it twice changes nothing."""
        key = weights, fold
        with self._lock:
            if key in self._accuracies:
                return
            if key in self._running:
                self._bars.remove_task(self._running.pop(key))
            self._accuracies[key] = accuracy
            self._of_ended.append(epochs)
            self._bars.update(self._all, completed=len(self._accuracies))
            of_kind = [value for (kind, _), value in self._accuracies.items() if kind == weights]
            text = f"{_name(key)} ended after {epochs} epoch{'' if epochs == 1 else 's'}, held-out accuracy "
            text += f"{accuracy:.4f}; {len(of_kind)} of {self.folds}"
            if weights == "fresh":
                text += f", mean {mean(of_kind):.4f}"
            seconds = self._seconds_left()
            self._line(text if seconds is None else f"{text}; about {rounded(seconds)} left")

    def _position(self, key: Key) -> str:
        row = self._rows[key]
        return f"{_name(key)} epoch {row['epoch']:.0f}/{self.epochs} val_accuracy {row['val_accuracy']:.4f}"

    def _seconds_left(self) -> float | None:
        """From the epochs since the start, as if the folds that are left had as many as those that have ended."""
        left = self._expected - len(self._accuracies)
        if not (left and self._of_ended and self._trained):
            return None
        begun = sum(self._rows[key]["epoch"] for key in self._running if key in self._rows)
        epochs = max(0.0, left * mean(self._of_ended) - begun)
        return epochs * (time.monotonic() - self._began) / self._trained

    def _line(self, text: str) -> None:
        self._told = time.monotonic()
        self.note(text)


def _name(key: Key) -> str:
    weights, fold = key
    return f"fold {fold}" if weights == "fresh" else f"carried-weights fold {fold}"
