"""What is fetched from others is named by its content: it cannot be replaced behind a name."""

from __future__ import annotations

import re

import pytest

from jobs import REPOSITORY


def test_actions_of_ci_are_named_by_commit() -> None:
    used = [
        line.split("uses:")[1].strip()
        for path in (REPOSITORY / ".github" / "workflows").glob("*.yml")
        for line in path.read_text().splitlines()
        if "uses:" in line
    ]

    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-dev.txt", "requirements-gpu.txt", "requirements-sbom.txt"]
)
def test_packages_have_their_hashes(name: str) -> None:
    entries = re.split(r"\n(?=\S)", (REPOSITORY / name).read_text())
    packages = [entry for entry in entries if not entry.startswith("#")]

    assert packages
    for entry in packages:
        assert "==" in entry and "--hash=sha256:" in entry, entry
    assert "--require-hashes" in (REPOSITORY / "Makefile").read_text()
