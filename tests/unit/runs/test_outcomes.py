"""Outcomes of the parts of a job in the run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from fmnist.errors import IntegrityError
from fmnist.runs import RunFolder
from fmnist.runs.outcomes import Probabilities, read_outcome, read_sound, write_outcome
from fmnist.storage import FolderStore
from fmnist.training.history import Row


@dataclass(frozen=True, eq=False)
class Part:
    """The outcome of an invented part of a job."""

    kind: Literal["one", "other"]
    rows: tuple[Row, ...]
    devices: tuple[str, ...]
    probabilities: Probabilities


PART = Part(
    "one",
    ({"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-17}),
    ("CPU",),
    np.linspace(0, 1, 30, dtype=np.float32).reshape(3, 10),
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(FolderStore(tmp_path), "run")


def test_outcome_is_read_as_it_was_written(run: RunFolder) -> None:
    assert read_outcome(run, "parts/1", Part) is None
    write_outcome(run, "parts/1", PART)

    found = read_outcome(run, "parts/1", Part)

    assert found is not None
    assert (found.kind, found.rows, found.devices) == (PART.kind, PART.rows, PART.devices)
    # An epoch stays a whole number, as history.csv has it.
    assert [type(row["epoch"]) for row in found.rows] == [int, int]
    assert found.probabilities.dtype == np.float32
    np.testing.assert_array_equal(found.probabilities, PART.probabilities)


def test_outcome_without_its_last_file_is_none(run: RunFolder) -> None:
    write_outcome(run, "parts/1", PART)
    run.delete("parts/1/outcome.json")

    assert read_outcome(run, "parts/1", Part) is None


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("kind", "third", "kind: input should be 'one' or 'other'"),
        ("rows", [1], r"rows\.0: expected names with values"),
    ],
)
def test_damaged_outcome_names_the_file_and_the_field(run: RunFolder, name: str, value: object, problem: str) -> None:
    write_outcome(run, "parts/1", PART)
    values = json.loads(run.get_bytes("parts/1/outcome.json"))
    run.put_json("parts/1/outcome.json", {**values, name: value})

    with pytest.raises(IntegrityError, match=rf"parts/1/outcome\.json: damaged, {problem}"):
        read_outcome(run, "parts/1", Part)


@pytest.mark.parametrize("name", ["outcome.json", "probabilities.npy"])
def test_altered_outcome_is_computed_again_after_a_line(run: RunFolder, tmp_path: Path, name: str) -> None:
    write_outcome(run, "parts/1", PART)
    file = tmp_path / "run/parts/1" / name
    content = file.read_bytes()
    file.write_bytes(content.replace(b"0.30000000000000004", b"0.3") if name.endswith("json") else content[:-1] + b"\7")
    lines: list[str] = []

    assert read_sound(run, "parts/1", Part, lines.append) is None
    assert len(lines) == 1 and "damaged" in lines[0]


def test_outcome_of_an_earlier_version_has_no_sums(run: RunFolder) -> None:
    write_outcome(run, "parts/1", PART)
    values = json.loads(run.get_bytes("parts/1/outcome.json"))
    del values["sums"]
    run.put_json("parts/1/outcome.json", values)

    assert read_outcome(run, "parts/1", Part) is not None
