"""What a process of Ray's imports, compared with what the driver does: numbers of other software would differ."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ray

from fmnist.distributed.waiting import START_SECONDS, free, get, reason_in_logs
from fmnist.errors import UserError, first_line
from fmnist.waiting import Wait

PACKAGES = ("fmnist", "keras", "tensorflow", "ray", "numpy")


@dataclass(frozen=True)
class Package:
    """A package or module as a process finds it.

    Attributes:
        version: empty for one that is not installed, such as a user's own module.
        revision: the first digits of a sha256 of the Python source; empty for an installed package of others.
        path: of its file; empty if the process does not find it.
    """

    version: str
    revision: str
    path: str

    def __str__(self) -> str:
        return " ".join(filter(None, (self.version, self.revision, f"in {self.path}" if self.path else "not found")))


def find_packages(names: tuple[str, ...]) -> dict[str, Package]:
    """Returns what this process imports under these names; imports none of them."""
    return {name: _find(name) for name in names}


def check_workers(own_module: str | None, note: Callable[[str], None], *, started_here: bool) -> list[str]:
    """Compares what a first process of Ray's imports with what this one does.

    That process shows, too, that Ray can start any.

    Args:
        own_module: with the user's model or search space, or None.
        note: shows a line.
        started_here: whether this process started Ray. Elsewhere paths may differ.

    Returns:
        A line for each difference; none on a local Ray.

    Raises:
        UserError: if there is a difference on a local Ray, or the process cannot import this package.
        TrainingError: if no process starts.
    """
    names = (*PACKAGES, own_module) if own_module else PACKAGES
    wait = Wait(
        note, lambda: f"a first process of Ray to start; {free()}", limit=lambda: START_SECONDS, reason=reason_in_logs
    )
    try:
        theirs: dict[str, Package] = get(ray.remote(num_cpus=0)(find_packages).remote(names), wait)
    except ray.exceptions.RayTaskError as error:
        raise UserError(f"Ray's processes cannot run this program: {first_line(error.cause)}") from error
    differences = [
        f"Ray's processes import {name} {theirs[name]}, this one {mine}"
        for name, mine in find_packages(names).items()
        if theirs[name] != mine and (started_here or _identity(theirs[name]) != _identity(mine))
    ]
    if differences and started_here:
        raise UserError(f"{differences[0]}: expected the same; PYTHONPATH and the working folder decide")
    return differences


def _identity(package: Package) -> tuple[str, str]:
    return package.version, package.revision


def _find(name: str) -> Package:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin:
        return Package("", "", "")
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        version = ""
    return Package(version, "" if version and name != "fmnist" else _revision(Path(spec.origin)), spec.origin)


def _revision(origin: Path) -> str:
    files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
