"""Progress of a cross-validation: a bar for each running fold in a terminal, plain lines in a log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean
from threading import Lock

from rich.console import Console

from fmnist.console import console
from fmnist.training.history import Row
from fmnist.training.progress import Progress, Publish, unpublished
from fmnist.workflows.crossval.records import Weights

# Seconds between two lines of a log about the running folds.
LINE_INTERVAL = 30

Key = tuple[Weights, int]


@dataclass(frozen=True)
class FoldEvent:
    """An event that a fold posts: it starts, it has trained an epoch, or it has ended."""

    weights: Weights
    fold: int
    epochs: int = 0  # that it has trained when it starts, starts again, or ends
    row: Row | None = None  # the epoch that it has trained; None when it starts or ends
    accuracy: float | None = None  # on the held-out images, when it ends; else None
    note: str | None = None  # a line to show; then it is nothing else
    diverged: str | None = None  # why it ended early, when it ends and has diverged

    @property
    def key(self) -> Key:
        return self.weights, self.fold


class FoldProgress(Progress):
    """Shows the progress of folds. Use it as a context manager.

    In a terminal each running fold has a bar; in a log a line now and then names the running folds. A fold that has
    ended is a line in both.

    Args:
        folds: number of folds.
        epochs: of a fold at most.
        carried: whether the study's protocol runs too, with as many folds.
        console: to show it on.
        publish: as in `Progress`; also gets ``restarts``.
    """

    def __init__(
        self,
        folds: int,
        epochs: int,
        *,
        carried: bool = False,
        console: Console = console,
        publish: Publish = unpublished,
    ) -> None:
        total = folds * (2 if carried else 1)
        super().__init__("all folds", total, "folds", line_seconds=LINE_INTERVAL, console=console, publish=publish)
        self.folds, self.epochs = folds, epochs
        self.restarts = 0  # of all folds
        # The last epoch of each running fold, None before the first.
        self._running: dict[Key, Row | None] = {}
        self._accuracies: dict[Key, float] = {}
        # A listener's thread shows events, and the driver's thread those that tasks return.
        self._lock = Lock()

    @property
    def has_begun(self) -> bool:
        return bool(self._running)

    def begin(self, ended: Mapping[Key, float]) -> None:
        """Starts the clock; ``ended`` are the accuracies of the folds that an earlier process has trained."""
        self._accuracies = dict(ended)
        self.resume(len(ended))
        if ended:
            self.note(f"resumed: {len(ended)} of {self.total} folds were there already")

    def show(self, event: FoldEvent) -> None:
        """Shows an event; one of a fold that has ended changes nothing."""
        with self._lock:
            if event.note is not None:
                self.note(event.note)
                return
            if event.key in self._accuracies:
                return
            if event.accuracy is not None:
                self._end(event, event.accuracy)
            elif event.row is not None:
                self._epoch(event.key, event.row)
            else:
                self._begin(event)

    def _begin(self, event: FoldEvent) -> None:
        title = _title(event.key)
        after = f" after epoch {event.epochs}" if event.epochs else ""
        if event.key in self._running:
            self.restarts += 1
            self.publish({"restarts": self.restarts})
            self.note(f"{title} was started again{after}")
        elif event.epochs:
            self.note(f"{title} resumed{after}")
        self._running.setdefault(event.key, None)
        self.part(title, self.epochs, event.epochs, "epochs")

    def _epoch(self, key: Key, row: Row) -> None:
        self._running[key] = row
        self.part(_title(key), self.epochs, row["epoch"], f"epochs, val_accuracy {row['val_accuracy']:.4f}")
        lines = [
            f"{_title(key)} epoch {row['epoch']:.0f}/{self.epochs} val_accuracy {row['val_accuracy']:.4f}"
            for key, row in sorted(self._running.items())
            if row is not None
        ]
        self.log("; ".join(lines))

    def _end(self, event: FoldEvent, accuracy: float) -> None:
        self.end_part(_title(event.key))
        self._running.pop(event.key, None)
        self._accuracies[event.key] = accuracy
        self.advance()
        same = [value for (weights, _), value in self._accuracies.items() if weights == event.weights]
        text = f"{_title(event.key)} ended after {event.epochs} epoch{'' if event.epochs == 1 else 's'}, "
        text += f"held-out accuracy {accuracy:.4f}; {len(same)} of {self.folds}"
        text += f", mean {mean(same):.4f}" if event.weights == "fresh" else ""
        text += f"; diverged: {event.diverged}" if event.diverged else ""
        left = self.time_left()
        self.note(f"{text}; about {left} left" if left else text)


def _title(key: Key) -> str:
    weights, fold = key
    return f"fold {fold}" if weights == "fresh" else f"carried-weights fold {fold}"
