"""Progress of a job on the console: bars in a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Self

from rich import progress as bars
from rich.console import Console

from fmnist.console import console, rounded
from fmnist.training.history import Row

# Gets figures of the work by their names.
Publish = Callable[[Mapping[str, float]], None]


def unpublished(values: Mapping[str, float]) -> None:
    """Of figures that nobody asks for."""


class Progress:
    """Shows how much of some work is done. Use it as a context manager.

    In a terminal there is a bar for all of the work and one for each part that was begun; the bars are gone at the end.
    Lines stand above them. Where there is no terminal, there are only lines.

    Args:
        title: of the work, such as ``training``.
        total: number of units.
        unit: what is counted, in the plural.
        images: in each unit, for the rate in a log; 0 if it has none.
        line_seconds: least time between two lines that `log` prints.
        console: where lines and bars are printed; standard output if None.
        publish: gets each epoch's figures, and ``progress_ratio``, the share of the units that is done.
    """

    def __init__(
        self,
        title: str,
        total: int,
        unit: str,
        *,
        images: int = 0,
        line_seconds: float = 15.0,
        console: Console = console,
        publish: Publish = unpublished,
    ) -> None:
        self.publish = publish
        self.title, self.total, self.unit, self.images, self.line_seconds = title, total, unit, images, line_seconds
        self.console = console
        self._bars = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[unit]}"),
            bars.TimeElapsedColumn(),
            bars.TextColumn("elapsed,"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("left"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self._all = self._bars.add_task(title, total=total, unit=unit)
        self._parts: dict[str, bars.TaskID] = {}
        self._done = self._done_before = 0
        self._started = self._line_printed = time.monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """Prints a line."""
        self._line_printed = time.monotonic()
        self.console.print(text, markup=False)

    def log(self, text: str) -> None:
        """Prints a line if this is no terminal and ``line_seconds`` have passed since the last line."""
        if not self.console.is_terminal and time.monotonic() - self._line_printed >= self.line_seconds:
            self.note(text)

    def resume(self, done: int) -> None:
        """Starts the clock with units that need no more work."""
        self._done = self._done_before = done
        self._started = self._line_printed = time.monotonic()
        self._show_done()

    def advance(self) -> None:
        """Counts one more unit; in a log it prints a line now and then."""
        self._done += 1
        self._show_done()
        if self.images:
            rate = (self._done - self._done_before) * self.images / max(1e-9, time.monotonic() - self._started)
            left = f", {estimate} left" if (estimate := self.time_left()) else ""
            self.log(f"{self.title}: {self._done} of {self.total} {self.unit}, {rate:,.0f} images/s{left}")

    def time_left(self) -> str:
        """Estimates the time left from that of the units so far, such as ``12 min``; empty without an estimate."""
        done, left = self._done - self._done_before, self.total - self._done
        if not (done and left):
            return ""
        return rounded((time.monotonic() - self._started) / done * left)

    def epoch(self, row: Row) -> None:
        """Prints a line with an epoch's result; the units are epochs."""
        self._done = int(row["epoch"])
        self._show_done()
        self.publish(row)
        self.note(
            f"epoch {row['epoch']:>{len(str(self.total))}}/{self.total}"
            f"  loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}"
            f"  val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}"
            f"  {row['seconds']:.1f} s  {row['images_per_second']:,.0f} images/s"
        )

    def _show_done(self) -> None:
        self._bars.update(self._all, completed=self._done)
        self.publish({"progress_ratio": self._done / self.total if self.total else 1.0})

    def part(self, title: str, total: int, done: float, unit: str) -> None:
        """Moves the bar of a part of the work to ``done`` of ``total`` units, and begins it at first.

        Args:
            unit: text behind these numbers.
        """
        if title not in self._parts:
            self._parts[title] = self._bars.add_task(title, total=total, unit=unit)
        self._bars.update(self._parts[title], completed=done, unit=unit)

    def end_part(self, title: str) -> None:
        """Removes the bar of a part, if it was begun."""
        if title in self._parts:
            self._bars.remove_task(self._parts.pop(title))
