"""Progress of a search on the console: a table of trials in a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fmnist.console import console, duration, plural, rounded
from fmnist.workflows.tune.budget import TimeBudget
from fmnist.workflows.tune.records import TrialRecord, best_trial, parameter_names, ranked

BEST_SHOWN = 8
LONGEST_VALUE = 10  # characters of a value, so that a long text leaves room for the trial's other values
REDRAWS_PER_SECOND = 4
ENDED = ("finished", "stopped", "stopped early", "out of time")
OPEN = ("pending", "running", "paused")


class SearchProgress(ExitStack):
    """Shows the trials of a search. Use it as a context manager.

    A terminal has a table of the best trials and of all that run, redrawn a few times per second. A log has a line when
    a trial has ended, and when a trial that does not run becomes the best one.
    """

    def __init__(self, console: Console = console) -> None:
        super().__init__()
        self.console = console
        self._records: Sequence[TrialRecord] = ()
        self._trials = self._budget = 0
        self._known: Mapping[int, int] = {}
        self._time: TimeBudget | None = None
        self._started = time.monotonic()
        self._logged: set[int] = set()
        self._best_logged = 0.0
        self._has_table = self.console.is_terminal and not self.console.is_dumb_terminal

    def note(self, text: str) -> None:
        """Prints a line."""
        self.console.print(text, markup=False, soft_wrap=True)

    def begin(self, trials: int, epochs: int, known: Mapping[int, int], budget: TimeBudget | None = None) -> None:
        """Starts the clock.

        Args:
            trials: number of trials.
            epochs: expected of all trials together.
            known: epochs that a resumed search has already, by trial.
            budget: the search's time, if it has a limit.
        """
        self._trials, self._budget, self._known, self._time = trials, epochs, known, budget
        self._started = time.monotonic()
        if self._has_table:
            # Live renders in its own thread, so that an update costs nothing.
            live = Live(get_renderable=self._render, console=self.console, refresh_per_second=REDRAWS_PER_SECOND)
            self.enter_context(live)

    def update(self, records: Sequence[TrialRecord]) -> None:
        """Shows the current state of the trials. Cheap enough for every event of a search."""
        self._records = tuple(records)
        if not self._has_table:
            self._log()

    def _log(self) -> None:
        best = best_trial(self._records)
        for record in self._records:
            if record.trial in self._logged or record.status in OPEN:
                continue
            self._logged.add(record.trial)
            text = f"trial {record.trial} {record.status} after {plural(record.epochs, 'epoch')}"
            text += f", val_accuracy {record.best['val_accuracy']:.4f}" if record.best else ""
            text += f": {record.error.splitlines()[0]}" if record.error else ""
            if best and best.best:
                self._best_logged = best.best["val_accuracy"]
                text += "; best so far" + ("" if best is record else f" trial {best.trial} {self._best_logged:.4f}")
            self.note(f"{text}; {', '.join(self._work())}")
        # Two trials that run in parallel may pass each other at every epoch, so a running trial gets no line.
        if best and best.best and best.status != "running" and best.best["val_accuracy"] > self._best_logged:
            self._best_logged = best.best["val_accuracy"]
            text = f"new best: trial {best.trial}, val_accuracy {self._best_logged:.4f}"
            self.note(f"{text} after {plural(best.epochs, 'epoch')}; {', '.join(self._work())}")

    def _work(self) -> list[str]:
        """Returns the number of epochs so far, and an estimate of the time left if there is one."""
        done = sum(record.epochs for record in self._records)
        left = self._seconds_left()
        return [f"epochs {done}/{self._budget}", *([] if left is None else [f"about {rounded(left)} left"])]

    def _seconds_left(self) -> float | None:
        """Estimates the time left from the epochs trained since the start; None without an estimate."""
        trained = sum(max(0, record.epochs - self._known.get(record.trial, 0)) for record in self._records)
        left = self._budget - sum(self._known.values()) - trained
        is_over = len(self._records) >= self._trials and not any(record.status in OPEN for record in self._records)
        if is_over or not trained or left <= 0:
            return None
        seconds = left * (time.monotonic() - self._started) / trained
        return min(seconds, self._time.left) if self._time else seconds

    def _render(self) -> RenderableType:
        counts: Counter[str] = Counter(record.status for record in self._records)
        epochs, *left = self._work()
        parts = [
            f"trials {sum(counts[status] for status in ENDED)}/{self._trials} finished",
            *(f"{counts[status]} {status}" for status in ("running", "paused", "failed")),
            *(epochs, f"elapsed {duration(time.monotonic() - self._started)}", *left),
        ]
        best = [record for record in ranked(self._records) if record.rows][:BEST_SHOWN]
        shown = [record for record in ranked(self._records) if record in best or record.status == "running"]
        return Group(_wrapped(" · ".join(parts)), *_table(shown, self.console.width))


def _table(records: Sequence[TrialRecord], width: int) -> list[RenderableType]:
    """Returns the trials as a table, and below it the names of the hyper-parameters, too long for columns."""
    if not records:
        return []
    names = parameter_names(records)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, width=width, header_style="dim")
    for column in ("trial", "bracket", "status", "epoch", "val_accuracy"):
        table.add_column(column, justify="left" if column == "status" else "right", no_wrap=True)
    table.add_column("hyper-parameters", no_wrap=True, overflow="ellipsis", ratio=1)
    values = [
        [_value(record.parameters[name]) if name in record.parameters else "-" for name in names] for record in records
    ]
    widths = [max(map(len, column)) for column in zip(*values, strict=True)]
    winning = best_trial(records)
    for record, row in zip(records, values, strict=True):
        table.add_row(
            str(record.trial),
            str(record.bracket),
            record.status,
            str(record.epochs),
            f"{record.best['val_accuracy']:.4f}" if record.best else "",
            Text(" ".join(value.rjust(size) for value, size in zip(row, widths, strict=True))),
            style="bold green" if record is winning else "red" if record.status == "failed" else "",
        )
    return [table, _wrapped(f"hyper-parameters: {', '.join(names)}", style="dim")]


def _wrapped(text: str, style: str = "") -> Text:
    # The console does not wrap lines by itself.
    return Text(text, style=style, no_wrap=False, overflow="fold")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:.2g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
