"""A rehearsal of benchmarks/time_to_accuracy.py on a few images: every row, its table and its JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks/time_to_accuracy.py"


@pytest.mark.slow
def test_table_and_json_have_each_way_with_its_accuracy_and_time(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    arguments = ["--images", "600", "--recipes", "fast-92", "--seeds", "2", "--lenet5-epochs", "2"]

    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *arguments, "--json", str(found)], capture_output=True, text=True, check=True
    )

    content = json.loads(found.read_text())
    rows = {row["way"]: row for row in content["rows"]}
    assert list(rows) == ["lenet5-keras", "lenet5-keras-no-xla", "fast-92", "fast-92-keras"]
    assert all(way in done.stdout for way in rows)
    assert [one["seed"] for one in rows["fast-92"]["trainings"]] == [0, 1]
    lenet5 = min(rows[way]["trainings"][0]["seconds"] for way in ("lenet5-keras", "lenet5-keras-no-xla"))
    assert content["unit_seconds"] == lenet5 / 2
    for row in rows.values():
        for one in row["trainings"]:
            assert one["seconds"] > 0 and one["compilation_seconds"] > 0
            assert len(one["curve"]) == row["epochs"] and one["accuracy"] == one["curve"][-1] > 0.1
            assert 0.1 < one["mirrored_accuracy"] <= 1
    assert rows["fast-92"]["target"] == 0.92
    assert rows["fast-92"]["command_seconds"] > 0 and 0.1 < rows["fast-92"]["command_accuracy"] <= 1
