"""Checkpoints of one trial or fold in the run folder, from which any process resumes it.

Ray Train's workers do not use these: Ray Train has its own record of checkpoints.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist.boundary import spared
from fmnist.errors import IntegrityError
from fmnist.runs import STATE, RunFolder
from fmnist.storage import MissingKeyError
from fmnist.training import checkpoint_files
from fmnist.training.history import History, Row

if TYPE_CHECKING:
    import keras

    from fmnist.training.engine import EpochResult

Note = Callable[[str], None]


def no_note(line: str) -> None:
    """Shows a line to nobody."""


@dataclass(frozen=True)
class _State:
    """The content of ``state.json``: parameters of the training, one row an epoch, and the sha256 of both.

    Earlier versions wrote no sum.
    """

    parameters: dict[str, Any] | None
    rows: tuple[Row, ...]
    sha256: str = ""

    @property
    def sum(self) -> str:
        return hashlib.sha256(json.dumps([self.parameters, self.rows]).encode()).hexdigest()


@dataclass(frozen=True)
class TrainingState:
    """The history of one training and the weights after its last epoch, in a folder of the run.

    Attributes:
        run: the run folder.
        folder: path in the run folder.
        parameters: what the training depends on besides the run's configuration, of JSON's types. A state with other
            parameters is not resumed.
        keep_best: whether the weights after the best epoch are kept too.
    """

    run: RunFolder
    folder: str
    parameters: dict[str, Any] | None = None
    keep_best: bool = field(default=False, kw_only=True)

    def history(self, note: Note = no_note) -> History:
        """Returns the epochs so far; none if the training is new, its parameters were others, or its state is damaged.

        ``note`` shows a line if it is damaged.
        """
        try:
            state = self.run.get_record(f"{self.folder}/{STATE}", _State)
        except MissingKeyError:
            return History()
        except IntegrityError as error:
            note(f"{error}; trained anew")
            return History()
        if state.sha256 and state.sha256 != state.sum:
            note(f"{self.run.location}/{self.folder}/{STATE}: damaged, not what was written; trained anew")
            return History()
        return History(state.rows) if state.parameters == self.parameters else History()

    def resume(
        self, history: History, model: keras.Model, optimizer: keras.optimizers.Optimizer, note: Note = no_note
    ) -> int:
        """Loads the last state that is not damaged; returns its epoch, 0 if there is none.

        With ``keep_best``, that of the best epoch must be there too, or come later. ``note`` shows a line for each
        that is damaged.
        """
        sound: dict[int, Path] = {}
        with ExitStack() as stack:
            for epoch in sorted(self._needed(history), reverse=True):
                try:
                    folder = stack.enter_context(self._fetched(epoch))
                    checkpoint_files.read_history(folder)
                    sound[epoch] = folder
                except (IntegrityError, MissingKeyError) as error:
                    note(f"{self.run.location}/{self._epoch(epoch)}: damaged checkpoint, not used: {error}")
            best = int(history.best["epoch"]) if history.rows else 0
            of_use = [epoch for epoch in sound if not self.keep_best or best > epoch or best in sound]
            last = max(of_use, default=0)
            if last:
                self._load(last, sound[last], model, optimizer)
        return last

    def train(
        self,
        history: History,
        results: Iterable[EpochResult],
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
    ) -> Iterator[History]:
        """Saves the state after each epoch, and yields the history.

        ``results`` begin after the epoch that `resume` returned. An epoch that the history has already is trained the
        same way again; only its weights are saved, if they are needed.
        """
        for result in results:
            if result.epoch <= history.epochs:
                if result.epoch in self._needed(history):
                    self._put(model, optimizer, History(history.rows[: result.epoch]))
                continue
            history = history.add(result.row())
            self.save(model, optimizer, history)
            yield history

    def save(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, history: History) -> None:
        """Saves the state after an epoch and deletes the weights that are no longer needed."""
        self._put(model, optimizer, history)
        # The epoch counts once this file is replaced, which is atomic.
        state = _State(self.parameters, history.rows)
        self.run.put_json(f"{self.folder}/{STATE}", asdict(replace(state, sha256=state.sum)))
        for epoch in self._needed(History(history.rows[:-1])) - self._needed(history):
            self._remove(epoch)

    def restore(self, epoch: int, model: keras.Model, optimizer: keras.optimizers.Optimizer | None = None) -> None:
        """Loads the state after an epoch, the last or the best one, into a model and, if given, its optimizer.

        Raises:
            IntegrityError: if it is damaged.
        """
        with self._fetched(epoch) as folder:
            self._load(epoch, folder, model, optimizer)

    def _load(self, epoch: int, folder: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer | None) -> None:
        from fmnist.training import checkpoint

        try:
            checkpoint.restore(folder, model, optimizer)
        except IntegrityError as error:
            raise IntegrityError(f"{self.run.location}/{self._epoch(epoch)}: damaged checkpoint: {error}") from error

    def drop_weights(self) -> None:
        """Deletes all weights; the history stays."""
        for epoch in self._needed(self.history()):
            self._remove(epoch)

    def _remove(self, epoch: int) -> None:
        path = self._epoch(epoch)
        with spared(f"{self.run.location}/{path} was not removed"):
            self.run.store.delete_folder(f"{self.run.run_id}/{path}")

    def _put(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, history: History) -> None:
        from fmnist.training import checkpoint

        with tempfile.TemporaryDirectory() as folder:
            checkpoint.save(Path(folder), model, optimizer, history)
            self.run.put_folder(Path(folder), self._epoch(history.epochs))

    @contextmanager
    def _fetched(self, epoch: int) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            fetch_checkpoint(self.run, self._epoch(epoch), Path(folder))
            yield Path(folder)

    def _needed(self, history: History) -> set[int]:
        if not history.rows:
            return set()
        return {history.epochs} | ({int(history.best["epoch"])} if self.keep_best else set())

    def _epoch(self, epoch: int) -> str:
        return f"{self.folder}/epoch-{epoch:04d}"


def fetch_checkpoint(run: RunFolder, path: str, folder: Path) -> None:
    """Copies the files of a checkpoint to a local folder; a `MissingKeyError` if one is missing."""
    for name in checkpoint_files.FILES:
        # Earlier versions wrote no sums.
        if name != checkpoint_files.SUMS or run.exists(f"{path}/{name}"):
            run.get_file(f"{path}/{name}", folder / name)
