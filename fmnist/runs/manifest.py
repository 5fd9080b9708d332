"""The manifest of a finished run: every file's size and sha256."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from fmnist import clock
from fmnist.errors import IntegrityError, StoreError
from fmnist.runs.documents import json_bytes, parse_json
from fmnist.storage.store import check_key

SCHEMA = 1


@dataclass(frozen=True)
class ManifestFile:
    """One file of a run: its path in the run folder, its size in bytes, and the sha256 of its content in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a finished run consists of. ``created`` is a UTC time such as ``2026-11-23T18:45:00Z``; files are sorted."""

    run_id: str
    job: str
    created: str
    files: tuple[ManifestFile, ...]
    schema: int = SCHEMA

    @classmethod
    def of(cls, run_id: str, job: str, files: Iterable[ManifestFile]) -> Manifest:
        """Returns the manifest of a run that finishes now."""
        return cls(run_id, job, utc(clock.now()), tuple(sorted(files, key=lambda file: file.path)))

    @classmethod
    def parse(cls, text: bytes, where: str) -> Manifest:
        """Reads a manifest; ``where`` is the file's address, for the error.

        Raises:
            IntegrityError: if it is not JSON, misses a field, has a path twice or one that leads out of the run
                folder, or was written by a later version.
        """
        schema = parse_json(text, _Schema, where).schema
        if schema != SCHEMA:
            raise IntegrityError(f"{where}: schema {schema}, this version reads schema {SCHEMA}")
        manifest = parse_json(text, cls, where)
        try:
            for file in manifest.files:
                check_key(file.path)
        except StoreError as error:
            raise IntegrityError(f"{where}: damaged, {error}") from error
        counts = Counter(file.path for file in manifest.files)
        if twice := next((path for path, count in counts.items() if count > 1), None):
            raise IntegrityError(f"{where}: damaged, found {twice} {counts[twice]} times")
        return manifest

    def to_json(self) -> bytes:
        return json_bytes(asdict(self))


@dataclass(frozen=True)
class _Schema:
    schema: int


def utc(seconds: float) -> str:
    """Returns seconds since the epoch as UTC time, such as ``2026-11-23T18:45:00Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
