"""What a person sees while a job works: a bar in a terminal, plain lines in a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fmnist.console import plain_console, rounded
from fmnist.training.history import Row


class _BarProgress:
    """A bar that a terminal shows while the block runs, and lines above it. Use it as a context manager."""

    def __init__(self, what: str, total: int, unit: str, console: Console | None) -> None:
        self.console = console or plain_console()
        self._bar = Progress(
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Shows a line."""
        self.console.print(text, markup=False)


class PieceProgress(_BarProgress):
    """Shows how many of a number of equal pieces are done: a bar in a terminal, now and then a line in a log.

    Args:
        what: is done, such as ``features of vgg16``.
        pieces: how many there are.
        of_piece: images in each.
        console: where to; standard output if None.
    """

    SECONDS_BETWEEN_LINES = 15.0

    def __init__(self, what: str, pieces: int, of_piece: int, console: Console | None = None) -> None:
        super().__init__(what, pieces, "shards", console)
        self.what, self.pieces, self.of_piece = what, pieces, of_piece
        self._done = 0
        self._started = self._told = time.monotonic()

    def piece(self) -> None:
        """Shows that one more is done."""
        self._done += 1
        self._bar.update(self._task, completed=self._done)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._told >= self.SECONDS_BETWEEN_LINES:
            self._told = now
            rate = self._done * self.of_piece / (now - self._started)
            left = (self.pieces - self._done) * self.of_piece / rate
            self.note(f"{self.what}: {self._done} of {self.pieces} shards, {rate:,.0f} images/s, {rounded(left)} left")


class EpochProgress(_BarProgress):
    """Shows epochs as they end. Use it as a context manager.

    Args:
        epochs: how many there are at most.
        console: where to; standard output if None.
    """

    def __init__(self, epochs: int, console: Console | None = None) -> None:
        super().__init__("training", epochs, "epochs", console)
        self.epochs = epochs

    def epoch(self, row: Row) -> None:
        """Shows an epoch's result and moves the bar."""
        self.console.print(
            f"epoch {row['epoch']:>{len(str(self.epochs))}}/{self.epochs}"
            f"  loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}"
            f"  val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}"
            f"  {row['seconds']:.1f} s  {row['images_per_second']:,.0f} images/s",
            markup=False,
        )
        self._bar.update(self._task, completed=row["epoch"])
