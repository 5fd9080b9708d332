"""The lease of a run: of several processes one may write, whatever the order of what they do."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st

from fmnist.errors import LeaseError, RunError
from fmnist.runs import LEASE, RunFolder, lease
from fmnist.runs.lease import Lease, acquire, leased
from fmnist.storage import FolderStore, NoConditionsError, S3Store, Store, Versioned

STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["open", "open", "write", "work", "renew", "10 s", "31 s", "end", "finish"]),
    ),
    min_size=6,
    max_size=24,
)


def acquired(store: Store) -> Lease:
    return acquire(store, "run", lambda line: None)


class Timed:
    """A store whose clock a test moves."""

    def __init__(self, store: Store) -> None:
        self._store, self.now, self._written = store, 0.0, 0.0

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def put_version(self, key: str, data: bytes, replaces: str | None) -> str:
        version = self._store.put_version(key, data, replaces)
        if key == f"run/{LEASE}":
            self._written = self.now
        return version

    def get_version(self, key: str) -> Versioned | None:
        found = self._store.get_version(key)
        return Versioned(found.content, found.version, self.now - self._written) if found else None


class Attempts:
    """Three attempts at one run; those of other processes share nothing with the one that asks but the store."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = Timed(store)
        self.held: dict[int, Lease] = {}
        self.owner: int | None = None
        self.finished: int | None = None
        self.written: int | None = None
        monkeypatch.setattr(lease, "_clock", lambda: self.store.now)
        # Renewed only where a step says so.
        monkeypatch.setattr(Lease, "_renew_again", lambda lease: None)

    def step(self, attempt: int, what: str) -> None:
        if what in {"10 s", "31 s"}:
            self.store.now += float(what.split()[0])
        elif what == "open" and attempt not in self.held:
            self.open(attempt)
        elif what != "open" and attempt in self.held:
            owner = self.owner
            try:
                self.act(attempt, what)
            except LeaseError:
                assert attempt != owner
            else:
                assert attempt == owner or what == "end"

    def open(self, attempt: int) -> None:
        try:
            self.held[attempt] = acquire(self.store, "run", print)  # type: ignore[arg-type]
        except RunError as error:
            assert "held by" in str(error) and self.owner is not None
            return
        self.owner = attempt
        if RunFolder(self.store, "run").state() == "finished":  # type: ignore[arg-type]
            self.act(attempt, "end")

    def act(self, attempt: int, what: str) -> None:
        held = self.held[attempt]
        run = RunFolder(held.store, "run")
        if what == "renew":
            held.renew()
        elif what == "end":
            held.release()
            del self.held[attempt]
            self.owner = None if self.owner == attempt else self.owner
        elif what == "work":
            # As in a worker's process, which has no lease of its own.
            del lease._held[held.store.token]
            try:
                run.put_bytes("result", str(attempt).encode())
            finally:
                lease._held[held.store.token] = held
            self.written = attempt
        else:
            run.put_bytes("result", str(attempt).encode())
            self.written = attempt
            if what == "finish":
                run.finish("train")
                assert self.finished is None
                self.finished = attempt
                self.act(attempt, "end")


def run_steps(store: Store, steps: list[tuple[int, str]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        attempts = Attempts(store, monkeypatch)
        for attempt, what in steps:
            attempts.step(attempt, what)
        run = RunFolder(store, "run")
        assert (run.state() == "finished") == (attempts.finished is not None)
        if attempts.finished is not None:
            assert run.verify() == [] and run.get_bytes("result") == str(attempts.finished).encode()
        elif attempts.written is not None:
            assert run.get_bytes("result") == str(attempts.written).encode()
        for held in attempts.held.values():
            lease._held.pop(held.store.token, None)


@given(steps=STEPS)
def test_any_order_of_three_attempts_leaves_the_files_of_one(tmp_path: Path, steps: list[tuple[int, str]]) -> None:
    run_steps(FolderStore(tmp_path / uuid.uuid4().hex), steps)


@examples(5)
@given(steps=STEPS)
def test_any_order_of_three_attempts_leaves_the_files_of_one_in_a_bucket(
    s3_bucket: str, steps: list[tuple[int, str]]
) -> None:
    run_steps(S3Store(s3_bucket, uuid.uuid4().hex), steps)


def test_one_of_many_at_once_gets_the_lease(store: Store) -> None:
    def try_it(_: int) -> Lease | None:
        try:
            return acquired(store)
        except RunError:
            return None

    with ThreadPoolExecutor(8) as pool:
        got = [one for one in pool.map(try_it, range(16)) if one]

    assert len(got) == 1
    got[0].release()
    assert not list(store.entries("run"))


def test_refusal_says_who_holds_the_run(store: Store) -> None:
    held = acquired(store)
    try:
        with pytest.raises(RunError, match=rf"^run run in .*: held by process {os.getpid()} on \S+ since 2\S+Z \(att"):
            acquired(store)
    finally:
        held.release()


def test_released_lease_is_taken_over_at_once_and_counts_attempts(store: Store) -> None:
    for attempt in (1, 2, 3):
        with leased(store, "run", print) as own:
            own.put_bytes("run/result", b"x")
            assert json.loads(store.get_bytes(f"run/{LEASE}"))["attempt"] == attempt

    assert RunFolder(store, "run").files() == {"result": 1}


def test_waiting_says_for_whom_and_gets_the_lease(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmnist.waiting.FIRST_SECONDS", 0.2)
    held, lines = acquired(store), []
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(acquire, store, "run", lines.append, wait=True)
        while not lines:
            time.sleep(0.05)
        held.release()
        waiting.result(60).release()

    assert lines[0].startswith("still waiting after ")
    assert f": {store.location}/run, held by process {os.getpid()} on" in lines[0]


def test_lease_of_a_process_that_is_gone_is_taken_over_at_once(store: Store) -> None:
    code = "import sys, pickle, os; from fmnist.runs.lease import acquire; "
    code += "acquire(pickle.loads(sys.stdin.buffer.read()), 'run', print); os._exit(9)"
    ended = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(store), timeout=120)
    assert ended.returncode == 9 and store.exists(f"run/{LEASE}")

    acquired(store).release()


def test_lease_is_renewed_while_its_holder_works(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SECONDS", 9.0)
    with leased(store, "run", print):
        first = store.get_bytes(f"run/{LEASE}")
        while store.get_bytes(f"run/{LEASE}") == first:
            time.sleep(0.1)
        with pytest.raises(RunError, match="held by"):
            acquired(store)


def test_damaged_lease_is_nobodys_but_lasts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put_bytes(f"run/{LEASE}", b"{\xff")

    with pytest.raises(RunError, match="held by process 0 on an unknown host"):
        acquired(store)
    # A bucket counts whole seconds.
    time.sleep(2.5)
    monkeypatch.setattr(lease, "SECONDS", 1.0)
    acquired(store).release()


class Unconditional(FolderStore):
    """As a server that knows no conditional writes, or does not heed them."""

    answers: bool

    def put_version(self, key: str, data: bytes, replaces: str | None) -> str:
        if self.answers:
            raise NoConditionsError("501")
        self.put_bytes(key, data)
        return "1"

    def heeds_conditions(self, key: str) -> bool:
        return False


@pytest.mark.parametrize("answers", [True, False])
def test_store_without_conditional_writes_is_told_and_not_fenced(tmp_path: Path, answers: bool) -> None:
    Unconditional.answers = answers
    store, lines = Unconditional(tmp_path), []
    first, second = acquire(store, "run", lines.append), acquire(store, "run", print)
    for held in (first, second):
        held.store.put_bytes("run/result", b"x")
        pickle.loads(pickle.dumps(held.store)).put_bytes("run/result", b"y")
        held.release()

    assert lines == [f"{tmp_path}: has no conditional writes, so nothing keeps a second process from the same run"]
    assert [entry.key for entry in store.entries()] == ["run/result"]


def test_what_is_written_beside_the_run_is_not_fenced(store: Store) -> None:
    held = acquired(store)
    held.release()

    held.store.put_bytes("features/shard", b"x")
    with pytest.raises(LeaseError, match="ended or removed by another process"):
        held.store.put_bytes("run/result", b"x")


@pytest.fixture(autouse=True)
def nothing_is_held() -> Iterator[None]:
    yield
    assert not lease._held
