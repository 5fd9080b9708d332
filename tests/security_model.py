"""The table of SECURITY.md: who can do what, and the tests that show it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from jobs import REPOSITORY

PATH = REPOSITORY / "SECURITY.md"


@dataclass(frozen=True)
class Line:
    """A line of the table: its cells, and the names of the tests in the last one."""

    who: str
    cannot: str
    can: str
    tests: tuple[str, ...]


def lines() -> list[Line]:
    """Returns the lines of the table, but those that only head others."""
    rows = [row for row in PATH.read_text(encoding="utf-8").splitlines() if row.startswith("| ")][2:]
    cells = [[cell.strip() for cell in row[1:-1].split("|")] for row in rows if not row.startswith("| **")]
    return [Line(who, cannot, can, tuple(re.findall(r"`(test_\w+)`", shown))) for who, cannot, can, shown in cells]
