"""What is given to others: wheel and sdist are the same bytes each time, and install without this repository."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import fmnist
from fmnist import cli
from jobs import LIMIT, REPOSITORY


def output_of(*command: object, folder: Path, **environment: str) -> str:
    ended = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=LIMIT,
        env={**os.environ, "PYTHONPATH": "", **environment},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def build(folder: Path, **environment: str) -> dict[str, str]:
    """Builds from a copy of what is in the repository, as `make dist` does; returns the sums by name."""
    source = folder / "source"
    source.mkdir()
    for name in ("fmnist", "jobs"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (
        *("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore"),
        *("requirements.txt", "requirements-gpu.txt"),
    ):
        shutil.copy(REPOSITORY / name, source)
    (source / "my-notes.txt").write_text("not for others")
    output_of(sys.executable, "-m", "hatchling", "build", "--directory", folder / "dist", folder=source, **environment)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "dist").iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("built")
    return folder / "dist", build(folder, SOURCE_DATE_EPOCH="1700000000")


def test_same_source_gives_the_same_bytes(built: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        again = build(tmp_path, SOURCE_DATE_EPOCH="1700000000", TZ="Asia/Kolkata", PYTHONHASHSEED="7")
    finally:
        os.umask(before)

    assert again == built[1]
    assert sorted(again) == [f"fmnist-{fmnist.__version__}-py3-none-any.whl", f"fmnist-{fmnist.__version__}.tar.gz"]


def test_sdist_has_what_it_names_and_nothing_that_lies_beside(built: tuple[Path, dict[str, str]]) -> None:
    with tarfile.open(next(built[0].glob("*.tar.gz"))) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}

    assert {"fmnist/cli.py", "fmnist/report/templates/card.md", "jobs/train.py", "LICENSE"} <= names
    assert "my-notes.txt" not in names


def test_wheel_installs_into_an_empty_environment(built: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    environment = tmp_path / "env"
    output_of(sys.executable, "-m", "venv", "--without-pip", environment, folder=tmp_path)
    wheel = next(built[0].glob("*.whl"))
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin/python", "install", "--no-index", "--no-deps"]
    output_of(*pip, wheel, folder=tmp_path)

    assert output_of(environment / "bin/fmnist", "--version", folder=tmp_path) == f"fmnist {fmnist.__version__}\n"
    shown = output_of(environment / "bin/fmnist", "--help", folder=tmp_path)
    assert all(f"  {name} " in shown for name in cli.COMMANDS)


@pytest.mark.slow
def test_wheel_brings_its_dependencies(built: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    environment = tmp_path / "env"
    output_of(sys.executable, "-m", "venv", environment, folder=tmp_path)
    output_of(environment / "bin/pip", "install", "--quiet", next(built[0].glob("*.whl")), folder=tmp_path)

    assert "learning_rate: 0.001" in output_of(environment / "bin/fmnist", "train", "--print-config", folder=tmp_path)
    code = "import fmnist.workflows.train.job, fmnist.training.inference, fmnist.report.card"
    output_of(environment / "bin/python", "-c", code, folder=tmp_path)


def test_source_without_an_installation_knows_its_version(tmp_path: Path) -> None:
    """As in a ``--working-dir`` on an image that has the dependencies only."""
    for entry in (
        path for folder in map(Path, sys.path) if folder.name == "site-packages" for path in folder.iterdir()
    ):
        if not entry.name.startswith(("fmnist-", "_fmnist", "__editable__")) and not (tmp_path / entry.name).exists():
            (tmp_path / entry.name).symlink_to(entry)
    code = (
        "from importlib import metadata\n"
        "try:\n    metadata.version('fmnist')\n"
        "except metadata.PackageNotFoundError:\n    print('not installed')\n"
        "from fmnist.runs.environment import environment\n"
        "from fmnist.distributed.software import find_packages\n"
        "print(environment()['fmnist'], find_packages(('fmnist',))['fmnist'].path)"
    )
    path = os.pathsep.join(map(str, (tmp_path, REPOSITORY)))
    # -S: without the environment's own site-packages, where the package is installed.
    shown = output_of(sys.executable, "-S", "-c", code, folder=tmp_path, PYTHONPATH=path).splitlines()

    assert shown == ["not installed", f"{fmnist.__version__} {REPOSITORY / 'fmnist' / '__init__.py'}"]
