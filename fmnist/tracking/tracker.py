"""The interface of trackers, and how a run is sent to them: at once, or while a job works on it."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from fmnist.boundary import spared
from fmnist.errors import LeaseError, UserError
from fmnist.runs import CONFIG, TENSORBOARD, RunFolder
from fmnist.storage import MissingKeyError, open_store
from fmnist.tracking.records import Reader, RunRecord, read_run

# Seconds between two looks into the folder of a run that is at work.
INTERVAL = 5.0
# Seconds until a tracker that was away is tried again.
AGAIN = 60.0

MLFLOW = "mlflow"


class Tracker(Protocol):
    """A place that shows runs. Each method may be called again, also by another process, and sends what is missing."""

    def open(self, record: RunRecord, parent: str | None = None) -> None:
        """Begins the run there, or finds it and what it has.

        Args:
            parent: identity of the pipeline that the run is a stage of.
        """

    def epochs(self, record: RunRecord) -> None:
        """Sends the epochs that are not there yet."""

    def finish(self, record: RunRecord) -> None:
        """Sends what a finished run has besides its epochs."""


def open_tracker(kind: str, target: str) -> Tracker:
    """Returns a tracker.

    Args:
        kind: ``tensorboard`` or ``mlflow``.
        target: of TensorBoard's event files, a folder or ``s3://bucket/prefix``. MLflow has the address in
            ``MLFLOW_TRACKING_URI``.

    Raises:
        UserError: if the tracker's library is not installed, or there is no such kind.
    """
    if kind == TENSORBOARD:
        from fmnist.tracking.tensorboard import TensorBoardTracker

        return TensorBoardTracker(open_store(target))
    if kind == MLFLOW:
        from fmnist.tracking.mlflow import MLflowTracker

        return MLflowTracker()
    raise UserError(f"track: found {kind}, expected {TENSORBOARD} or {MLFLOW}")


def check_installed(kinds: str | None) -> None:
    """Checks what trackers, with commas between, need. Imports none of their libraries.

    Raises:
        UserError: if a tracker's library is not installed, or MLflow's address is not set.
    """
    if kinds and MLFLOW in kinds:
        if importlib.util.find_spec("mlflow") is None:
            raise UserError("track: found mlflow, which is not installed; `pip install 'fmnist[mlflow]'` installs it")
        from fmnist.tracking.mlflow import check_address

        check_address()


def beside(location: str) -> str:
    """Returns where the event files of the runs in a store are, unless the user says otherwise."""
    return f"{location}/{TENSORBOARD}"


def send(record: RunRecord, tracker: Tracker, parent: str | None = None) -> None:
    """Sends all of a run, as it is now, and of a finished pipeline its stages."""
    tracker.open(record, parent)
    tracker.epochs(record)
    if record.finished:
        tracker.finish(record)
        for stage in record.stages:
            folder = RunFolder(record.folder.store, stage)
            # It may have been removed since.
            if folder.state() == "finished":
                send(read_run(folder), tracker, record.identity)


@contextmanager
def tracked(run: RunFolder, kinds: Sequence[str], identity: str) -> Iterator[None]:
    """Sends a run to trackers while the block works on it, and all of it at the end.

    A tracker that is away, or any other failure of one, is a line and never the job's: what was missed is sent later.

    Args:
        run: its folder; another process may take it over, then nothing more is sent.
        kinds: of trackers; for none of them nothing happens.
        identity: of the run, as its documents will have it; until then they are those of a run to be replaced.
    """
    if not kinds:
        yield
        return
    ended = threading.Event()
    sender = _Sender(run, kinds, identity)

    def work() -> None:
        while not ended.wait(INTERVAL):
            sender.look()

    thread = threading.Thread(target=work, name="tracking", daemon=True)
    thread.start()
    try:
        yield
        sender.look(last=True)
    except Exception as error:
        if not isinstance(error, LeaseError):
            sender.look(last=True)
        raise
    finally:
        # It ends before Ray is left.
        ended.set()
        thread.join()


class _Sender:
    """Sends a run to its trackers, again and again."""

    def __init__(self, run: RunFolder, kinds: Sequence[str], identity: str) -> None:
        self._run, self._identity, self._kinds = run, identity, kinds
        self._reader = Reader(run)
        self._open: dict[str, Tracker] = {}
        # When a tracker that was away is tried again: an attempt at a server may take its time.
        self._again: dict[str, float] = {}
        self._lock = threading.Lock()

    def look(self, *, last: bool = False) -> None:
        """Sends what the run's documents have now; with ``last`` also what follows its end."""
        with self._lock, spared(f"run {self._run.run_id} was not tracked"):
            self._run.ensure_lease()
            if not self._run.exists(CONFIG):
                return
            try:
                record = self._reader.read()
            except MissingKeyError:
                if last:
                    raise
                # The job has removed it since the files were listed: the next look finds what came after it.
                return
            if record.identity == self._identity:
                for kind in self._kinds:
                    if last or time.monotonic() >= self._again.get(kind, 0.0):
                        self._send(kind, record, last)

    def _send(self, kind: str, record: RunRecord, last: bool) -> None:
        then = f"`fmnist runs track {record.run_id} --to {kind}` sends it" if last else "it is tried again"
        sent = False
        with spared(f"run {record.run_id} was not sent to {kind}, {then}"):
            if kind not in self._open:
                tracker = open_tracker(kind, beside(record.folder.store.location))
                tracker.open(record)
                self._open[kind] = tracker
            if last:
                send(record, self._open[kind])
            else:
                self._open[kind].epochs(record)
            sent = True
        if not sent:
            self._open.pop(kind, None)
            self._again[kind] = time.monotonic() + AGAIN
