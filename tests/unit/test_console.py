"""How lines and times are written for people."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist.console import PlainConsole, duration, rounded
from fmnist.training.progress import Progress


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (185.4, "3 min 05 s"), (3599.9, "1 h 00 min"), (7800, "2 h 10 min")],
)
def test_what_something_took(seconds: float, written: str) -> None:
    assert duration(seconds) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.1, "1 s"), (89.9, "90 s"), (90.1, "2 min"), (5280, "88 min"), (5430, "1 h 30 min"), (7500, "2 h 05 min")],
)
def test_about_how_long_the_rest_may_take(seconds: float, written: str) -> None:
    assert rounded(seconds) == written


def test_file_has_plain_lines_and_no_bars_whatever_force_color_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with (tmp_path / "log").open("w") as file:
        console = PlainConsole(highlight=False, soft_wrap=True, file=file)
        with Progress("training", 3, "epochs", console=console) as progress:
            progress.note("[bold]a line[/]")

    assert (tmp_path / "log").read_text() == "[bold]a line[/]\n"
