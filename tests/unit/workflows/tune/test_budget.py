"""The time of a search, by a clock of the test: no epoch begins after it, a search that resumes has what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fmnist import clock
from fmnist.config import SettingError
from fmnist.distributed.checkpoints import TrainingState
from fmnist.runs import RunFolder
from fmnist.storage import FolderStore
from fmnist.training.history import History
from fmnist.workflows.tune.budget import NOTED_SECONDS, TimeBudget
from fmnist.workflows.tune.config import TuneConfig, seconds_of
from fmnist.workflows.tune.trial import OBJECTIVE, OUT_OF_TIME, SearchTask, SearchTrial, trial_state


class FakeClock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(clock, "now", fake)
    return fake


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(FolderStore(tmp_path), "run")


def test_a_search_that_resumes_has_what_is_left_whatever_time_lies_between(run: RunFolder, fake: FakeClock) -> None:
    budget = TimeBudget(run, 100)
    fake.time += 35
    budget.note()
    # A process that is killed loses what it has not noted.
    fake.time += NOTED_SECONDS - 1
    budget.note()
    fake.time += 86_400

    resumed = TimeBudget(run, 100)
    assert (resumed.left, resumed.deadline) == (65, fake.time + 65)
    fake.time += 70
    assert resumed.left == 0
    resumed.note(now=True)
    assert TimeBudget(run, 100).left == 0


def row(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "val_accuracy": epoch / 10, "val_loss": 1 / epoch, "seconds": 1.0}


class Trained(SearchTrial):
    """A trial whose epochs take ten seconds of the clock and no training."""

    def _begin(self, known: History) -> Any:
        for epoch in range(known.epochs + 1, 100):
            clock.now.time += 10  # type: ignore[attr-defined]
            known = known.add(row(epoch))
            yield known


def trial(run: RunFolder, deadline: float | None) -> SearchTrial:
    trial = object.__new__(Trained)
    trial.task = SearchTask(TuneConfig(patience=0), run, None, None, deadline)
    trial.reset_config({"trial": 1, "point": {"values": {"units": 3}}})
    return trial


def test_no_epoch_begins_after_the_time_and_one_that_has_begun_counts(run: RunFolder, fake: FakeClock) -> None:
    limited = trial(run, fake.time + 25)

    results = [limited._step(done) for done in range(4)]

    assert [len(result["rows"]) for result in results] == [1, 2, 3, 3]
    assert [result["done"] for result in results] == [False, False, False, True]
    assert results[3][OUT_OF_TIME] and results[3][OBJECTIVE] == 0.3


def test_a_search_that_resumes_after_its_time_still_reports_what_it_has_trained(
    run: RunFolder, fake: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = History((row(1), row(2)))
    monkeypatch.setattr(TrainingState, "history", lambda state, note: known)
    late = trial(run, fake.time - 1)

    results = [late._step(done) for done in range(3)]

    assert [len(result["rows"]) for result in results] == [1, 2, 2]
    assert [result.get(OUT_OF_TIME, False) for result in results] == [False, False, True]


def test_a_trial_without_an_epoch_begins_none_after_the_time(run: RunFolder, fake: FakeClock) -> None:
    result = trial(run, fake.time)._step(0)

    assert (result["rows"], result[OBJECTIVE], result[OUT_OF_TIME]) == ((), 0.0, True)
    assert trial_state(run, 1, {"units": 3}).history().epochs == 0


@pytest.mark.parametrize(("text", "seconds"), [("45s", 45), ("30m", 1800), ("1h30m", 5400), ("2h5s", 7205)])
def test_times_are_written_with_their_units(text: str, seconds: int) -> None:
    assert seconds_of(TuneConfig(time_budget=text).time_budget) == seconds


@pytest.mark.parametrize("text", ["", "30", "0m", "30 m", "m", "5m1h", "1.5h", "-5m", "30m\n"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(SettingError, match=r"(?s)time_budget: found .*, expected a time such as 45s, 30m or 1h30m"):
        TuneConfig(time_budget=text)
