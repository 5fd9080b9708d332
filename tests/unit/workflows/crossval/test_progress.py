"""The console while folds are trained."""

from __future__ import annotations

import io
import re

import pytest
from clock import Clock
from rich.console import Console

from fmnist.training import progress as progress_module
from fmnist.workflows.crossval.progress import LINE_INTERVAL, FoldEvent, FoldProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module.time, "monotonic", clock)
    return clock


def plain() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=200)


def lines(progress: FoldProgress) -> list[str]:
    return progress.console.file.getvalue().splitlines()


def row(epoch: int, val_accuracy: float = 0.9) -> dict[str, float]:
    return {"epoch": epoch, "val_accuracy": val_accuracy}


def test_fold_that_ends_is_a_line_with_the_mean_so_far_and_the_time_left(clock: Clock) -> None:
    with FoldProgress(4, 30, console=plain()) as progress:
        progress.begin({})
        for fold in (1, 2):
            progress.show(FoldEvent("fresh", fold, 0))
            for epoch in (1, 2, 3, 4):
                clock.now += 5
                progress.show(FoldEvent("fresh", fold, row=row(epoch)))
            progress.show(FoldEvent("fresh", fold, 4, accuracy=0.9 + fold / 100))

    # 5 s an epoch, 4 epochs a fold, 2 folds left.
    assert lines(progress)[-1] == (
        "fold 2 ended after 4 epochs, held-out accuracy 0.9200; 2 of 4, mean 0.9150; about 40 s left"
    )


def test_log_says_now_and_then_how_far_the_running_folds_are(clock: Clock) -> None:
    with FoldProgress(2, 30, console=plain()) as progress:
        progress.begin({})
        progress.show(FoldEvent("fresh", 1, 0))
        progress.show(FoldEvent("fresh", 2, 0))
        for epoch in range(1, 5):
            for fold in (1, 2):
                progress.show(FoldEvent("fresh", fold, row=row(epoch, 0.8 + epoch / 100)))
            clock.now += LINE_INTERVAL / 3

    assert lines(progress) == ["fold 1 epoch 4/30 val_accuracy 0.8400; fold 2 epoch 3/30 val_accuracy 0.8300"]


def test_fold_that_was_started_again_is_counted_and_told() -> None:
    with FoldProgress(2, 30, console=plain()) as progress:
        progress.begin({})
        progress.show(FoldEvent("fresh", 1, 0))
        progress.show(FoldEvent("fresh", 1, row=row(1)))
        progress.show(FoldEvent("fresh", 1, 1))

    assert progress.restarts == 1
    assert lines(progress) == ["fold 1 was started again after epoch 1"]


def test_resumed_run_counts_what_was_there(clock: Clock) -> None:
    with FoldProgress(3, 30, carried=True, console=plain()) as progress:
        progress.begin({("fresh", 1): 0.9, ("carried", 1): 0.95})
        progress.show(FoldEvent("fresh", 2, 7))
        clock.now += 10
        progress.show(FoldEvent("fresh", 2, 8, accuracy=0.92))
        progress.show(FoldEvent("carried", 2, 8, accuracy=0.99))

    assert lines(progress) == [
        "resumed: 2 of 6 folds were there already",
        "fold 2 resumed after epoch 7",
        "fold 2 ended after 8 epochs, held-out accuracy 0.9200; 2 of 3, mean 0.9100; about 30 s left",
        "carried-weights fold 2 ended after 8 epochs, held-out accuracy 0.9900; 2 of 3; about 10 s left",
    ]
    assert progress.restarts == 0


def test_news_that_comes_late_or_twice_changes_nothing() -> None:
    with FoldProgress(2, 30, console=plain()) as progress:
        progress.begin({})
        progress.show(FoldEvent("fresh", 1, 0))
        progress.show(FoldEvent("fresh", 1, 3, accuracy=0.9))
        told = lines(progress)
        progress.show(FoldEvent("fresh", 1, row=row(3)))
        progress.show(FoldEvent("fresh", 1, 3))
        progress.show(FoldEvent("fresh", 1, 3, accuracy=0.9))

    assert lines(progress) == told and len(told) == 1


def test_terminal_has_a_bar_for_each_running_fold_and_one_for_all() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with FoldProgress(4, 30, console=console) as progress:
        progress.begin({("fresh", 1): 0.9})
        progress.show(FoldEvent("fresh", 2, 0))
        progress.show(FoldEvent("fresh", 3, 0))
        progress.show(FoldEvent("fresh", 3, row=row(12, 0.9123)))
        progress._bars.refresh()
        shown = re.split(r"\x1b\[\d*[A-Z]|\n|\r", console.file.getvalue())
        picture = [" ".join(line.split()) for line in shown if "folds" in line or "epochs" in line][-3:]

    assert picture[0].startswith("all folds") and "1/4 folds" in picture[0]
    assert picture[1].startswith("fold 2") and "0/30 epochs" in picture[1]
    assert picture[2].startswith("fold 3") and "12/30 epochs, val_accuracy 0.9123" in picture[2]


def test_folds_that_were_there_already_are_none_that_run() -> None:
    progress = FoldProgress(3, 5, console=plain())
    with progress:
        progress.begin({("fresh", 1): 0.9})
        assert not progress.has_begun
        progress.show(FoldEvent("fresh", 2))
        assert progress.has_begun
        progress.show(FoldEvent("fresh", 2, 5, accuracy=0.9))
        assert not progress.has_begun
