"""The metrics of a cross-validation in its run folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from fmnist.runs.documents import parse_json
from fmnist.workflows.crossval.results import CrossvalMetrics

PUBLISHED = Path(__file__).parents[4] / "docs/results/crossval-lenet5/metrics.json"


def test_metrics_of_a_run_of_0_1_0_are_read_and_written_with_every_key() -> None:
    metrics = parse_json(PUBLISHED.read_bytes(), CrossvalMetrics, "metrics.json")

    assert json.loads(json.dumps(asdict(metrics))) == json.loads(PUBLISHED.read_bytes())
    assert metrics.lines()[0].startswith(f"held-out accuracy {metrics.held_out.accuracy:.4f} +- ")
