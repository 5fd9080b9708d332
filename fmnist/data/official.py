"""Obtaining the published data set: an already prepared cache, Debian's package, Keras' download, apt."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fmnist.data.files import DataFile
from fmnist.data.types import OFFICIAL_SHA256
from fmnist.errors import DataError

Progress = Callable[[str], None]

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_DEBIAN_PACKAGE = "dataset-fashion-mnist"

# Importing Keras takes up to half a minute on a cold disk; a reachable server sends its first bytes in far less.
_IMPORT_SECONDS = 60.0
_STALLED_SECONDS = 10.0
_APT_SECONDS = 300.0

# In a process of its own: it keeps TensorFlow out of this one, it can be killed when a firewall swallows packets, and
# an empty KERAS_HOME keeps a damaged earlier download out.
_KERAS_DOWNLOAD = """
import pathlib, sys
from keras.datasets import fashion_mnist
pathlib.Path(sys.argv[1], "imported").touch()
fashion_mnist.load_data()
"""


class _NotObtainedError(Exception):
    """One way of obtaining the files did not work; the text says why."""


def obtain_official(cache: Path, progress: Progress) -> dict[str, bytes]:
    """Returns the decompressed content of the four published files by canonical name, checked, and fills the cache.

    Args:
        cache: a folder that holds the four ``.gz`` files, or will after the call. A damaged one is filled anew.
        progress: called with a line of text for each step that takes time.

    Raises:
        DataError: if every way fails, with the reason for each; or if the cache cannot be written.
    """
    tried = []
    try:
        return _read_checked(cache)
    except _NotObtainedError as error:
        if any((cache / f"{name}.gz").exists() for name in OFFICIAL_SHA256):
            tried.append(f"cache: {error}")
            progress(f"prepared cache is damaged, obtaining the data again: {error}")
    ways: tuple[tuple[str, Callable[[Path, Progress], Path]], ...] = (
        ("installed Debian package", _find_debian),
        ("Keras' download", _download_with_keras),
        ("apt-get download", _download_with_apt),
    )
    for way, obtain in ways:
        with tempfile.TemporaryDirectory(prefix="fmnist-") as work:
            try:
                folder = obtain(Path(work), progress)
                contents = _read_checked(folder)
            except _NotObtainedError as error:
                progress(f"{way}: {error}")
                tried.append(f"{way}: {error}")
                continue
            _fill(cache, folder)
            progress(f"{way}: checked, and kept in {cache}")
            return contents
    raise DataError(
        f"auto: Fashion-MNIST could not be obtained ({'; '.join(tried)}): "
        "fetch it where there is a network and give its folder with --data DIR"
    )


def _read_checked(folder: Path) -> dict[str, bytes]:
    contents = {}
    for name, expected in OFFICIAL_SHA256.items():
        path = folder / f"{name}.gz"
        try:
            contents[name] = DataFile(path, str(path)).read()
        except DataError as error:
            raise _NotObtainedError(str(error)) from error
        found = hashlib.sha256(contents[name]).hexdigest()
        if found != expected:
            raise _NotObtainedError(f"{path}: checksum mismatch: found sha256 {found}, expected {expected}")
    return contents


def _fill(cache: Path, folder: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for name in OFFICIAL_SHA256:
            # Renamed when complete: another process that reads this cache sees all of a file or none of it.
            partial = cache / f".{name}.{os.getpid()}.partial"
            try:
                shutil.copyfile(folder / f"{name}.gz", partial)
                partial.replace(cache / f"{name}.gz")
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"{cache}: cannot be written ({error.strerror}): expected a cache folder, set FMNIST_CACHE to one"
        ) from error


def _find_debian(_work: Path, _progress: Progress) -> Path:
    if not DEBIAN_FOLDER.is_dir():
        raise _NotObtainedError(f"no {DEBIAN_FOLDER}")
    return DEBIAN_FOLDER


def _download_with_keras(work: Path, progress: Progress) -> Path:
    progress("Keras' download: starting")
    environment = os.environ | {"KERAS_HOME": str(work), "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    errors = work / "stderr"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", _KERAS_DOWNLOAD, str(work)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        try:
            _wait_while_growing(process, work)
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise _NotObtainedError(_last_line(errors.read_text(errors="replace")))
    return work / "datasets" / "fashion-mnist"


def _wait_while_growing(process: subprocess.Popen[bytes], work: Path) -> None:
    size = -1
    deadline = time.monotonic() + _IMPORT_SECONDS
    while process.poll() is None:
        size_now = size
        # Keras removes the file of a download that failed.
        with contextlib.suppress(FileNotFoundError):
            size_now = sum(path.stat().st_size for path in work.glob("datasets/*/*"))
        if (work / "imported").exists() and size_now != size:
            size = size_now
            deadline = time.monotonic() + _STALLED_SECONDS
        if time.monotonic() > deadline:
            raise _NotObtainedError("the server sends nothing")
        time.sleep(0.1)


def _download_with_apt(work: Path, progress: Progress) -> Path:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise _NotObtainedError("no apt-get on this machine")
    progress("apt-get download: starting")
    try:
        _run(work, "apt-get", "-q", "download", _DEBIAN_PACKAGE)
    except _NotObtainedError:
        # The package lists are old or empty. Lists of our own need no root and leave the machine's as they are.
        own = []
        for option, folder in (("Dir::State::lists", "lists"), ("Dir::Cache", "apt-cache")):
            (work / folder / "partial").mkdir(parents=True)
            (work / folder / "archives" / "partial").mkdir(parents=True)
            own += ["-o", f"{option}={work / folder}"]
        _run(work, "apt-get", "-q", *own, "update")
        _run(work, "apt-get", "-q", *own, "download", _DEBIAN_PACKAGE)
    package = next(work.glob(f"{_DEBIAN_PACKAGE}*.deb"), None)
    if package is None:
        raise _NotObtainedError("apt-get left no package")
    _run(work, "dpkg", "-x", str(package), str(work / "package"))
    return work / "package" / DEBIAN_FOLDER.relative_to("/")


def _run(folder: Path, *command: str) -> None:
    try:
        result = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_APT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NotObtainedError(f"{command[0]}: {_last_line(str(error))}") from error
    if result.returncode != 0:
        raise _NotObtainedError(f"{command[0]}: {_last_line(result.stderr)}")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip()[:200] if lines else "failed without a message"
