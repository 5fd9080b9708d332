"""A run's folder in the artifact store: the names of its files, and whether it is finished and intact."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import JsonValue

from fmnist.errors import FmnistError, IntegrityError, LeaseError, RunError, StoreError
from fmnist.files import sha256_of
from fmnist.runs import documents
from fmnist.runs.documents import Record, json_bytes
from fmnist.runs.files import CONFIG, LEASE, MANIFEST
from fmnist.runs.lease import LeasedStore
from fmnist.runs.manifest import Manifest, ManifestFile
from fmnist.runs.run_id import check_run_id
from fmnist.storage.store import (
    PART_SUFFIX,
    ConflictError,
    MissingKeyError,
    NoConditionsError,
    Store,
    check_key,
)

if TYPE_CHECKING:
    import pandas as pd

State = Literal["absent", "unfinished", "finished"]


@dataclass(frozen=True)
class Problem:
    """How a file differs from the manifest; an ``extra`` file, which the manifest does not know, is only a note."""

    path: str
    kind: Literal["missing", "size", "sha256", "extra"]
    detail: str

    @property
    def is_note(self) -> bool:
        return self.kind == "extra"

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


@dataclass(frozen=True)
class Pulled:
    """The result of a pull: files and bytes fetched, files that were there already."""

    fetched: int
    bytes: int
    kept: int


class RunFolder:
    """One run's folder ``<store>/<run_id>/``. Paths of files are relative to it (``plots/loss.png``).

    A run is finished when it has a manifest, which is written last. A run whose process died is unfinished.

    Raises:
        RunError: if ``run_id`` cannot name a run.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self.store = store
        self.run_id = check_run_id(run_id)
        self._written: dict[str, ManifestFile] = {}
        self._read: set[str] = set()

    def __repr__(self) -> str:
        return f"<run {self.run_id} in {self.store.location}>"

    @property
    def location(self) -> str:
        """Where the run folder is, such as ``artifacts/nightly`` or ``s3://bucket/runs/nightly``."""
        return f"{self.store.location}/{self.run_id}"

    def state(self) -> State:
        """Returns ``finished`` if there is a manifest, ``unfinished`` if there are files only. Asks the store."""
        if self.exists(MANIFEST):
            return "finished"
        # A listing may lag behind what was written.
        return "unfinished" if self.exists(CONFIG) or self.files() else "absent"

    def ensure_lease(self, *, ask: bool = False) -> None:
        """Raises a `LeaseError` if another process has taken the run over.

        The process that has taken the lease asks the store only if it has to, or with ``ask``.
        """
        if isinstance(self.store, LeasedStore):
            self.store.ensure(ask=ask)

    def put_file(self, local: Path, path: str) -> None:
        """Stores a local file under ``path``, in place of what is there."""
        size, digest = local.stat().st_size, sha256_of(local)
        self.store.put_file(local, self._key(path))
        self._written[path] = ManifestFile(path, size, digest)

    def put_bytes(self, path: str, data: bytes) -> None:
        """Stores ``data`` under ``path``, in place of what is there."""
        self.store.put_bytes(self._key(path), data)
        self._written[path] = ManifestFile(path, len(data), hashlib.sha256(data).hexdigest())

    def put_json(self, path: str, value: Any) -> None:
        """Stores a value of JSON's types; not-a-number and infinities, which JSON lacks, are a ValueError."""
        self.put_bytes(path, json_bytes(value))

    def put_csv(self, path: str, table: pd.DataFrame, **options: Any) -> None:
        """Stores a table without its index; ``options`` are those of ``DataFrame.to_csv``.

        A text that a spreadsheet would take for a formula gets a quotation mark in front.
        """
        table = table.copy()
        for name in table.select_dtypes(exclude="number"):
            table[name] = table[name].map(_no_formula)
        table = table.rename(columns=_no_formula)
        self.put_bytes(path, table.to_csv(index=False, **options).encode(errors="backslashreplace"))

    def put_folder(self, local: Path, path: str = "") -> None:
        """Stores every file of a local folder, at any depth, under ``path``."""
        for file in sorted(local.rglob("*")):
            if file.is_file():
                self.put_file(file, "/".join(part for part in (path, file.relative_to(local).as_posix()) if part))

    def get_file(self, path: str, local: Path) -> None:
        """Copies a file of the run to ``local``; errors as in `get_bytes`."""
        self.store.get_file(self._key(path), local)
        self._read.add(path)

    def get_bytes(self, path: str) -> bytes:
        """Returns the content of a file; a `MissingKeyError` if there is no such file."""
        return self.store.get_bytes(self._key(path))

    def get_json(self, path: str) -> Any:
        """Returns the value in a JSON file; errors as in `get_record`."""
        return self.get_record(path, JsonValue)  # type: ignore[arg-type]

    def get_record(self, path: str, record: type[Record]) -> Record:
        """Returns a JSON file as a record.

        Raises:
            MissingKeyError: if there is no such file.
            IntegrityError: if it is not JSON, or not such a record.
        """
        return documents.parse_json(self._document(path, documents.LARGEST_JSON), record, f"{self.location}/{path}")

    def get_yaml(self, path: str, record: type[Record]) -> Record:
        """Returns a YAML file as a record; errors as in `get_record`."""
        return documents.parse_yaml(self._document(path, documents.LARGEST_YAML), record, f"{self.location}/{path}")

    def get_verified(self, file: ManifestFile, path: Path) -> None:
        """Copies a file of the manifest to a local path, and compares both.

        Raises:
            IntegrityError: if the file is missing, or not the one of the manifest.
        """
        where = f"{self.location}/{file.path}: damaged, found"
        # Its size first: it may be more than the disk has room for.
        if (size := self.store.size(self._key(file.path))) != file.size:
            found = "nothing" if size is None else f"{size:,} bytes"
            raise IntegrityError(f"{where} {found}, its manifest has {file.size:,} bytes")
        self.get_file(file.path, path)
        if (digest := sha256_of(path)) != file.sha256:
            raise IntegrityError(f"{where} sha256 {digest}, its manifest has {file.sha256}")

    def exists(self, path: str) -> bool:
        """Whether the run has a file."""
        return self.store.exists(self._key(path))

    def delete(self, path: str) -> None:
        """Deletes a file, if it is there."""
        self.store.delete(self._key(path))
        self._written.pop(path, None)

    def files(self) -> dict[str, int]:
        """Returns the size in bytes of every file of the run, by path; its lease is none."""
        start = len(self.run_id) + 1
        found = {entry.key[start:]: entry.size for entry in self.store.entries(self.run_id)}
        found.pop(LEASE, None)
        return found

    def finish(self, job: str, without: Collection[str] = ()) -> Manifest:
        """Writes the manifest: from now on the run is finished.

        Args:
            job: that the run is of.
            without: files and folders that do not belong to the finished run, and are about to be deleted.

        The sums are those of the content that this object wrote. A file that another process wrote, such as a
        checkpoint, is read back. Files that this object wrote or read are part of the run even where a listing, which
        may lag behind, lacks them.

        Raises:
            IntegrityError: if a file that was written here is gone or has another size.
            LeaseError: if another process has finished the run.
        """

        def belongs(path: str) -> bool:
            return path != MANIFEST and not any(path == one or path.startswith(f"{one}/") for one in without)

        stored = {path: size for path, size in self.files().items() if belongs(path)}
        for path, file in self._written.items():
            if belongs(path) and stored.get(path) != file.size and self.store.size(self._key(path)) != file.size:
                found = f"{stored[path]} bytes" if path in stored else "nothing"
                raise IntegrityError(f"{self.location}/{path}: wrote {file.size} bytes, but the store has {found}")
            if belongs(path):
                stored[path] = file.size
        for path in self._read - stored.keys():
            if belongs(path) and (size := self.store.size(self._key(path))) is not None:
                stored[path] = size
        sums = [
            self._written.get(path) or ManifestFile(path, size, self._sha256(path)) for path, size in stored.items()
        ]
        manifest = Manifest.of(self.run_id, job, sums)
        try:
            self.store.put_version(self._key(MANIFEST), manifest.to_json(), None)
        except ConflictError:
            raise LeaseError(f"{self.location}: finished by another process; this one changes nothing of it") from None
        except NoConditionsError:
            self.store.put_bytes(self._key(MANIFEST), manifest.to_json())
        return manifest

    def manifest(self) -> Manifest:
        """Returns the manifest of a finished run.

        Raises:
            RunError: if there is no such run, or it is unfinished.
            IntegrityError: if the manifest is damaged.
        """
        try:
            return Manifest.parse(self._document(MANIFEST, documents.LARGEST_JSON), f"{self.location}/{MANIFEST}")
        except MissingKeyError:
            if self.state() == "absent":
                raise RunError(f"{self.location}: no such run") from None
            raise RunError(f"{self.location}: unfinished run, it has no {MANIFEST} yet") from None

    def verify(self) -> list[Problem]:
        """Reads every file and compares it with the manifest; returns what differs, in the order of paths.

        Errors as in `manifest`.
        """
        expected = {file.path: file for file in self.manifest().files}
        stored = self.files()
        # A listing may lag behind what was written.
        for path in expected.keys() - stored.keys():
            if (size := self.store.size(self._key(path))) is not None:
                stored[path] = size
        problems = []
        for path in sorted((expected.keys() | stored.keys()) - {MANIFEST}):
            if path not in expected:
                problems.append(Problem(path, "extra", "not in the manifest"))
            elif path not in stored:
                problems.append(Problem(path, "missing", "missing"))
            elif stored[path] != expected[path].size:
                problems.append(Problem(path, "size", f"{stored[path]} bytes, expected {expected[path].size}"))
            elif (digest := self._sha256(path)) != expected[path].sha256:
                problems.append(Problem(path, "sha256", f"sha256 {digest}, expected {expected[path].sha256}"))
        return problems

    def pull(self, destination: Path, progress: Callable[[ManifestFile, bool], None] | None = None) -> Pulled:
        """Copies a finished run to a local folder, which becomes its run folder.

        Files that are there already with the right content are kept, so an interrupted pull continues. A file gets its
        name only after its sha256 was checked, and the manifest is written last. Two concurrent pulls into one folder
        disturb each other.

        Args:
            destination: the folder; created if needed. Other files in it stay.
            progress: called after each file of the manifest, with whether it had to be fetched.

        Raises:
            RunError: if the folder has another finished run; nothing is written then. Others as in `manifest`.
            IntegrityError: if a file in the store is missing or differs from the manifest.
            StoreError: if the folder cannot be written.
        """
        manifest = self.manifest()
        _refuse_another_run(destination, manifest)
        sizes = []
        with _staging(destination) as staging:
            for file in manifest.files:
                if fetched := self._pull_file(file, destination, staging):
                    sizes.append(file.size)
                if progress:
                    progress(file, fetched)
            (staging / MANIFEST).write_bytes(manifest.to_json())
            (staging / MANIFEST).replace(destination / MANIFEST)
        return Pulled(len(sizes), sum(sizes), len(manifest.files) - len(sizes))

    def reopen(self) -> None:
        """Makes a finished run unfinished, to continue it."""
        self.store.delete(self._key(MANIFEST))

    def remove(self) -> None:
        """Deletes the run, its manifest first: if interrupted, it leaves an unfinished run, not a damaged one.

        The lease of whoever removes it stays.
        """
        self.reopen()
        for name in self.store.folders(self.run_id):
            self.store.delete_folder(self._key(name))
        for path in self.files():
            self.delete(path)
        self._written.clear()

    def _pull_file(self, file: ManifestFile, destination: Path, staging: Path) -> bool:
        """Fetches a file unless it is there already; returns whether it had to be fetched."""
        target, fetched = destination / file.path, staging / "file"
        _refuse_links(destination, target)
        if target.is_file() and target.stat().st_size == file.size and sha256_of(target) == file.sha256:
            return False
        self.get_verified(file, fetched)
        target.parent.mkdir(parents=True, exist_ok=True)
        fetched.replace(target)
        return True

    def _document(self, path: str, largest: int) -> bytes:
        # Its size first: a document is read into memory.
        documents.check_size(self.store.size(self._key(path)) or 0, largest, f"{self.location}/{path}")
        return self.get_bytes(path)

    def _sha256(self, path: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            self.get_file(path, Path(folder, "file"))
            return sha256_of(Path(folder, "file"))

    def _key(self, path: str) -> str:
        return f"{self.run_id}/{check_key(path)}"


def _no_formula(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _refuse_links(destination: Path, target: Path) -> None:
    """Raises a `StoreError` if a folder to be written into is a link, which may lead anywhere."""
    for folder in (destination, *(destination / part for part in target.relative_to(destination).parents)):
        if folder.is_symlink():
            raise StoreError(f"{folder}: is a symbolic link, expected a folder")


def _refuse_another_run(destination: Path, manifest: Manifest) -> None:
    path, found = destination / MANIFEST, None
    if path.is_file():
        # A damaged one is of nobody knows what.
        with suppress(IntegrityError):
            documents.check_size(path.stat().st_size, documents.LARGEST_JSON, str(path))
            found = Manifest.parse(path.read_bytes(), str(path))
        if found != manifest:
            raise RunError(f"{path}: of another finished run, expected this one or none; name another folder by --to")


@contextmanager
def _staging(destination: Path) -> Iterator[Path]:
    """Yields an empty folder on the destination's disk; files of a killed pull are removed."""
    _refuse_links(destination, destination / MANIFEST)
    staging = destination / f"pull{PART_SUFFIX}"
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        yield staging
    except OSError as error:
        if isinstance(error, FmnistError):
            raise
        raise StoreError(f"{destination}: cannot be written: {error.strerror or error} ({error.filename})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
