"""The console while epochs are trained and shards are computed."""

from __future__ import annotations

import io

import pytest
from clock import Clock
from rich.console import Console

from fmnist.training import progress as module
from fmnist.training.progress import Progress


def console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)


def output(progress: Progress) -> str:
    return progress.console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock)
    return clock


def test_epoch_is_a_line() -> None:
    row = {"epoch": 2, "loss": 0.51234, "accuracy": 0.8, "val_loss": 0.4, "val_accuracy": 0.9}
    with Progress("training", 30, "epochs", console=console()) as progress:
        progress.epoch(row | {"seconds": 4.06, "images_per_second": 11_826.4})

    assert output(progress) == (
        "epoch  2/30  loss 0.5123  accuracy 0.8000  val_loss 0.4000  val_accuracy 0.9000  4.1 s  11,826 images/s\n"
    )


def test_log_has_a_line_now_and_then_with_rate_and_time_left(clock: Clock) -> None:
    with Progress("features of vgg16", 10, "shards", images=500, console=console()) as progress:
        progress.resume(2)
        for _ in range(8):
            clock.now += 5
            progress.advance()

    # Shards that were there already count neither for the rate nor for the time.
    assert output(progress).splitlines() == [
        "features of vgg16: 5 of 10 shards, 100 images/s, 25 s left",
        "features of vgg16: 8 of 10 shards, 100 images/s, 10 s left",
    ]


def test_terminal_has_bars_of_the_work_and_its_parts_and_no_log(clock: Clock) -> None:
    with Progress("all folds", 4, "folds", console=console(terminal=True)) as progress:
        progress.advance()
        progress.part("fold 2", 30, 12, "epochs")
        progress.part("fold 3", 30, 1, "epochs")
        progress.end_part("fold 3")
        clock.now += 1000
        progress.log("only for a log")
        progress._bars.refresh()
        shown = " ".join(output(progress).split())

    assert "all folds" in shown and "1/4 folds" in shown
    assert "fold 2" in shown and "12/30 epochs" in shown
    assert "only for a log" not in shown
