"""TensorBoard's event files of runs, made of their documents.

What is sent at once is one file, and no file is changed later: so a store of any kind can have them, TensorBoard sees
them while a job works, and their names say what is there already. TensorBoard reads a folder's files in the order of
their names, and never goes back.
"""

from __future__ import annotations

import re
import struct
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tensorboardX import RecordWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams

from fmnist.runs.files import PLOTS
from fmnist.storage import Store
from fmnist.tracking.records import Part, RunRecord

IMAGES = ("confusion_matrix", "worst_mistakes")
PREFIX = "events.out.tfevents.fmnist"
START, EPOCHS, END = "0-start", "1-epochs", "2-end"

_NAME = re.compile(rf"{re.escape(PREFIX)}\.(?P<identity>.+)\.({START}|{END}|{EPOCHS}-\d{{6}}-(?P<last>\d{{6}}))")

# An event: seconds since 1970, epoch, and what it shows.
Entry = tuple[float, int, Summary]


class TensorBoardTracker:
    """Writes event files into ``RUN/`` of a store, those of trials, folds and phases into ``RUN/PART/``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: set[str] = set()
        self._last: dict[str, int] = {}

    def open(self, record: RunRecord, parent: str | None = None) -> None:
        """Finds what the store has of the run; event files of a run that it replaced are deleted."""
        self._known, self._last = set(), {}
        for entry in list(self._store.entries(record.run_id)):
            folder, _, name = entry.key.rpartition("/")
            if not (found := _NAME.fullmatch(name)):
                continue
            if found["identity"] != record.identity:
                self._store.delete(entry.key)
                continue
            self._known.add(entry.key)
            self._last[folder] = max(self._last.get(folder, 0), int(found["last"] or 0))

    def epochs(self, record: RunRecord) -> None:
        """Writes the epochs that are not there; of a trial its hyper-parameters first."""
        for part in record.parts:
            folder = _folder(record, part)
            if self._last.get(folder, 0) > len(part.rows):
                # Trained anew, or trained beyond what the search decided on.
                self._forget(folder)
            times = record.times(part)
            begin, done = (times[0] if times else time.time()), self._last.get(folder, 0)
            if part.kind == "trial":
                self._write(folder, record, START, [(begin, 0, hparams(_simple(part.parameters), {})[1])])
            if new := part.rows[done:]:
                name = f"{EPOCHS}-{done + 1:06d}-{len(part.rows):06d}"
                entries = zip(times[done:], range(done + 1, len(part.rows) + 1), map(_scalars, new), strict=True)
                self._write(folder, record, name, entries)
                self._last[folder] = len(part.rows)

    def finish(self, record: RunRecord) -> None:
        """Writes the scores of the test or held-out images, the figures of the mistakes, and that trials have ended."""
        now = record.ended
        step = int(record.metrics.get("best_epoch", 0))
        values = [
            Summary.Value(tag=f"{name}_accuracy", simple_value=scores["accuracy"])
            for name in ("test", "held_out")
            if (scores := record.metrics.get(name))
        ]
        for name in IMAGES:
            if record.folder.exists(path := f"{PLOTS}/{name}.png"):
                values.append(Summary.Value(tag=name, image=_image(record.folder.get_bytes(path))))
        if values:
            self._write(record.run_id, record, END, [(now, step, Summary(value=[value])) for value in values])
        for part in record.parts:
            entries = [
                (now, len(part.rows), Summary(value=[Summary.Value(tag=name, simple_value=value)]))
                for name, value in part.scores.items()
            ]
            if part.kind == "trial":
                entries.append((now, len(part.rows), hparams({}, {})[2]))
            if entries:
                self._write(_folder(record, part), record, END, entries)

    def _forget(self, folder: str) -> None:
        for key in [key for key in self._known if key.rpartition("/")[0] == folder]:
            self._store.delete(key)
            self._known.discard(key)
        self._last.pop(folder, None)

    def _write(self, folder: str, record: RunRecord, name: str, entries: Iterable[Entry]) -> None:
        """Writes a file of events, unless it is there."""
        key = f"{folder}/{PREFIX}.{record.identity}.{name}"
        if key in self._known:
            return
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary, "events")
            writer = RecordWriter(str(path))
            for number, (seconds, epoch, summary) in enumerate(entries):
                if number == 0:
                    writer.write(Event(wall_time=seconds, file_version="brain.Event:2").SerializeToString())
                writer.write(Event(wall_time=seconds, step=epoch, summary=summary).SerializeToString())
            writer.close()
            self._store.put_file(path, key)
        self._known.add(key)


def _folder(record: RunRecord, part: Part) -> str:
    return f"{record.run_id}/{part.name}" if part.name else record.run_id


def _scalars(row: dict[str, Any]) -> Summary:
    values = [Summary.Value(tag=name, simple_value=value) for name, value in row.items() if name != "epoch"]
    return Summary(value=values)


def _simple(parameters: Any) -> dict[str, Any]:
    """Returns hyper-parameters of the types that TensorBoard has."""
    return {name: it if isinstance(it, (str, bool, int, float)) else str(it) for name, it in parameters.items()}


def _image(png: bytes) -> Summary.Image:
    # A PNG begins with its signature and a chunk that has its size.
    width, height = struct.unpack(">II", png[16:24])
    return Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
