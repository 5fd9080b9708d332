"""The end of every job: what its results need is written before Ray is left, and nothing that follows costs the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist.runs import RunFolder
from fmnist.storage import FolderStore
from jobs import OWN_RAY, command, leaving_ray

pytestmark = pytest.mark.usefixtures("ray_cluster")

# The least that each job can do.
JOBS = {
    "train": ["--epochs", "1"],
    "tune": ["--max-epochs", "1", "--retrain-epochs", "1"],
    "crossval": ["--folds", "2", "--epochs", "1"],
    "transfer": ["--backbone", "vgg16", "--weights", "none", "--image-size", "32", "--epochs", "1"],
    "pipeline": ["--profile", "smoke", "--stages", "crossval-lenet5"],
}


class Run:
    """A job on few images, in a process where letting go of references while Ray ends is fatal."""

    def __init__(self, job: str, data: Path, artifacts: Path) -> None:
        self.arguments = [job, *JOBS[job], "--data", str(data), "--artifacts", str(artifacts), "--run-id", "run"]
        self.folder = RunFolder(FolderStore(artifacts), "run")

    def start(self, environment: dict[str, str] | None = None) -> tuple[int, str]:
        with leaving_ray(*self.arguments, environment=environment) as job:
            return job.wait(), job.output


# The tests of the jobs' kills resume them in this way, and that of train ends before its manifest, too.
@pytest.mark.slow
@pytest.mark.parametrize("job", ["train", "tune", "crossval", "transfer"])
def test_run_without_a_manifest_is_finished_without_training_and_before_ray_is_left(
    job: str, tiny_data: Path, tmp_path: Path
) -> None:
    run = Run(job, tiny_data, tmp_path)
    code, output = run.start({"DIE_BEFORE_MANIFEST": "run"})
    assert code == 1 and run.folder.state() == "unfinished", output
    # It has each epoch's measured seconds: no epoch trained again is the same to the last digit.
    trained = run.folder.get_bytes("history.csv")

    code, output = run.start()

    assert code == 0, output
    assert "finished in" in output.splitlines()[-1], output
    assert run.folder.verify() == []
    assert run.folder.get_bytes("history.csv") == trained


@pytest.mark.slow
def test_pipeline_is_finished_before_ray_is_left(tiny_data: Path, tmp_path: Path) -> None:
    run = Run("pipeline", tiny_data, tmp_path)

    code, output = run.start()

    assert code == 0, output
    assert "finished in" in output.splitlines()[-1], output
    assert run.folder.verify() == []

    run.folder.delete("manifest.json")
    again = command(*run.arguments)

    assert again.returncode == 0, again.stderr
    assert "1 stages, 1 of them finished before" in again.stdout
    assert run.folder.verify() == []


def test_job_that_fails_says_why_though_ray_is_left(tiny_data: Path, tmp_path: Path) -> None:
    run = Run("train", tiny_data, tmp_path)
    run.arguments += ["--workers", "99"]

    code, output = run.start(OWN_RAY)

    assert code == 2, output
    assert output.splitlines()[-1].startswith("fmnist: workers x cpus_per_worker: found 99 x 1, expected at most"), (
        output
    )
    assert not list(tmp_path.rglob("*.yaml"))
