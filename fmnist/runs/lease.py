"""The lease of a run: of all processes that could write into its folder, one may.

Whoever opens a run writes ``lease.json`` into its folder, by a conditional write that only one of several processes can
win, and renews it while it works. A lease that its holder released, has not renewed for its duration, or whose process
on this machine is gone, is taken over. From then on every write of the process that had it is refused.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from fmnist.errors import FmnistError, IntegrityError, LeaseError, RunError, printable
from fmnist.runs import documents
from fmnist.runs.files import CONFIG, LEASE, MANIFEST
from fmnist.runs.manifest import utc
from fmnist.storage.store import ConflictError, Entry, NoConditionsError, Store, Versioned
from fmnist.waiting import Wait

# Seconds that a lease lasts without being renewed; tests of this repository take less.
_GIVEN = os.environ.get("FMNIST_LEASE_SECONDS", "")
SECONDS = float(_GIVEN) if _GIVEN.isdecimal() and int(_GIVEN) else 30.0
# Share of that time at whose end its holder no longer relies on it.
_RELIABLE = 0.8

Note = Callable[[str], None]


@dataclass(frozen=True)
class LeaseRecord:
    """The content of ``lease.json``.

    Attributes:
        attempt: at the run, from 1.
        token: differs for each attempt.
        host: name of the holder's machine or container.
        machine: differs for each machine, container and boot.
        process: the holder's id.
        born: start of that process, in a unit of the machine; ids are used again.
        since: UTC, such as ``2026-11-23T18:45:00Z``.
        seconds: that it lasts after each renewal.
        renewals: how often it was renewed.
        released: whether its holder has ended.
    """

    attempt: Annotated[int, Field(ge=1)]
    token: str
    host: str
    machine: str
    process: int
    born: int
    since: str
    seconds: Annotated[float, Field(gt=0)]
    renewals: int = 0
    released: bool = False

    def __str__(self) -> str:
        return printable(f"process {self.process} on {self.host} since {self.since} (attempt {self.attempt})")

    def to_json(self) -> bytes:
        return documents.json_bytes(asdict(self))

    def is_over(self, age: float) -> bool:
        """Whether another process may take it over, ``age`` seconds after it was renewed."""
        gone = self.machine == _machine() and _is_gone(self.process, self.born)
        return self.released or gone or age > self.seconds


@dataclass(frozen=True)
class LeasedStore:
    """A store whose run ``run_id`` only the holder of a lease writes, in whatever process. See ``Store``.

    Before each write and each deletion in the run's folder, the lease is looked at: in the process that took it by the
    clock, in others by reading it. Every such method raises a `LeaseError` if another process has taken it over.

    Attributes:
        store: the store itself.
        run_id: of the run.
        token: of the lease.
        fenced: False in a store without conditional writes, where no lease keeps others out.
    """

    store: Store
    run_id: str
    token: str
    fenced: bool = True

    @property
    def location(self) -> str:
        return self.store.location

    @property
    def lease(self) -> Lease | None:
        """The lease, in the process that has taken it."""
        return _held.get(self.token)

    def ensure(self, *, ask: bool = False) -> None:
        """Raises a `LeaseError` if another process has taken the run over; ``ask`` is as in `Lease.ensure`."""
        if lease := self.lease:
            lease.ensure(ask=ask)
        elif self.fenced:
            found = read_lease(self.store, self.run_id)
            if found is None or found[0].token != self.token or found[0].released:
                raise LeaseError(_taken_over(f"{self.location}/{self.run_id}", found[0] if found else None))

    def check(self) -> None:
        self.store.check()

    def put_file(self, local: Path, key: str) -> None:
        self._fence(key)
        self.store.put_file(local, key)

    def put_bytes(self, key: str, data: bytes) -> None:
        self._fence(key)
        self.store.put_bytes(key, data)

    def put_version(self, key: str, data: bytes, replaces: str | None) -> str:
        self._fence(key)
        return self.store.put_version(key, data, replaces)

    def heeds_conditions(self, key: str) -> bool:
        self._fence(key)
        return self.store.heeds_conditions(key)

    def delete(self, key: str) -> None:
        self._fence(key)
        self.store.delete(key)

    def delete_folder(self, prefix: str) -> None:
        self._fence(prefix)
        self.store.delete_folder(prefix)

    def get_file(self, key: str, local: Path) -> None:
        self.store.get_file(key, local)

    def get_bytes(self, key: str) -> bytes:
        return self.store.get_bytes(key)

    def get_version(self, key: str) -> Versioned | None:
        return self.store.get_version(key)

    def size(self, key: str) -> int | None:
        return self.store.size(key)

    def exists(self, key: str) -> bool:
        return self.store.exists(key)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        return self.store.entries(prefix)

    def folders(self, prefix: str = "") -> list[str]:
        return self.store.folders(prefix)

    def why_not_removable(self, prefix: str) -> str | None:
        return self.store.why_not_removable(prefix)

    def _fence(self, key: str) -> None:
        run_id, _, path = key.partition("/")
        if run_id == self.run_id:
            self.ensure()
            if (lease := self.lease) and lease.before_write:
                lease.before_write(path)


class Lease:
    """A lease that this process holds. A thread renews it until it is released.

    Attributes:
        store: the run's store, for its holder.
        before_write: called in this process with the path of each file of the run that is about to be written.
        watch: called after each renewal.
    """

    def __init__(self, store: Store, run_id: str, held: tuple[LeaseRecord, str, float] | None) -> None:
        """Starts to renew a lease that was acquired: its record, its version, and when, by `_clock`; None for a store
        without conditional writes."""
        token = held[0].token if held else secrets.token_hex(16)
        self.store = LeasedStore(store, run_id, token, fenced=held is not None)
        self.before_write: Callable[[str], None] | None = None
        self.watch: Callable[[], None] | None = None
        self._plain, self._file, self._location = store, f"{run_id}/{LEASE}", f"{store.location}/{run_id}"
        self._lost: str | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        if held:
            self._record, self._version, self._renewed = held
        self._seconds = held[0].seconds if held else SECONDS
        _held[token] = self
        self._thread = threading.Thread(target=self._renew_again, name="lease", daemon=True)
        self._thread.start()

    def ensure(self, *, ask: bool = False) -> None:
        """Raises a `LeaseError` if the lease is lost.

        Asks the store only if the lease has not been renewed in time, or with ``ask``.
        """
        if self._lost:
            raise LeaseError(self._lost)
        if self.store.fenced and (ask or _clock() > self._renewed + _RELIABLE * self._seconds):
            self.renew()

    def renew(self) -> None:
        """Renews the lease, even one that is over, if nobody has taken it over; else raises a `LeaseError`."""
        self._write(released=False)

    def release(self) -> None:
        """Ends the lease. It leaves nothing in the folder of a finished run, and none where nothing else was written.

        That it cannot be released is no error: it ends by itself.
        """
        self._ended.set()
        self._thread.join()
        _held.pop(self.store.token, None)
        if not self.store.fenced or self._lost:
            return
        with contextlib.suppress(FmnistError):
            run_id = self.store.run_id
            # Deleted while it lasts: nobody else writes it then.
            if self._plain.exists(f"{run_id}/{MANIFEST}"):
                self.renew()
                self._plain.delete(self._file)
            # A listing may lag behind, so that it is no proof: a run that began has its settings.
            elif not self._plain.exists(f"{run_id}/{CONFIG}") and all(
                entry.key == self._file for entry in self._plain.entries(run_id)
            ):
                self.renew()
                self._plain.delete_folder(run_id)
            else:
                self._write(released=True)

    def _write(self, *, released: bool) -> None:
        with self._lock:
            if self._lost:
                raise LeaseError(self._lost)
            began = _clock()
            record = replace(self._record, renewals=self._record.renewals + 1, released=released)
            try:
                self._version = self._plain.put_version(self._file, record.to_json(), self._version)
            except ConflictError:
                found = read_lease(self._plain, self.store.run_id)
                self._lost = _taken_over(self._location, found[0] if found else None)
                raise LeaseError(self._lost) from None
            self._record, self._renewed = record, began

    def _renew_again(self) -> None:
        while not self._ended.wait(self._seconds / 3):
            # What it cannot reach now, it tries again; whoever writes meanwhile gets the error.
            with contextlib.suppress(FmnistError):
                if self.store.fenced:
                    self.renew()
                if self.watch:
                    self.watch()


# The leases of this process, by their tokens.
_held: dict[str, Lease] = {}


@contextlib.contextmanager
def leased(store: Store, run_id: str, note: Note, *, wait: bool = False) -> Iterator[Store]:
    """Takes the lease of a run for the block, which gets the store for it.

    Args:
        note: shows a line.
        wait: for another process that holds it, instead of refusing.

    Raises:
        RunError: if another process holds it.
        LeaseError: from a write in the block, once another process has taken it over.
    """
    lease = acquire(store, run_id, note, wait=wait)
    try:
        yield lease.store
    finally:
        lease.release()


def acquire(store: Store, run_id: str, note: Note, *, wait: bool = False) -> Lease:
    """Takes the lease of a run; arguments and errors as in `leased`."""
    file, held, age = f"{run_id}/{LEASE}", "", 0.0
    waiting = Wait(note, lambda: f"{store.location}/{run_id}, held by {held}, which showed itself {age:.0f} s ago")
    while True:
        found = read_lease(store, run_id)
        if found is None or found[0].is_over(found[1].age):
            before, version = (found[0], found[1].version) if found else (None, None)
            record, asked = _new_record(before.attempt + 1 if before else 1), _clock()
            try:
                written = store.put_version(file, record.to_json(), version)
                if store.heeds_conditions(file):
                    if before and not before.released:
                        note(f"taking over the run from {before}")
                    return Lease(store, run_id, (record, written, asked))
                store.delete(file)
            except ConflictError:
                continue
            except NoConditionsError:
                pass
            note(f"{store.location}: has no conditional writes, so nothing keeps a second process from the same run")
            return Lease(store, run_id, None)
        if not wait:
            raise _refusal(store, run_id, found[0])
        held, age = str(found[0]), found[1].age
        waiting.look()
        time.sleep(min(1.0, found[0].seconds / 10))


def check_free(store: Store, run_id: str) -> None:
    """Raises the `RunError` of `leased` if another process holds the lease now."""
    found = read_lease(store, run_id)
    if found and not found[0].is_over(found[1].age):
        raise _refusal(store, run_id, found[0])


def read_lease(store: Store, run_id: str) -> tuple[LeaseRecord, Versioned] | None:
    """Returns a run's lease and its file, or None without one. One that cannot be read is nobody's, and lasts."""
    found = store.get_version(f"{run_id}/{LEASE}")
    if found is None:
        return None
    try:
        where = f"{store.location}/{run_id}/{LEASE}"
        return documents.parse_json(found.content, LeaseRecord, where), found
    except IntegrityError:
        return LeaseRecord(1, "", "an unknown host", "", 0, 0, "an unknown time", SECONDS), found


def _refusal(store: Store, run_id: str, held: LeaseRecord) -> RunError:
    how = "wait for its end, by --wait as well, or take another --run-id"
    return RunError(f"run {run_id} in {store.location}: held by {held}; {how}")


def _taken_over(location: str, by: LeaseRecord | None) -> str:
    who = f"taken over by {by}" if by and not by.released else "ended or removed by another process"
    return f"{location}: {who}; this process changes nothing more of it"


def _new_record(attempt: int) -> LeaseRecord:
    process = os.getpid()
    token, host, since = secrets.token_hex(16), socket.gethostname(), utc(time.time())
    return LeaseRecord(attempt, token, host, _machine(), process, _born(process), since, SECONDS)


def _clock() -> float:
    """Seconds that also pass while this process or the machine is stopped."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _machine() -> str:
    """Differs for each machine, container and boot, so that a process id in it is of one process at a time."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        # Where nothing tells them apart, no process is taken for gone.
        return secrets.token_hex(16)


def _is_gone(process: int, born: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        # Another user's, which may be hidden in /proc.
        return False
    return _born(process) != born


def _born(process: int) -> int:
    """Returns when a process of this machine started, in clock ticks since the boot; 0 if there is none."""
    try:
        # After the name, which is in brackets and may have any character.
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    # A zombie has ended, though its parent has not asked for its exit code.
    return 0 if state in "ZX" else int(fields[18])
