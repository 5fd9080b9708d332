"""The epochs of a training so far: which was best, and whether to stop."""

from __future__ import annotations

from dataclasses import dataclass

Row = dict[str, int | float]


@dataclass(frozen=True)
class History:
    """Rows of ``history.csv``, one per epoch, in order, as `fmnist.training.engine.EpochResult.row` gives them."""

    rows: tuple[Row, ...] = ()

    def add(self, row: Row) -> History:
        """Returns the history with one more epoch."""
        return History((*self.rows, row))

    @property
    def epochs(self) -> int:
        """Number of the last epoch, 0 before the first."""
        return int(self.rows[-1]["epoch"]) if self.rows else 0

    @property
    def best(self) -> Row:
        """The row of the best epoch: the one of the highest validation accuracy, of equals the later.

        Every model that is kept has this epoch's weights. Ray Train ranks the checkpoints in the same way, so that the
        best epoch's is one of the two that it keeps; the other is the latest.

        Raises:
            ValueError: before the first epoch.
        """
        return max(self.rows, key=lambda row: (row["val_accuracy"], row["epoch"]))

    def should_stop(self, patience: int) -> bool:
        """Whether the validation loss has had no new minimum for ``patience`` epochs; never for a patience of 0."""
        if not (patience and self.rows):
            return False
        lowest = min(self.rows, key=lambda row: row["val_loss"])
        return self.epochs - lowest["epoch"] >= patience
