"""SECURITY.md keeps its word: each line of its table is open, or has tests, and these are there."""

from __future__ import annotations

import re

import pytest
from security_model import Line, lines

from jobs import REPOSITORY

DEFINED = {
    name: path
    for path in (REPOSITORY / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
}


@pytest.mark.parametrize("line", lines(), ids=lambda line: line.who)
def test_each_line_is_open_or_has_tests(line: Line) -> None:
    assert line.cannot or "*open*" in line.can
    assert line.tests or not line.cannot
    for name in line.tests:
        assert name in DEFINED, f"SECURITY.md names {name}, which no module of tests/ defines"
