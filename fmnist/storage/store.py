"""Where artifacts live: a folder or a bucket, behind one small interface.

A *key* is a relative path with forward slashes (``train-1/plots/loss.png``). A *prefix* is a folder of keys; ``""`` is
the whole store. Folders are implied by keys. A reader always gets one complete upload.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fmnist.errors import StoreError

# Ending of unfinished uploads and downloads: no store lists them, and no key has such a part.
PART_SUFFIX = ".fmnist-part"


class MissingKeyError(StoreError, FileNotFoundError):
    """A key that the store does not have."""


class CredentialsError(StoreError):
    """Credentials that the store refuses, whatever they are used for."""


class ConflictError(StoreError):
    """A conditional write that came too late: the file is no longer what it was."""


class NoConditionsError(StoreError):
    """A store that does not know conditional writes."""


@dataclass(frozen=True)
class Entry:
    """A stored file: its key and its size in bytes."""

    key: str
    size: int


@dataclass(frozen=True)
class Versioned:
    """A small file as it was read.

    Attributes:
        content: of the file.
        version: changes with the content.
        age: seconds since it was written, by the store's own clock.
    """

    content: bytes
    version: str
    age: float


class Store(Protocol):
    """The interface of both stores.

    Every method may raise ``StoreError``: one line with the location and the cause; ``get_file`` and ``get_bytes``
    raise ``MissingKeyError`` if there is no such key.
    """

    @property
    def location(self) -> str:
        """The folder's absolute path, or ``s3://bucket/prefix``."""

    def check(self) -> None:
        """Lists, writes and deletes, within ten seconds; a `StoreError` if one of them is not possible."""

    def put_file(self, local: Path, key: str) -> None:
        """Stores a local file; readers see the old content or all of the new one."""

    def put_bytes(self, key: str, data: bytes) -> None:
        """Stores a small file from memory; readers see the old content or all of the new one."""

    def get_file(self, key: str, local: Path) -> None:
        """Writes a stored file to ``local``, which appears when it is complete. Creates the folders above it.

        Raises an OSError with their name if these cannot be written.
        """

    def get_bytes(self, key: str) -> bytes:
        """Returns a small file's content."""

    def size(self, key: str) -> int | None:
        """Returns a file's size in bytes, or None if there is no such key."""

    def exists(self, key: str) -> bool:
        """Whether a file is stored under exactly this key."""

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Yields every file under a folder, at any depth; their keys begin with ``prefix``. No order is promised."""

    def folders(self, prefix: str = "") -> list[str]:
        """Returns the names of the folders directly under a folder, sorted; some may have become empty just now."""

    def get_version(self, key: str) -> Versioned | None:
        """Returns a small file with its version, or None if there is no such key."""

    def put_version(self, key: str, data: bytes, replaces: str | None) -> str:
        """Stores a small file if it is still of the version ``replaces``, or absent for None; returns its version.

        Of several processes that try at once, one succeeds.

        Raises:
            ConflictError: if another process was first.
            NoConditionsError: if the store does not know such writes.
        """

    def heeds_conditions(self, key: str) -> bool:
        """Whether the store refuses to create a file that exists; it may be written once more if not."""

    def why_not_removable(self, prefix: str) -> str | None:
        """Returns why this process may not delete the files under a folder, as far as it can be told; or None."""

    def delete(self, key: str) -> None:
        """Deletes a file, if it is there."""

    def delete_folder(self, prefix: str) -> None:
        """Deletes every file under a folder, if there are any."""


def open_store(location: str | Path) -> Store:
    """Returns the store at ``s3://bucket/prefix``, or else in the folder of that path, without accessing it.

    Raises:
        StoreError: if the address is neither, or carries credentials.
    """
    from fmnist.storage.folder_store import FolderStore
    from fmnist.storage.s3_store import S3Store

    text = os.fspath(location)
    # With less than two slashes it is a slip, and not meant as a folder of that name.
    if text.lower().startswith("s3:"):
        return S3Store.at(text)
    if "://" in text or not text:
        kind = text.partition("://")[0]
        raise StoreError(f"{kind}://: unknown kind of store, expected a folder or s3://bucket/prefix")
    return FolderStore(Path(text))


def check_key(key: str) -> str:
    """Returns ``key`` if every store can hold it, and it cannot lead out of a folder.

    Raises:
        StoreError: if it is empty, absolute, has an empty, ``.`` or ``..`` part, a backslash or a control character, or
            a part that ends as unfinished uploads do.
    """
    parts = key.split("/")
    if any(part in {"", ".", ".."} for part in parts) or not key.isprintable() or "\\" in key:
        raise StoreError(f"{key!r}: not a key, expected a relative path such as plots/loss.png")
    if any(part.endswith(PART_SUFFIX) for part in parts):
        raise StoreError(f"{key!r}: not a key, {PART_SUFFIX} marks unfinished files")
    return key
