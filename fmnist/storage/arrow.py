"""A store as a pyarrow file system, for the checkpoints of Ray Train.

pyarrow's own S3 file system loses its retry strategy when it is sent to another process, and Ray's controller writes
its snapshot without retrying, so an outage of seconds would end the run.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileSystemHandler, FileType, PyFileSystem

from fmnist.storage.store import MissingKeyError, Store


def store_filesystem(store: Store) -> tuple[FileSystem, str]:
    """Returns the file system and the path in it that stand for a store.

    Example:
        >>> filesystem, path = store_filesystem(open_store("s3://bucket/artifacts"))  # doctest: +SKIP
        >>> RunConfig(storage_filesystem=filesystem, storage_path=path)  # doctest: +SKIP
    """
    handler = StoreHandler(store)
    return PyFileSystem(handler), handler.root


def upload_folder(local: Path, filesystem: FileSystem, path: str) -> None:
    """Stores every file of a local folder, at any depth, under a path of a store's file system.

    ``pyarrow.fs.copy_files`` is no way to do this: it says nothing if a file cannot be stored when it is closed.
    """
    handler: StoreHandler = filesystem.handler
    for file in sorted(local.rglob("*")):
        if file.is_file():
            handler.store.put_file(file, f"{handler.key(path)}/{file.relative_to(local).as_posix()}")


@dataclass(frozen=True)
class StoreHandler(FileSystemHandler):
    """A store whose paths begin with its location, a bucket's as in pyarrow's own S3 file system.

    Directories are implied by files: creating one does nothing, and one without files does not exist. Files are written
    and read through local temporary files, so that each transfer is managed, retried and complete.
    """

    store: Store

    @property
    def root(self) -> str:
        """The path of the store itself."""
        return self.store.location.removeprefix("s3://").strip("/")

    def get_type_name(self) -> str:
        return "fmnist"

    def normalize_path(self, path: str) -> str:
        return path.strip("/")

    def get_file_info(self, paths: Iterable[str]) -> list[FileInfo]:
        return [self._info(path) for path in paths]

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        base = self.key(selector.base_dir)
        depth = base.count("/") + 1 if base else 0
        found: dict[str, FileInfo] = {}
        for entry in self.store.entries(base):
            parts = entry.key.split("/")
            for end in range(depth + 1, len(parts)):
                folder = self._path("/".join(parts[:end]))
                found.setdefault(folder, FileInfo(folder, FileType.Directory))
            path = self._path(entry.key)
            found[path] = FileInfo(path, FileType.File, size=entry.size)
        if not found and not selector.allow_not_found:
            kind = NotADirectoryError if base and self.store.exists(base) else FileNotFoundError
            raise kind(selector.base_dir)
        if selector.recursive:
            return list(found.values())
        return [info for path, info in found.items() if self.key(path).count("/") == depth]

    def create_dir(self, path: str, recursive: bool) -> None:
        pass

    def delete_dir(self, path: str) -> None:
        key = self.key(path)
        if not key:
            raise ValueError(f"{path}: a whole store is not deleted through a file system")
        self.store.delete_folder(key)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        if not missing_dir_ok and self._info(path).type != FileType.Directory:
            raise FileNotFoundError(path)
        self.delete_dir(path)

    def delete_root_dir_contents(self) -> None:
        self.delete_dir("")

    def delete_file(self, path: str) -> None:
        if not self.store.exists(self.key(path)):
            raise FileNotFoundError(path)
        self.store.delete(self.key(path))

    def move(self, source: str, destination: str) -> None:
        self.copy_file(source, destination)
        self.store.delete(self.key(source))

    def copy_file(self, source: str, destination: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.store.get_file(self.key(source), Path(folder, "file"))
            self.store.put_file(Path(folder, "file"), self.key(destination))

    def open_input_stream(self, path: str) -> pa.NativeFile:
        # The opened file outlives its folder: the disk space is freed when it is closed.
        with tempfile.TemporaryDirectory() as folder:
            try:
                self.store.get_file(self.key(path), Path(folder, "file"))
            except MissingKeyError as error:
                raise FileNotFoundError(str(error)) from None
            return pa.PythonFile(Path(folder, "file").open("rb"), mode="r")

    def open_input_file(self, path: str) -> pa.NativeFile:
        return self.open_input_stream(path)

    def open_output_stream(self, path: str, metadata: dict[str, str] | None = None) -> pa.NativeFile:
        return pa.PythonFile(_Upload(self.store, self.key(path)), mode="w")

    def open_append_stream(self, path: str, metadata: dict[str, str] | None = None) -> pa.NativeFile:
        raise NotImplementedError("a stored file is replaced, it cannot be appended to")

    def _info(self, path: str) -> FileInfo:
        key = self.key(path)
        size = self.store.size(key) if key else None
        if size is not None:
            return FileInfo(path, FileType.File, size=size)
        if not key or any(True for _ in self.store.entries(key)):
            return FileInfo(path, FileType.Directory)
        return FileInfo(path, FileType.NotFound)

    def key(self, path: str) -> str:
        """Returns the store's key of a path; a ValueError if it is of no store, or of another."""
        if not f"{path.strip('/')}/".startswith(f"{self.root}/"):
            raise ValueError(f"{path}: expected a path in {self.root}")
        return path.strip("/")[len(self.root) + 1 :]

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"


class _Upload:
    """A local file that is uploaded when it is closed. One that is dropped without closing it uploads nothing."""

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
        self._file = tempfile.NamedTemporaryFile()  # noqa: SIM115  (closed by close)
        self.write, self.tell, self.flush = self._file.write, self._file.tell, self._file.flush
        self.closed = False

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            with contextlib.closing(self._file):
                self._file.flush()
                self._store.put_file(Path(self._file.name), self._key)
