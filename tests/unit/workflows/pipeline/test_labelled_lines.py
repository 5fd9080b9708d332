"""Lines of jobs that run side by side say whose they are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from fmnist.console import labelled, plain_console
from fmnist.training.progress import Progress

ROW = {"epoch": 1, "loss": 1, "accuracy": 0, "val_loss": 1, "val_accuracy": 0, "seconds": 1, "images_per_second": 1}


def test_a_label_stands_before_every_line_of_its_thread_only(capsys: pytest.CaptureFixture[str]) -> None:
    def job(name: str) -> None:
        with labelled(name), Progress("training", 3, "epochs") as progress:
            progress.note("begins")
            progress.epoch(ROW)  # type: ignore[arg-type]

    with ThreadPoolExecutor(2) as beside:
        list(beside.map(job, ["one", "two"]))
    plain_console().print("plain")

    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines) == ["one:", "one:", "plain", "two:", "two:"]
    assert "two: epoch 1/3  loss 1.0000" in "\n".join(lines)


def test_a_label_that_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with labelled("[bold]"):
        plain_console().print("text", markup=False)

    assert capsys.readouterr().out == "[bold]: text\n"
