"""The end of every job: what its results need is written before Ray is left, and nothing that follows costs the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist.runs import RunFolder
from fmnist.storage import FolderStore
from jobs import LEAST, OWN_RAY, command, leaving_ray

pytestmark = pytest.mark.usefixtures("ray_cluster")


class Run:
    """A job on few images, in a process where letting go of references while Ray ends is fatal."""

    def __init__(self, job: str, data: Path, artifacts: Path) -> None:
        place = ["--data", str(data), "--artifacts", str(artifacts), "--run-id", "run"]
        self.arguments = [job, *LEAST[job].split(), *place]
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


@pytest.fixture(scope="module", params=LEAST)
def finished(
    request: pytest.FixtureRequest, ray_cluster: str, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A finished run of each job."""
    run = Run(request.param, tiny_data, tmp_path_factory.mktemp("finished"))
    code, output = run.start()
    assert code == 0, output
    return run


@pytest.mark.slow
@pytest.mark.parametrize("end", ["slow", "fails", "killed"])
def test_no_end_of_ray_costs_a_finished_run(finished: Run, end: str) -> None:
    # Without it, the job does all but train.
    finished.folder.delete("manifest.json")

    code, output = finished.start({"END_OF_RAY": end, **OWN_RAY})

    assert code == 0, output
    assert finished.folder.verify() == []
    last = "fmnist: Ray did not end cleanly: a shutdown that fails" if end == "fails" else ""
    assert "finished in" in output and output.endswith(last), output


@pytest.mark.slow
def test_finished_run_is_finished_though_ray_hangs(tiny_data: Path, tmp_path: Path) -> None:
    run = Run("train", tiny_data, tmp_path)

    code, output = run.start({"END_OF_RAY": "hangs", **OWN_RAY})

    assert code == 0, output
    assert output.endswith("fmnist: Ray did not end within 2 s; this process ends without it"), output
    assert run.folder.verify() == []


@pytest.mark.slow
def test_job_that_fails_says_why_though_ray_hangs(tiny_data: Path, tmp_path: Path) -> None:
    run = Run("train", tiny_data, tmp_path)
    run.arguments += ["--workers", "99"]

    code, output = run.start({"END_OF_RAY": "hangs", **OWN_RAY})

    assert code == 2, output
    why, gives_up = output.splitlines()[-2:]
    assert why.startswith("fmnist: workers x cpus_per_worker: found 99 x 1, expected at most"), output
    assert gives_up.startswith("fmnist: Ray did not end within 2 s"), output


def test_job_that_fails_says_why_though_ray_is_left(tiny_data: Path, tmp_path: Path) -> None:
    run = Run("train", tiny_data, tmp_path)
    run.arguments += ["--workers", "99"]

    code, output = run.start(OWN_RAY)

    assert code == 2, output
    assert output.splitlines()[-1].startswith("fmnist: workers x cpus_per_worker: found 99 x 1, expected at most"), (
        output
    )
    assert not list(tmp_path.rglob("*.yaml"))
