"""The house keeps its order: no module grows beyond what is read in one sitting, and each says what it is for."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fmnist

PACKAGE = Path(fmnist.__file__).parent
# An empty file only makes its folder a package: there is nothing to read or to explain.
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.stat().st_size)
MOST_LINES = 400


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_module_is_short_and_says_what_it_is_for(module: Path) -> None:
    text = module.read_text(encoding="utf-8")

    lines = len(text.splitlines())
    assert lines <= MOST_LINES, f"{module}: found {lines} lines, expected {MOST_LINES} at most: it is two rooms"
    assert ast.get_docstring(ast.parse(text)), f"{module}: no docstring, expected a line that says what it is for"


def test_every_room_was_looked_at() -> None:
    found = {path.relative_to(PACKAGE).as_posix() for path in MODULES}
    assert {"cli.py", "data/sources.py", "workflows/train/job.py", "report/page.py"} <= found
