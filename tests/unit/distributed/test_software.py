"""What processes import, compared without importing it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fmnist.distributed import software
from fmnist.distributed.software import Package, check_workers, find_packages
from fmnist.errors import UserError


def test_packages_are_found_without_being_imported() -> None:
    known = find_packages(("fmnist", "keras", "no_such_module"))

    assert known["fmnist"].revision and known["fmnist"].path.endswith("fmnist/__init__.py")
    assert known["keras"].version and not known["keras"].revision
    assert known["no_such_module"] == Package("", "", "")
    assert "keras" not in sys.modules or sys.modules["keras"]


def test_own_module_differs_by_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "myspace.py").write_text("a = 1\n")
    first = find_packages(("myspace",))["myspace"]
    (tmp_path / "myspace.py").write_text("a = 2\n")

    assert find_packages(("myspace",))["myspace"].revision != first.revision != ""


@pytest.mark.parametrize("started_here", [True, False])
@pytest.mark.parametrize(
    ("mine", "theirs", "differ"),
    [
        (Package("3.15", "", "/a"), Package("3.15", "", "/a"), ()),
        (Package("3.15", "", "/a"), Package("3.15", "", "/b"), (True,)),
        (Package("3.15", "", "/a"), Package("3.14", "", "/a"), (True, False)),
        (Package("0.2", "abc", "/a"), Package("0.2", "def", "/b"), (True, False)),
        (Package("3.15", "", "/a"), Package("", "", ""), (True, False)),
    ],
)
def test_mocked_process_with_other_software_is_refused_here_and_told_on_a_cluster(
    mine: Package, theirs: Package, differ: tuple[bool, ...], started_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(software, "find_packages", lambda names: dict.fromkeys(names, mine))
    monkeypatch.setattr(software, "get", lambda reference, wait: dict.fromkeys((*software.PACKAGES, "own"), theirs))
    monkeypatch.setattr(software.ray, "remote", lambda **_: lambda function: type("R", (), {"remote": function}))
    if started_here and started_here in differ:
        with pytest.raises(UserError, match=r"Ray's processes import fmnist .*, this one .*: expected the same"):
            check_workers("own", print, started_here=True)
        return

    lines = check_workers("own", print, started_here=started_here)

    assert len(lines) == (6 if started_here in differ else 0)
