"""One input file: its path, its name in messages, and its decompressed content."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

from fmnist.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class DataFile:
    """A file to read; messages call it ``shown``: its path, or the ``s3://`` address it was downloaded from."""

    path: Path
    shown: str

    def read(self) -> bytes:
        """Returns the content, decompressed if it is gzip (told by its first bytes, not by its name).

        Raises:
            DataError: if the file is missing, unreadable, empty, or its compression is damaged.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"{self.shown}: cannot be read: {error.strerror}") from error
        if not content:
            raise DataError(f"{self.shown}: empty file")
        if content.startswith(_GZIP_MAGIC):
            try:
                content = gzip.decompress(content)
            except EOFError as error:
                raise DataError(f"{self.shown}: truncated gzip file of {len(content):,} bytes") from error
            except (OSError, zlib.error) as error:
                raise DataError(f"{self.shown}: damaged gzip file: {error}") from error
            if not content:
                raise DataError(f"{self.shown}: empty file inside the gzip file")
        elif self.path.suffix == ".gz":
            raise DataError(f"{self.shown}: not a gzip file: starts with {content[:2].hex()}, expected 1f8b")
        return content
