"""The sampler tpe, as Ray Tune asks it for one trial after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ray.tune.search import Searcher

from fmnist.distributed.spaces import Point
from fmnist.training.history import Row
from fmnist.workflows.tune.config import TuneConfig
from fmnist.workflows.tune.trial import OUT_OF_TIME, epochs_in_a_row

# The trial's number; and the values of each point before with its score, None if it has none that can be compared.
Draw = Callable[[int, list[tuple[dict[str, Any], float | None]]], Point]

# Results that a point is drawn from, at least. TPE looks where the best tenth of them is, and not where the others are.
ENOUGH = 6
# In environment.json, how many trials a search draws before the result of one is known.
AHEAD = "draws_ahead"


def drawn_at_random(trials: int, ahead: int) -> int:
    """Returns how many of the trials, the first ones, have random points: too few results are known for others."""
    return min(trials, ENOUGH + ahead - 1)


def scores(tried: Sequence[tuple[Sequence[float], bool]]) -> list[float | None]:
    """Returns the best accuracy of each trial within the same number of epochs; None if it has not come so far.

    It is the largest number that enough trials have come to, as in BOHB (Falkner, Klein and Hutter, "BOHB: Robust and
    Efficient Hyperparameter Optimization at Scale", ICML 2018).

    Args:
        tried: of each trial the validation accuracy by epoch, and whether it ended there by itself.
    """
    reached = sorted((len(accuracies) for accuracies, _ in tried), reverse=True)
    epochs = reached[min(ENOUGH, len(reached)) - 1] if reached else 0
    return [
        max(accuracies[:epochs], default=0.0) if ended or len(accuracies) >= epochs else None
        for accuracies, ended in tried
    ]


class TpeSearch(Searcher):
    """Draws the point of each trial when there is room for it.

    A point is drawn from the results of all trials but the ``ahead`` before its own, and of each up to its bracket's
    first rung only: how far it comes from there, and when, depends on the others. So a point does not depend on time,
    on the number of processors, or on interruptions.

    Args:
        config: of the search.
        trials: how many, 1 or more.
        points: of the first trials, see `drawn_at_random`; the others' are appended.
        ahead: how many trials may be drawn before the result of one is known, 1 or more.
        draw: returns a trial's point, from its number and the trials before.
    """

    def __init__(self, config: TuneConfig, trials: int, points: list[Point], ahead: int, draw: Draw) -> None:
        super().__init__()
        self._config, self._trials, self._points, self._ahead, self._draw = config, trials, points, ahead, draw
        self._numbers: dict[str, int] = {}
        self._rows: dict[int, tuple[Row, ...]] = {}
        self._ended: set[int] = set()
        self._out_of_time: set[int] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the config of the next trial; None if a result is missing that it is drawn from."""
        number = len(self._numbers) + 1
        if number > self._trials:
            finished: str = Searcher.FINISHED
            return finished
        if number > len(self._points):
            known = range(1, number - self._ahead + 1)
            missing = [trial for trial in known if len(self._first_rows(trial)) < self._rung(trial)]
            if any(trial not in self._ended for trial in missing):
                return None
            if any(trial in self._out_of_time for trial in missing):
                # It ends before its first epoch. Hyperband waits for all trials of a bracket.
                self._points.append(Point({}, "the time of the search is over"))
            else:
                compared = scores([self._accuracies(trial) for trial in known])
                unknown = [None] * (number - 1 - len(compared))
                tried = zip(self._points, [*compared, *unknown], strict=True)
                self._points.append(self._draw(number, [(point.values, score) for point, score in tried]))
        self._numbers[trial_id] = number
        return {"trial": number, "point": asdict(self._points[number - 1])}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Learns from an epoch. A trial that is started again reports all of its epochs again."""
        number = self._numbers[trial_id]
        self._rows[number] = max(self._rows.get(number, ()), result["rows"], key=len)
        if result.get(OUT_OF_TIME):
            self._out_of_time.add(number)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Learns that a trial has ended."""
        if result:
            self.on_trial_result(trial_id, result)
        self._ended.add(self._numbers[trial_id])

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Saves nothing: a search resumes from its trials' states, and draws the same points again."""

    def _accuracies(self, trial: int) -> tuple[Sequence[float], bool]:
        rows = self._first_rows(trial)
        return [float(row["val_accuracy"]) for row in rows], len(rows) < self._rung(trial)

    def _first_rows(self, trial: int) -> tuple[Row, ...]:
        return self._rows.get(trial, ())[: self._rung(trial)]

    def _rung(self, trial: int) -> int:
        return epochs_in_a_row(self._config, trial)
