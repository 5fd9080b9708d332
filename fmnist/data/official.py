"""Obtaining the published data set: from the cache, Debian's installed package, a download, or apt."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from fmnist.data import idx
from fmnist.data.files import NOT_OURS, DataFile
from fmnist.data.types import OFFICIAL_SHA256
from fmnist.errors import DataError, first_line
from fmnist.storage.folder_store import complete_file

Progress = Callable[[str], None]

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_DEBIAN_PACKAGE = "dataset-fashion-mnist"

# Where Keras' own `fashion_mnist.load_data` downloads from.
DOWNLOAD_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"

# Of a connection: a firewall that drops packets would block the download for ever.
_TIMEOUT_SECONDS = 10.0
_APT_SECONDS = 300.0


class _NotObtainedError(Exception):
    """One way of obtaining the files did not work; the text says why."""


def obtain_official(cache: Path, progress: Progress) -> dict[str, bytes]:
    """Returns the decompressed content of the four published files by canonical name, checked, and fills the cache.

    Args:
        cache: a folder that holds the four ``.gz`` files, or will after the call if it can be written. Damaged ones are
            replaced.
        progress: called with a line of text for each step that takes time.

    Raises:
        DataError: if every way fails, with the reason for each; or if the cache cannot be a folder.
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
        ("download", _download),
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
            try:
                for name in OFFICIAL_SHA256:
                    with complete_file(cache / f"{name}.gz") as part:
                        shutil.copyfile(folder / f"{name}.gz", part)
                progress(f"{way}: checked, and kept in {cache}")
            except OSError as error:
                if error.errno not in NOT_OURS:
                    expected = "expected a cache folder, set FMNIST_CACHE to one"
                    raise DataError(f"{cache}: cannot be written ({error.strerror}): {expected}") from error
                unkept = f"{cache} cannot be written ({error.strerror}), set FMNIST_CACHE to a folder"
                progress(f"{way}: checked, but not kept: {unkept}")
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
            contents[name] = DataFile(path, str(path)).read(idx.promised_size(name))
        except DataError as error:
            raise _NotObtainedError(str(error)) from error
        found = hashlib.sha256(contents[name]).hexdigest()
        if found != expected:
            raise _NotObtainedError(f"{path}: checksum mismatch: found sha256 {found}, expected {expected}")
    return contents


def _find_debian(_work: Path, _progress: Progress) -> Path:
    if not DEBIAN_FOLDER.is_dir():
        raise _NotObtainedError(f"no {DEBIAN_FOLDER}")
    return DEBIAN_FOLDER


def _download(work: Path, progress: Progress) -> Path:
    # Imported here: from the second run on the cache is full.
    import pooch

    pooch.get_logger().setLevel("ERROR")
    progress(f"download: {DOWNLOAD_URL}")
    try:
        for name in OFFICIAL_SHA256:
            # No hash of the compressed files: the published ones are of their content, which the caller checks.
            pooch.retrieve(
                f"{DOWNLOAD_URL}/{name}.gz",
                known_hash=None,
                fname=f"{name}.gz",
                path=work,
                downloader=pooch.HTTPDownloader(timeout=_TIMEOUT_SECONDS),
            )
    # The errors of requests, which pooch uses, are OSErrors too; the first of a chain has the reason.
    except OSError as error:
        reason: BaseException = error
        while reason.__context__:
            reason = reason.__context__
        raise _NotObtainedError(first_line(reason)[:200]) from error
    return work


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
        raise _NotObtainedError(f"{command[0]}: {first_line(error)[:200]}") from error
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines() or ["failed without a message"]
        raise _NotObtainedError(f"{command[0]}: {lines[-1].strip()[:200]}")
