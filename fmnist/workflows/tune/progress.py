"""What a person sees while a search works: a table of trials in a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fmnist.console import duration, plain_console, rounded
from fmnist.workflows.tune.records import TrialRecord, best_trial

BEST_SHOWN = 8
LONGEST_VALUE = 10  # characters; a long text must not push the other values of its trial out of sight
REDRAWS_A_SECOND = 4
ENDED = ("finished", "stopped", "stopped early")
OPEN = ("pending", "running", "paused")


class SearchProgress:
    """Shows trials as they come on. Use it as a context manager.

    In a terminal a region with the best trials is redrawn a few times a second, however often `update` is called;
    anywhere else a line is written when a trial has ended, and when one that rests is the best so far.

    Args:
        console: where to; standard output if None.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or plain_console()
        self._records: Sequence[TrialRecord] = ()
        self._trials = self._budget = 0
        self._remaining = RemainingTime(0)
        self._told: set[int] = set()
        self._told_best = 0.0
        self._live: Live | None = None

    def __enter__(self) -> SearchProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def note(self, text: str) -> None:
        """Shows a line."""
        self.console.print(text, markup=False, soft_wrap=True)

    def begin(self, trials: int, epochs: int) -> None:
        """Starts the clock.

        Args:
            trials: how many the search has.
            epochs: how many all trials together are expected to train.
        """
        self._trials, self._budget = trials, epochs
        self._remaining = RemainingTime(epochs)
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            # Live asks for the picture when it redraws, in its own thread: an update only leaves the records there.
            self._live = Live(get_renderable=self._picture, console=self.console, refresh_per_second=REDRAWS_A_SECOND)
            self._live.start()

    def update(self, records: Sequence[TrialRecord]) -> None:
        """Shows the trials as they are now; cheap enough for every event of a search."""
        self._records = tuple(records)
        self._remaining.update(self._records)
        if not self._live:
            self._tell()

    def _tell(self) -> None:
        best = best_trial(self._records)
        reached = _accuracy(best)
        for record in self._records:
            if record.trial in self._told or record.status in OPEN:
                continue
            self._told.add(record.trial)
            after = f"{record.epochs} epoch{'' if record.epochs == 1 else 's'}"
            text = f"trial {record.trial} {record.status} after {after}"
            if record.best:
                text += f", val_accuracy {_accuracy(record):.4f}"
            if record.error:
                text += f": {record.error.splitlines()[0]}"
            if best:
                text += "; best so far" if best is record else f"; best so far trial {best.trial} {reached:.4f}"
                self._told_best = reached
            self.note(f"{text}; {self._work_left()}")
        # Two trials that train side by side may pass each other at every epoch: only one that rests is worth a line.
        if best and best.status != "running" and reached > self._told_best:
            self._told_best = reached
            text = f"new best: trial {best.trial}, val_accuracy {reached:.4f} after {best.epochs} epochs"
            self.note(f"{text}; {self._work_left()}")

    def _work_left(self) -> str:
        seconds = self._seconds_left()
        return self._epochs() + (f", about {rounded(seconds)} left" if seconds is not None else "")

    def _epochs(self) -> str:
        return f"epochs {sum(record.epochs for record in self._records)}/{self._budget}"

    def _seconds_left(self) -> float | None:
        over = len(self._records) >= self._trials and not any(record.status in OPEN for record in self._records)
        return None if over else self._remaining.seconds()

    def _picture(self) -> RenderableType:
        width = self.console.width
        return Group(*_joined(self._headline(), width), *_table(_shown(self._records), width))

    def _headline(self) -> list[str]:
        counts: Counter[str] = Counter(record.status for record in self._records)
        parts = [
            f"trials {sum(counts[status] for status in ENDED)}/{self._trials} finished",
            f"{counts['running']} running",
            f"{counts['paused']} paused",
            f"{counts['failed']} failed",
            self._epochs(),
            f"elapsed {duration(self._remaining.elapsed)}",
        ]
        seconds = self._seconds_left()
        return parts if seconds is None else [*parts, f"about {rounded(seconds)} left"]


class RemainingTime:
    """Estimates how long the rest of a search takes, from the epochs that were trained since the clock was started.

    A resumed search reads back epochs that an earlier one trained, all at once. They are told from others by their own
    duration: what took 20 seconds cannot have been trained in the tenth of a second since the trial last changed.

    Args:
        budget: epochs that all trials are expected to train.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._started = time.monotonic()
        self._done = self._trained = 0
        self._last: dict[int, tuple[int, str, float]] = {}

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def update(self, records: Sequence[TrialRecord]) -> None:
        """Takes note of new epochs."""
        now = time.monotonic()
        for record in records:
            epochs, status, before = self._last.get(record.trial, (0, "pending", self._started))
            if (record.epochs, record.status) == (epochs, status):
                continue
            new = record.rows[epochs:]
            # Half of it, because the news of two epochs may be later and less late.
            if sum(row["seconds"] for row in new) / 2 <= now - before:
                self._trained += len(new)
            self._last[record.trial] = (record.epochs, record.status, now)
        self._done = sum(record.epochs for record in records)

    def seconds(self) -> float | None:
        """Seconds that are left; None if nothing is, or before the first epoch was trained."""
        left = self._budget - self._done
        return left * self.elapsed / self._trained if self._trained and left > 0 else None


def _shown(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The best trials and all that run, best first."""
    ranked = sorted(records, key=lambda record: (-_accuracy(record), record.trial))
    best = [record for record in ranked if record.rows][:BEST_SHOWN]
    return [record for record in ranked if record in best or record.status == "running"]


def _table(records: Sequence[TrialRecord], width: int) -> list[RenderableType]:
    """The trials as a table, and below it the names of the hyper-parameters, for which a column has no room."""
    if not records:
        return []
    names = list(dict.fromkeys(name for record in records for name in record.parameters))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, width=width, header_style="dim")
    columns = ("trial", "bracket", "status", "epoch", "val_accuracy")
    for column in columns:
        table.add_column(column, justify="left" if column == "status" else "right", no_wrap=True)
    table.add_column("hyper-parameters", no_wrap=True, overflow="ellipsis", ratio=1)
    values = [[_value(record.parameters[name]) if name in record.parameters else "-" for name in names]
              for record in records]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*values, strict=True)]
    statuses = max(len("status"), *(len(record.status) for record in records))
    room = width - sum(len(column) + 2 for column in columns) - (statuses - len("status"))
    gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= room else " "
    leading = best_trial(records)
    for record, row in zip(records, values, strict=True):
        table.add_row(
            str(record.trial),
            str(record.bracket),
            record.status,
            str(record.epochs),
            f"{_accuracy(record):.4f}" if record.best else "",
            Text(gap.join(value.rjust(size) for value, size in zip(row, widths, strict=True))),
            style="bold green" if record is leading else "red" if record.status == "failed" else "",
        )
    listed = [f"{name}," for name in names[:-1]] + names[-1:]
    return [table, *_joined(["hyper-parameters:", *listed], width, between=" ", style="dim")]


def _joined(parts: Sequence[str], width: int, *, between: str = " · ", style: str = "") -> list[RenderableType]:
    """The parts on as few lines as hold them, none broken in two."""
    lines = list(parts[:1])
    for part in parts[1:]:
        if len(lines[-1]) + len(between) + len(part) > width:
            lines.append(part)
        else:
            lines[-1] += between + part
    return [Text(line, style=style, no_wrap=True, overflow="ellipsis") for line in lines]


def _accuracy(record: TrialRecord | None) -> float:
    return record.best["val_accuracy"] if record and record.best else -1.0


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:.2g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
