"""Names and texts of a search space are data in every output, whatever they are."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pandas as pd
import pytest
from fuzzing import examples
from hypothesis import example, given
from hypothesis import strategies as st
from pages import Page, train_report
from PIL import Image

from fmnist.report.page import escaped, spared_page
from fmnist.runs import RunFolder
from fmnist.storage import FolderStore
from fmnist.workflows.tune.page import _trial_rows
from fmnist.workflows.tune.plots import tune_plots
from fmnist.workflows.tune.records import TrialRecord, trials_table

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20) | st.sampled_from(
    [
        r"a$\frac",
        "$x$",
        "=cmd()",
        "@a",
        "+1",
        "<script>alert(1)</script>",
        "\x1b[31m",
        "a\nb",
        "|",
        "`",
        "\u202e",
        "{x}",
        "%s",
    ]
)


def records(name: str, value: str) -> list[TrialRecord]:
    rows = tuple({"epoch": float(e), "val_accuracy": 0.8, "val_loss": 0.5, "seconds": 1.0} for e in (1, 2))
    return [
        TrialRecord(number, 0, {name: f"{value}{number}" if number > 1 else value}, "finished", rows)
        for number in (1, 2)
    ]


@examples(12)
@given(name=TEXTS, value=TEXTS)
@example(name=r"a$\frac", value="$x$")
def test_figures_are_drawn_whatever_the_names_are(name: str, value: str) -> None:
    for png in tune_plots(records(name, value), 1).values():
        Image.open(io.BytesIO(png)).verify()


@examples(60)
@given(name=TEXTS, value=TEXTS)
def test_table_has_no_cell_that_a_spreadsheet_takes_for_a_formula(name: str, value: str, tmp_path: Path) -> None:
    run = RunFolder(FolderStore(tmp_path), "one")
    run.put_csv("trials.csv", trials_table(records(name, value)))
    header, *rows = csv.reader(io.StringIO(run.get_bytes("trials.csv").decode(), newline=""))
    assert len(rows) == 2 and {len(header)} == {len(row) for row in rows}
    assert not [cell for cell in (*header, *rows[0], *rows[1]) if re.match(r"[=+@\t\r-]", cell)]
    assert header[-1].removeprefix("'") == name.removeprefix("'") or name in header[-1]


@examples(60)
@given(text=TEXTS)
def test_markdown_has_it_as_text_in_one_line(text: str) -> None:
    shown = escaped(text)
    assert shown.isprintable() or not re.search(r"[\x00-\x1f\x7f]", shown)
    assert "<" not in shown and not re.search(r"(?<!\\)(\\\\)*[|$`*]", shown)


def test_page_that_cannot_be_written_is_a_line_and_a_page_that_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    @spared_page
    def render(report: object) -> str:
        raise KeyError("a <b>\n\x1b[31m name")

    page = Page(render(train_report()))
    assert "the page was not written: KeyError" in page.text and "b" not in page.open
    assert capsys.readouterr().err.startswith("fmnist: the page was not written: KeyError")


def test_rows_of_the_page_have_the_names_as_they_are() -> None:
    columns, rows = _trial_rows(records("<b>", "=x"), 1)
    assert columns[-1] == "<b>" and rows[0][-1] == "=x"
    assert isinstance(trials_table(records("<b>", "=x")), pd.DataFrame)
