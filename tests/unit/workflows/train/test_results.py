"""What a training writes at its end, without the training: every file is in the manifest."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
from pages import train_report

from fmnist.distributed.logs import Logs
from fmnist.distributed.session import Figures, StartedRun
from fmnist.runs import CARD, HISTORY, MODEL, REPORT, RunFolder
from fmnist.runs.results import Results
from fmnist.storage import FolderStore
from fmnist.workflows.train.config import TrainConfig
from fmnist.workflows.train.page import render
from fmnist.workflows.train.results import finish


def test_run_with_a_model_has_its_card_in_the_manifest(tmp_path: Path) -> None:
    report = train_report()
    run = RunFolder(FolderStore(tmp_path), report.run_id)
    data: Any = SimpleNamespace(summary=report.data)
    started = StartedRun(run, data, report.environment, Future[Figures](), 0.0, lambda line: None, Logs(run, 0.0))
    history = pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.4], "val_accuracy": [0.9082, 0.9051]})
    results = Results(
        metrics=report.metrics,
        environment=report.environment,
        page="",
        plots=report.plots,
        tables={HISTORY: history},
        files={MODEL: b"model"},
    )

    finish(started, results, report.metrics, report.title, TrainConfig(), render)

    assert {CARD, MODEL, REPORT} <= {file.path for file in run.manifest().files}
    card = run.get_bytes(CARD).decode()
    assert card.startswith("---\nlicense: mit\n") and f"Run `{report.run_id}` of fmnist" in card
    assert run.verify() == []
