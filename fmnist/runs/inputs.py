"""What the numbers of a run depend on besides its settings: images, weights, the user's code, versions."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import fmnist
from fmnist.config import SPACES, JobConfig, model_of
from fmnist.runs.files import DATA, ENVIRONMENT
from fmnist.runs.folder import RunFolder

# Packages whose versions may change the last digits of a run's numbers.
NUMERIC = ("tensorflow", "keras")
INPUTS = "inputs"
# Of the environment: the same for every attempt at a run, another for a run that replaces it.
IDENTITY = "identity"
# Of the environment: the git revision of this package's code, and the image that it runs in; where they are known.
REVISION, IMAGE = "revision", "image"
# Version 0.1.0 recorded no code of its spaces, and its notebook pooled before the searched convolution.
UNRECORDED = {"code of notebook": "that of fmnist 0.1.0"}


@dataclass(frozen=True)
class _Data:
    """What ``data.json`` says of the data's files."""

    sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Environment:
    """What ``environment.json`` says of inputs and versions; ``earlier`` are those before the last."""

    inputs: dict[str, str] = field(default_factory=dict)
    earlier: list[dict[str, str]] = field(default_factory=list)
    tensorflow: str = ""
    keras: str = ""


def inputs_of(config: JobConfig, data_summary: Mapping[str, Any], more: Mapping[str, str]) -> dict[str, str]:
    """Returns the sha256 of everything that a run reads, by its name: images, ``more``, and the code of its space.

    The code of a user's space is that of its module, and of the modules in the same folder that it imports.
    """
    builder = model_of(config)
    code: dict[str, str] = {}
    if builder in SPACES:
        code[builder] = function_sum(Path(fmnist.__file__).parent / "models", builder)
    elif ":" in builder:
        own = builder.partition(":")[0]
        code = {builder if name == own else name: found for name, found in code_sums(own).items()}
    code = {f"code of {name}": found for name, found in code.items()}
    return {**data_summary.get("sha256", {}), **more, **code}


def changed_input(run: RunFolder, inputs: Mapping[str, str]) -> str | None:
    """Names the first input that differs from that of the unfinished run in a folder; None if none does."""
    before: dict[str, str] = {}
    if run.exists(DATA):
        before |= run.get_record(DATA, _Data).sha256
    if run.exists(ENVIRONMENT):
        before |= UNRECORDED | run.get_record(ENVIRONMENT, _Environment).inputs
    for name, found in inputs.items():
        if before.get(name, found) != found:
            was = before[name]
            shown = was if was == UNRECORDED.get(name) else f"sha256 {was[:12]}…"
            return f"started with another {name}: {shown}, found {found[:12]}…"
    return None


def versions_before(run: RunFolder, note: Callable[[str], None]) -> list[dict[str, str]]:
    """Returns the versions that a resumed run was computed with, where they differ, oldest first.

    ``note`` shows a line if the last ones are not those of this process.
    """
    if not run.exists(ENVIRONMENT):
        return []
    environment = run.get_record(ENVIRONMENT, _Environment)
    last = {name: version for name in NUMERIC if (version := getattr(environment, name))}
    changed = [name for name, version in last.items() if version != metadata.version(name)]
    if not changed:
        return environment.earlier
    texts = ", ".join(f"{name} {last[name]}, now {metadata.version(name)}" for name in changed)
    note(f"run {run.run_id}: started with {texts}; numbers may differ in their last digits")
    return [*environment.earlier, last]


def origin() -> dict[str, str]:
    """Returns the git revision of this package and its image, as the image's environment or a checkout says."""
    found = {REVISION: os.environ.get("FMNIST_REVISION", ""), IMAGE: os.environ.get("FMNIST_IMAGE", "")}
    checkout = Path(fmnist.__file__).parents[1]
    if not found[REVISION] and (checkout / ".git").exists():
        command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--match="]
        # Without git, or in a checkout of another user, it is not known.
        with suppress(OSError, subprocess.SubprocessError):
            found[REVISION] = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    return {name: text.strip() for name, text in found.items() if text.strip()}


def code_sums(module: str) -> dict[str, str]:
    """Returns the sha256 of the code without comments of a module and of those in its folder that it imports, by name.

    A module that is not found or cannot be read is left out.
    """
    sums: dict[str, str] = {}
    names, folder = [module], (_origin(module) or Path()).parent
    for name in names:
        origin = _origin(name)
        if origin is None or origin.parent != folder or name in sums:
            continue
        try:
            tree = ast.parse(origin.read_bytes())
        except (OSError, ValueError, SyntaxError):
            continue
        sums[name] = _sum(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(filter(None, (name.rpartition(".")[0] if node.level else "", node.module)))
                names += [base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)]
    return sums


def _origin(module: str) -> Path | None:
    """Returns a module's file, without importing it; None where it is not found or has none."""
    path: list[str] | None = [str(Path.cwd()), *sys.path]
    spec = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}".lstrip(".")
        try:
            spec = PathFinder.find_spec(name, path)
        except (ImportError, ValueError):
            return None
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return Path(spec.origin) if spec and spec.origin else None


def function_sum(folder: Path, name: str) -> str:
    """Returns the sha256 of the code of the one function of this name in a folder's modules, without comments."""
    trees = (ast.parse(path.read_bytes()) for path in sorted(folder.glob("*.py")))
    functions = (one for tree in trees for one in tree.body if isinstance(one, ast.FunctionDef))
    (function,) = (one for one in functions if one.name == name)
    if ast.get_docstring(function) is not None:
        function.body = function.body[1:]
    return _sum(function)


def _sum(tree: ast.AST) -> str:
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
