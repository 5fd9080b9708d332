"""What the run folder knows of a training that goes on from its last epoch, wherever it is started again.

`SearchTrial` and the folds of a cross-validation keep their state so. Ray Train's workers do not: Ray Train has its own
checkpoints.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist.runs import RunFolder
from fmnist.storage import MissingKeyError
from fmnist.training.history import History

if TYPE_CHECKING:
    import keras

STATE = "state.json"


class TrainingState:
    """The epochs of one training, and the weights after the last of them, in a folder of the run.

    Args:
        run: the run folder.
        folder: in it.
        parameters: what the training depends on besides the run's configuration, of JSON's types; a state of others is
            not gone on from.
        keep_best: whether the weights after the best epoch are kept too.
    """

    def __init__(
        self, run: RunFolder, folder: str, parameters: dict[str, Any] | None = None, *, keep_best: bool = False
    ) -> None:
        self.run = run
        self.folder = folder
        self.parameters = parameters
        self.keep_best = keep_best

    def history(self) -> History:
        """The epochs so far; none if the training is new, or was one of other parameters."""
        try:
            known = self.run.get_json(f"{self.folder}/{STATE}")
        except MissingKeyError:
            return History()
        return History(tuple(known["rows"])) if known["parameters"] == self.parameters else History()

    def save(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, history: History) -> None:
        """Keeps the state after an epoch, and lets go of what is no longer needed of those before it."""
        from fmnist.training import checkpoint

        with tempfile.TemporaryDirectory() as folder:
            checkpoint.save(Path(folder), model, optimizer, history)
            self.run.put_folder(Path(folder), self._epoch(history.epochs))
        # From here on this epoch counts: the file is replaced in one go.
        state = {"parameters": self.parameters, "rows": list(history.rows)}
        self.run.put_json(f"{self.folder}/{STATE}", state)
        for epoch in self._needed(History(history.rows[:-1])) - self._needed(history):
            self.run.store.delete_folder(f"{self.run.run_id}/{self._epoch(epoch)}")

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
            self.run.store.delete_folder(f"{self.run.run_id}/{self._epoch(epoch)}")

    def _needed(self, history: History) -> set[int]:
        if not history.rows:
            return set()
        return {history.epochs} | ({int(history.best["epoch"])} if self.keep_best else set())

    def _epoch(self, epoch: int) -> str:
        return f"{self.folder}/epoch-{epoch:04d}"
