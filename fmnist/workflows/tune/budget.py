"""The time of a search, over all processes that have worked on it."""

from __future__ import annotations

from fmnist import clock
from fmnist.runs import TRIALS, RunFolder

# Of the run folder: seconds that the search has taken so far.
SPENT = f"{TRIALS}/seconds.json"
# A process that is killed has used up to so many seconds more than it has noted.
NOTED_SECONDS = 10.0


class TimeBudget:
    """What is left of a search's time. Time between its processes does not count.

    Args:
        run: the run folder, where what was used is noted.
        seconds: all of it.
    """

    def __init__(self, run: RunFolder, seconds: float) -> None:
        self._run, self._seconds = run, seconds
        self._before = run.get_record(SPENT, float) if run.exists(SPENT) else 0.0
        self._began = self._noted = clock.now()

    @property
    def deadline(self) -> float:
        """When it is over, seconds since the epoch."""
        return self._began + self._seconds - self._before

    @property
    def left(self) -> float:
        """Seconds left, 0 or more."""
        return max(0.0, self.deadline - clock.now())

    def note(self, now: bool = False) -> None:
        """Notes what was used, if it is time to."""
        if now or clock.now() >= self._noted + NOTED_SECONDS:
            self._noted = clock.now()
            self._run.put_json(SPENT, self._before + self._noted - self._began)
