"""What `mkdocs build --strict` does not check: pictures, lengths of lines, and that the API reference is complete."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]
LONGEST_LINE = 120


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_pictures_of_a_page_exist(page: Path) -> None:
    for source in re.findall(r'<img src="([^"]+)"', page.read_text(encoding="utf-8")):
        assert (page.parent / source).is_file(), f"{page}: {source} does not exist"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_prose_is_wrapped(page: Path) -> None:
    code = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        code ^= line.strip().startswith("```")
        # Neither the output of a program nor a row of a table can be wrapped.
        if not code and not line.startswith("|"):
            assert len(line) <= LONGEST_LINE, f"{page}:{number}: found {len(line)} characters"


def test_architecture_picture_is_what_its_source_draws(tmp_path: Path) -> None:
    drawn = tmp_path / "architecture.svg"

    subprocess.run([sys.executable, DOCS / "tools/architecture_picture.py", drawn], check=True, timeout=120)

    assert drawn.read_bytes() == (DOCS / "architecture.svg").read_bytes(), "run `make pictures`"


def test_api_reference_has_every_module() -> None:
    packages = runpy.run_path(str(DOCS / "tools/reference_pages.py"))["packages"]()

    listed = [module for modules in packages.values() for module in modules]
    source = REPOSITORY / "fmnist"
    for path in source.rglob("*.py"):
        name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        if path.stat().st_size and path.name != "__main__.py":
            assert listed.count(name) == 1, f"{name}: found {listed.count(name)} times, expected once"
