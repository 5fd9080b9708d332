"""A resumed run may change all that its settings declare so, and has the numbers of an undisturbed one."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from kills import kill_driver
from pages import train_metrics

from fmnist.runs import METRICS, RunFolder
from fmnist.runs.reproduction import compare_epochs
from fmnist.storage import FolderStore
from fmnist.workflows import JOBS
from jobs import Job, fmnist

pytestmark = [pytest.mark.usefixtures("ray_cluster"), pytest.mark.slow]

# The folder of the run is moved, and named otherwise.
PLACE = {"artifacts", "run_id"}
EVERY = {"wait": True, "track": "tensorboard", "allow_overlap": True, "max_failures": 7}
WORKERS = {"workers": 2, "cpus_per_worker": 1}
# Each job's settings; the line after which its driver is killed; its tasks or actors; what the resumed run changes.
CASES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "train": ("--epochs 20 --patience 0", r"^epoch +1/", "RayTrainWorker", {**EVERY, **WORKERS, "overwrite": True}),
    "tune": (
        "--max-epochs 4 --factor 4 --retrain-epochs 2",
        r"^trial \d+ finished after",
        "SearchTrial",
        {**EVERY, **WORKERS, "skip_finished": True},
    ),
    "crossval": (
        "--folds 3 --epochs 3 --batch-size 16",
        r"^fold \d ended",
        "train_folds",
        {**EVERY, "concurrency": 1, "carry_weights": True, "overwrite": True},
    ),
    "transfer": (
        "--backbone vgg16 --weights none --image-size 32 --epochs 40 --patience 0",
        r"^epoch +1/",
        "RayTrainWorker",
        {**EVERY, **WORKERS, "compare_with": "compared", "skip_finished": True},
    ),
}


def flags(settings: dict[str, Any]) -> list[str]:
    return [
        word
        for name, value in settings.items()
        for word in [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    ]


@pytest.mark.parametrize("job", CASES)
def test_run_that_resumes_with_all_changed_that_may_change_has_the_numbers_of_an_undisturbed_one(
    job: str, tiny_data: Path, tmp_path: Path
) -> None:
    settings, training, task, changed = CASES[job]
    # A command with both is refused.
    other = {"overwrite", "skip_finished"} - changed.keys()
    assert changed.keys() | PLACE | other == JOBS[job].Config.declared("may_change")
    before, moved = FolderStore(tmp_path / "before"), FolderStore(tmp_path / "moved")
    compared = RunFolder(before, "compared")
    compared.put_json(METRICS, asdict(train_metrics()))
    compared.finish("train")
    arguments = [*settings.split(), "--data", str(tiny_data)]

    with Job(
        sys.executable, f"jobs/{job}.py", *arguments, "--artifacts", before.location, "--run-id", "killed"
    ) as killed:
        killed.wait_for(training)
        kill_driver(killed, task)
    assert RunFolder(before, "killed").state() == "unfinished"
    before.root.rename(moved.root)
    (moved.root / "killed").rename(moved.root / "resumed")
    # What a setting adds to the results, the undisturbed run has too.
    adds = flags({name: True for name in ("carry_weights",) if name in changed})
    runs = {"resumed": flags(changed), "undisturbed": adds}
    for run_id, more in runs.items():
        with fmnist(job, *arguments, *more, "--artifacts", moved.location, "--run-id", run_id) as ended:
            assert ended.wait() == 0, ended.output
        assert ended.lines[0].startswith("taking over the run from process ") is (run_id == "resumed"), ended.output

    resumed, undisturbed = (RunFolder(moved, run_id) for run_id in runs)
    assert resumed.verify() == []
    found = compare_epochs(undisturbed, resumed)
    assert found.first is None and found.epochs > 2
