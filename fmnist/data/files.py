"""One input file: its path, its name in messages, and its decompressed content."""

from __future__ import annotations

import errno
import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fmnist.errors import DataError
from fmnist.files import open_regular

# Of a folder that others may write, or nobody.
NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS}
_GZIP_MAGIC = b"\x1f\x8b"
# Of a file's content. Fashion-MNIST has 47 MB as IDX and 133 MB as CSV; a gzip file of a megabyte may hold a gigabyte.
LARGEST_CONTENT = 2**30
# A header is within the first bytes: it decides whether the others are read.
HEAD = 2**16
_CHUNK = 2**24

Check = Callable[[bytes, str], int | None]
"""Checks the first bytes of a file that messages call by a name; returns the bytes that it promises, None if none."""


@dataclass(frozen=True)
class DataFile:
    """A file to read; messages call it ``shown``: its path, or the ``s3://`` address it was downloaded from."""

    path: Path
    shown: str

    def read(self, check: Check = lambda head, shown: None) -> bytes:
        """Returns the content, decompressed if it is gzip (told by its first bytes, not by its name).

        Args:
            check: called with the first bytes of the content. Not much more than it promises is read.

        Raises:
            DataError: if the file is missing, unreadable, empty, too large, or its compression is damaged; or as
                ``check``.
        """
        with open_regular(self.path, self.shown, DataError) as file:
            magic = file.read(2)
            file.seek(0)
            if not magic:
                raise DataError(f"{self.shown}: empty file")
            if magic != _GZIP_MAGIC:
                if self.path.suffix == ".gz":
                    raise DataError(f"{self.shown}: not a gzip file: starts with {magic.hex()}, expected 1f8b")
                return self._content(file.read, check)
            try:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    content = self._content(unpacked.read, check)
            except EOFError as error:
                size = self.path.stat().st_size
                raise DataError(f"{self.shown}: truncated gzip file of {size:,} bytes") from error
            except (gzip.BadGzipFile, zlib.error) as error:
                raise DataError(f"{self.shown}: damaged gzip file: {error}") from error
            if not content:
                raise DataError(f"{self.shown}: empty file inside the gzip file")
        return content

    def _content(self, read: Callable[[int], bytes], check: Check) -> bytes:
        content = bytearray(read(HEAD))
        promised = check(bytes(content), self.shown) if content else None
        # One byte more shows that there is more.
        largest = min(LARGEST_CONTENT, LARGEST_CONTENT if promised is None else promised + 1)
        while len(content) <= largest and (chunk := read(_CHUNK)):
            content += chunk
        if len(content) > LARGEST_CONTENT:
            raise DataError(f"{self.shown}: found more than {LARGEST_CONTENT:,} bytes, expected at most as many")
        return bytes(content)
