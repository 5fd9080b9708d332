"""What a pipeline reads of ``metrics.json``, as version 0.1.0 wrote it for the published results."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from stage_metrics import STAGES

from fmnist.errors import IntegrityError
from fmnist.runs.documents import parse_json
from fmnist.workflows.pipeline import config
from fmnist.workflows.pipeline.records import PipelineMetrics, StageMetrics

RESULTS = Path(__file__).resolve().parents[4] / "docs" / "results"


def stored(path: str) -> StageMetrics:
    return parse_json((RESULTS / path).read_bytes(), StageMetrics, path)


def test_a_search_is_read_with_its_test_scores() -> None:
    run = stored("tune-extended/metrics.json")

    assert run.search is not None and (run.search.space, run.search.trials, run.search.epochs) == ("extended", 17, 92)
    assert run.test_scores is not None and round(run.test_scores.accuracy, 4) == 0.9373
    assert round(run.val_accuracy, 4) == 0.9445 and run.best_epoch == 19


def test_a_cross_validation_is_read_with_held_out_and_carried_scores() -> None:
    run = stored("crossval-lenet5/metrics.json")

    assert run.test_scores is None and run.folds == 10
    assert run.held_out is not None and round(run.held_out.accuracy_sd, 4) == 0.0028
    assert run.carried is not None and len(run.carried.accuracy) == 10 and run.carried.epochs == 141


def test_a_transfer_run_is_read_with_the_scores_of_its_last_candidate() -> None:
    written = STAGES["transfer-vgg16-sound"]
    run = parse_json(json.dumps(asdict(written) | {"phase": "fine-tuned"}).encode(), StageMetrics, "metrics.json")

    assert run == written
    assert run.last is not None and run.last.phase == "fine-tuned"
    assert run.val_accuracy == run.last.val_accuracy == 0.9347 and run.test_scores == run.last.test


def test_a_pipelines_own_metrics_are_read_with_all_stages() -> None:
    metrics = parse_json((RESULTS / "laptop" / "metrics.json").read_bytes(), PipelineMetrics, "laptop")

    assert tuple(stage.name for stage in metrics.stages) == config.STAGES
    assert sum(stage.status == "finished" for stage in metrics.stages) == 7


def test_metrics_without_parameters_are_damaged() -> None:
    with pytest.raises(IntegrityError, match=r"^run/metrics.json: damaged, .*field required"):
        parse_json(b'{"job": "train"}', StageMetrics, "run/metrics.json")
