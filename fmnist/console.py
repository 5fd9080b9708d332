"""Output to a console: tables, plain lines, durations; and silence for native libraries."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fmnist.errors import printable


class PlainConsole(Console):
    """A console that prints a text as it is: names in it are neither markup nor codes of the terminal.

    Attributes:
        listeners: get each text that is printed, too.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.listeners: list[Callable[[str], None]] = []

    @property
    def is_terminal(self) -> bool:
        # FORCE_COLOR is about colours: a log would be filled with a bar's redrawn lines.
        return super().is_terminal and (self.is_jupyter or self.file.isatty())

    def print(self, *objects: Any, **options: Any) -> None:
        plain = [Text(printable(one)) if isinstance(one, str) else one for one in objects]
        super().print(*plain, **{**options, "markup": False})
        for listener in self.listeners:
            for one in objects:
                if isinstance(one, str):
                    listener(one)


console = PlainConsole(highlight=False, soft_wrap=True)
# Progress goes to standard error: what a command prints can be piped.
aside = PlainConsole(highlight=False, soft_wrap=True, stderr=True)


@contextmanager
def heard(listener: Callable[[str], None]) -> Iterator[None]:
    """Calls ``listener`` with each text that the block prints on the console, and each line on standard error."""
    before = sys.stderr
    console.listeners.append(listener)
    # None in a service.
    sys.stderr = before and _Heard(before, listener)
    try:
        yield
    finally:
        sys.stderr = before
        console.listeners.remove(listener)


class _Heard:
    """A stream that also gives each line to a listener."""

    def __init__(self, stream: TextIO, listener: Callable[[str], None]) -> None:
        self._stream, self._listener, self._line = stream, listener, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._listener(line)
        return self._stream.write(text)


def print_table(header: Sequence[str], *sections: Sequence[Sequence[str]]) -> None:
    """Prints rows with as many cells as the header, in a terminal with a line between sections."""
    # A control character would end a row or move the cursor.
    sections = tuple([tuple(map(printable, row)) for row in section] for section in sections)
    if not console.is_terminal:
        for row in (header, *(row for section in sections for row in section)):
            print(*row, sep="\t")
        return
    table = Table()
    for position, name in enumerate(header):
        # The first column is not wrapped, so that it can be copied; the others are wrapped, not cut.
        table.add_column(Text(name), overflow="fold", no_wrap=position == 0)
    for section in sections:
        for row in section:
            # As Text, since brackets in a string would be read as colours.
            table.add_row(*map(Text, row))
        table.add_section()
    console.print(table, soft_wrap=False)


def plural(count: float, noun: str) -> str:
    """Writes a count with its noun: ``1 epoch``, ``0.5 CPUs``, ``1,200 trials``."""
    return f"{count:,.10g} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Writes a time that was measured as ``41 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    minutes, second = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {second:02d} s" if minutes else f"{second} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def rounded(seconds: float) -> str:
    """Writes a time that is an estimate as ``45 s``, ``12 min`` or ``2 h 10 min``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silences file descriptor 2 for the block.

    For imports of TensorFlow, whose libraries write several lines while they are loaded, before any log level applies.
    Python's own errors are not lost: they are raised, and printed after the block.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with Path(os.devnull).open("w") as silence:
            os.dup2(silence.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
