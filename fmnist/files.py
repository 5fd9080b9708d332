"""Local files that people name: their paths, and reading them within limits."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fmnist.errors import UserError


def local_path(text: str | Path) -> Path:
    """Returns a path with ``~`` and ``~user`` as the home folder.

    Raises:
        UserError: if there is no such user, or the text cannot be a path.
    """
    try:
        os.fsencode(text)
        if "\0" in str(text):
            raise ValueError
        return Path(text).expanduser()
    except (RuntimeError, ValueError):
        raise UserError(f"{str(text)!r}: not a path, expected one of this machine") from None


@contextmanager
def open_regular(path: Path, shown: str | None = None, error: type[UserError] = UserError) -> Iterator[BinaryIO]:
    """Opens a file for reading; a pipe or a device, which may never end, is refused without reading it.

    Args:
        path: of the file.
        shown: what messages call the file; its path if None.
        error: the class of the errors.

    Raises:
        UserError: if there is no such file, it cannot be read, or it is none.
    """
    name = shown or str(path)
    try:
        # Without O_NONBLOCK, opening a pipe waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                found = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
                raise error(f"{name}: cannot be read: it is {found}, expected a file")
            yield file
    except FileNotFoundError:
        raise error(f"{name}: no such file") from None
    except OSError as failure:
        if isinstance(failure, UserError):
            raise
        raise error(f"{name}: cannot be read: {failure.strerror or failure}") from failure


def read_text(path: Path, largest: int) -> str:
    """Returns the text of a file in UTF-8; a `UserError` if it is none, has more bytes, or as `open_regular`."""
    with open_regular(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise UserError(f"{path}: found more than {largest:,} bytes, expected at most as many")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start + 1} is not text in UTF-8") from None


def sha256_of(path: Path) -> str:
    """Returns the sha256 of a local file's content in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
