"""Checkpoints of one trial or fold in the run folder, from which any process resumes it.

Ray Train's workers do not use these: Ray Train has its own checkpoints.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist.boundary import spared
from fmnist.runs import RunFolder
from fmnist.storage import MissingKeyError
from fmnist.training.history import History, Row

if TYPE_CHECKING:
    import keras

STATE = "state.json"


@dataclass(frozen=True)
class _State:
    """The content of ``state.json``: parameters of the training, and one row an epoch."""

    parameters: dict[str, Any] | None
    rows: tuple[Row, ...]


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

    def history(self) -> History:
        """Returns the epochs so far; none if the training is new or its parameters were others.

        Raises:
            IntegrityError: if the state is damaged.
        """
        try:
            state = self.run.get_record(f"{self.folder}/{STATE}", _State)
        except MissingKeyError:
            return History()
        return History(state.rows) if state.parameters == self.parameters else History()

    def save(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, history: History) -> None:
        """Saves the state after an epoch and deletes the weights that are no longer needed."""
        from fmnist.training import checkpoint

        with tempfile.TemporaryDirectory() as folder:
            checkpoint.save(Path(folder), model, optimizer, history)
            self.run.put_folder(Path(folder), self._epoch(history.epochs))
        # The epoch counts once this file is replaced, which is atomic.
        self.run.put_json(f"{self.folder}/{STATE}", asdict(_State(self.parameters, history.rows)))
        for epoch in self._needed(History(history.rows[:-1])) - self._needed(history):
            self._remove(epoch)

    def restore(self, epoch: int, model: keras.Model, optimizer: keras.optimizers.Optimizer | None = None) -> None:
        """Loads the state after an epoch, the last or the best one, into a model and, if given, its optimizer."""
        from fmnist.training import checkpoint

        with tempfile.TemporaryDirectory() as folder:
            for name in checkpoint.FILES:
                self.run.get_file(f"{self._epoch(epoch)}/{name}", Path(folder, name))
            checkpoint.restore(Path(folder), model, optimizer)

    def drop_weights(self) -> None:
        """Deletes all weights; the history stays."""
        for epoch in self._needed(self.history()):
            self._remove(epoch)

    def _remove(self, epoch: int) -> None:
        path = self._epoch(epoch)
        with spared(f"{self.run.location}/{path} was not removed"):
            self.run.store.delete_folder(f"{self.run.run_id}/{path}")

    def _needed(self, history: History) -> set[int]:
        if not history.rows:
            return set()
        return {history.epochs} | ({int(history.best["epoch"])} if self.keep_best else set())

    def _epoch(self, epoch: int) -> str:
        return f"{self.folder}/epoch-{epoch:04d}"
