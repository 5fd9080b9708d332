"""A store in a folder of a local or mounted file system."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fmnist.boundary import say
from fmnist.errors import StoreError
from fmnist.files import local_path
from fmnist.storage.store import (
    PART_SUFFIX,
    ConflictError,
    Entry,
    MissingKeyError,
    NoConditionsError,
    Versioned,
    check_key,
)
from fmnist.waiting import Wait

# Of a full or read-only disk: nothing that is read fails so.
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@dataclass(frozen=True)
class FolderStore:
    """Keeps each key in the file of that name below ``root``. See ``Store`` for the methods."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", local_path(self.root).absolute())

    @property
    def location(self) -> str:
        return str(self.root)

    def check(self) -> None:
        probe = self.root / f"check-{secrets.token_hex(4)}{PART_SUFFIX}"
        with self._failing("cannot be written"):
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()

    def put_file(self, local: Path, key: str) -> None:
        with self._failing("cannot be written", key), complete_file(self._path(key)) as part:
            shutil.copyfile(local, part)

    def put_bytes(self, key: str, data: bytes) -> None:
        with self._failing("cannot be written", key), complete_file(self._path(key)) as part:
            part.write_bytes(data)

    def get_file(self, key: str, local: Path) -> None:
        source = self._existing(key)
        with complete_file(local) as part, self._failing("cannot be read", key):
            shutil.copyfile(source, part)

    def get_bytes(self, key: str) -> bytes:
        source = self._existing(key)
        with self._failing("cannot be read", key):
            return source.read_bytes()

    def size(self, key: str) -> int | None:
        path = self._path(key)
        with self._failing("cannot be read", key), contextlib.suppress(FileNotFoundError):
            return path.stat().st_size if path.is_file() else None
        return None

    def exists(self, key: str) -> bool:
        return self.size(key) is not None

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        for folder, below, names in os.walk(self._folder(prefix), onerror=self._listing_failed):
            below[:] = [name for name in below if not name.endswith(PART_SUFFIX)]
            for name in names:
                path = Path(folder, name)
                if not name.endswith(PART_SUFFIX):
                    # A file may vanish between the listing and here: another process deletes an old checkpoint.
                    with contextlib.suppress(FileNotFoundError):
                        yield Entry(path.relative_to(self.root).as_posix(), path.stat().st_size)

    def folders(self, prefix: str = "") -> list[str]:
        folder = self._folder(prefix)
        if not folder.is_dir():
            return []
        with self._failing("cannot be read", prefix):
            below = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.endswith(PART_SUFFIX)]
        return sorted(name for name in below if self._has_files(f"{prefix}/{name}".lstrip("/")))

    def _has_files(self, folder: str) -> bool:
        try:
            return any(self.entries(folder))
        # Of somebody else, who knows.
        except StoreError:
            return True

    def get_version(self, key: str) -> Versioned | None:
        path = self._path(key)
        with self._failing("cannot be read", key), contextlib.suppress(FileNotFoundError):
            with path.open("rb") as file:
                content, written = file.read(), os.fstat(file.fileno()).st_mtime
            return Versioned(content, hashlib.sha256(content).hexdigest(), max(0.0, time.time() - written))
        return None

    def put_version(self, key: str, data: bytes, replaces: str | None) -> str:
        path = self._path(key)
        with self._failing("cannot be written", key), _locked(path):
            found = self.get_version(key)
            if (found.version if found else None) != replaces:
                raise ConflictError(f"{path}: another process was first to write it")
            with complete_file(path) as part:
                part.write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def heeds_conditions(self, key: str) -> bool:
        return True

    def why_not_removable(self, prefix: str) -> str | None:
        # A folder that is a link is another place's, and may be other runs' too.
        for path in (self._path(prefix), *(path for path in self._path(prefix).rglob("*") if path.is_dir())):
            if path.is_symlink():
                return f"{path} is a link"
            if not os.access(path, os.W_OK | os.X_OK):
                return f"{path} may not be written"
        return None

    def delete(self, key: str) -> None:
        with self._failing("cannot be deleted", key):
            self._path(key).unlink(missing_ok=True)

    def delete_folder(self, prefix: str) -> None:
        folder = self._path(prefix)
        with self._failing("cannot be deleted", prefix), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            _remove_tree(folder)

    def _listing_failed(self, error: OSError) -> None:
        with self._failing("cannot be listed"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            raise error

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _folder(self, prefix: str) -> Path:
        return self._path(prefix) if prefix else self.root

    def _existing(self, key: str) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise MissingKeyError(f"{path}: no such file")
        return path

    @contextlib.contextmanager
    def _failing(self, what: str, key: str = "") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if is_local(error, what):
                raise
            path = self.root / key
            raise StoreError(f"{path}: {what}: {error.strerror or error} ({error.filename or path})") from error


def is_local(error: OSError, what: str) -> bool:
    """Whether an error of what a store does, such as ``cannot be read``, is of the local disk that it is read to."""
    return what == "cannot be read" and error.errno in _UNWRITABLE


def _remove_tree(folder: Path) -> None:
    """Removes all files of a folder, and the folders that allow it; none if it is a link or not there.

    A store's folders are what its files' names say. On network file systems one cannot be removed while another process
    has a file of it open.

    Raises:
        OSError: if the folder is a link; after all others, the first file's that stays.
    """
    kept: list[OSError] = []

    def keep(function: Any, path: str, problem: Any) -> None:
        error = problem[1]
        if function is not os.rmdir and not isinstance(error, FileNotFoundError):
            error.filename = path
            kept.append(error)

    shutil.rmtree(folder, onerror=keep)
    if kept:
        raise kept[0]


@contextlib.contextmanager
def complete_file(target: Path) -> Iterator[Path]:
    """Writes a local file atomically: yields a path to write to, which replaces ``target`` if the block succeeds.

    The content is flushed to the disk before it is renamed: after a power failure there is the old file or the new one.
    An error of a full or read-only disk names the target's folder.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{secrets.token_hex(8)}{PART_SUFFIX}")
    try:
        yield part
        _flush_to_disk(part)
        part.replace(target)
        _flush_to_disk(target.parent)
    except OSError as error:
        if error.errno in _UNWRITABLE:
            # A copy names what it reads.
            raise OSError(error.errno, error.strerror, str(target.parent)) from error
        raise
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Keeps other processes out of this block for ``target``, also those of other machines on a shared disk.

    Raises:
        NoConditionsError: if the file system has no locks.
    """
    lock = target.with_name(f"{target.name}.lock{PART_SUFFIX}")
    with _open_locked(lock):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _open_locked(lock: Path) -> IO[bytes]:
    wait = Wait(say, lambda: f"another process to release {lock}")
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = lock.open("ab")
        except FileNotFoundError:
            continue  # the folder was removed between the two
        try:
            while not _lock(file):
                wait.look()
                time.sleep(0.02)
            # Whoever had it has removed it at its end; a third process may have made another.
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file
        except FileNotFoundError:
            pass
        except OSError as error:
            file.close()
            if error.errno in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise NoConditionsError(f"{lock.parent}: this file system has no locks") from error
            raise
        file.close()


def _lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
