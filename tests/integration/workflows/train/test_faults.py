"""A killed worker, a killed machine and an absent store cost at most the epoch in flight."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import psutil
import pytest
from kills import kill_driver, task_processes
from s3_faults import Request, faulty
from s3_server import S3Server

from fmnist import cli
from fmnist.runs import CHECKPOINTS, HISTORY, RunFolder
from fmnist.storage import FolderStore, S3Store
from jobs import OWN_RAY, Job, fmnist, leaving_ray

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(scope="module")
def undisturbed(ray_cluster: str, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The history that a run of the settings below has if nothing happens to it."""
    artifacts = tmp_path_factory.mktemp("undisturbed")
    with fmnist("train", *settings(small_data, str(artifacts))) as job:
        assert job.wait() == 0, job.output
    return history(RunFolder(FolderStore(artifacts), "run"))


def settings(data: Path, artifacts: str, workers: int = 1) -> list[str]:
    return [
        *("--data", str(data), "--artifacts", artifacts, "--run-id", "run"),
        # Many after the third: a test that a busy machine holds up still finds the training at work.
        *("--epochs", "12", "--batch-size", "16", "--workers", str(workers), "--cpus-per-worker", "1"),
    ]


def history(run: RunFolder) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(run.get_bytes(HISTORY)))


def assert_like(run: RunFolder, undisturbed: pd.DataFrame) -> None:
    """The run has finished, with each epoch once, and went the way that an undisturbed one goes."""
    assert run.verify() == []
    actual = history(run)
    assert list(actual["epoch"]) == list(undisturbed["epoch"])
    for column in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert actual[column].tolist() == pytest.approx(undisturbed[column].tolist(), rel=1e-5), column


def kill_worker(job: Job | None = None) -> None:
    """Kills the youngest worker of Ray Train on this test process' cluster, or on the one that a job started."""
    if job:
        family = psutil.Process(job.process.pid).children(recursive=True)
        workers = [process for process in family if "ray::RayTrainWorker" in str(process.cmdline())]
    else:
        workers = task_processes("RayTrainWorker")
    max(workers, key=psutil.Process.create_time).kill()


def resumptions(lines: list[str]) -> list[int]:
    """The epochs after which workers say that they have resumed."""
    return [int(match[1]) for match in map(re.compile(r"resumed after epoch (\d+)").search, lines) if match]


def test_killed_worker_store_that_is_away_and_killed_machine_cost_no_reported_epoch(
    small_data: Path, s3_server: S3Server, s3_bucket: str, undisturbed: pd.DataFrame
) -> None:
    arguments = settings(small_data, f"s3://{s3_bucket}/artifacts")
    with fmnist("train", *arguments, environment=OWN_RAY) as job:
        job.wait_for(r"^epoch +2/")
        with s3_server.away(attempts=6):
            pass
        job.wait_for(r"^epoch +4/")
        kill_worker(job)
        # Ray Train restarts its workers once: the store's absence costs no restart.
        job.wait_for(r"^resumed after epoch")
        job.wait_for(r"^epoch +6/")
        job.kill_with_cluster()
    (resumed,) = resumptions(job.lines)
    assert resumed >= 3
    run = RunFolder(S3Store(s3_bucket, "artifacts"), "run")
    assert run.state() == "unfinished"

    with leaving_ray("train", *arguments) as job:
        assert job.wait() == 0, job.output

    assert resumptions(job.lines)[0] >= 5
    assert not [line for line in job.lines if re.match(r"epoch +[1-5]/", line)]
    assert_like(run, undisturbed)
    # Best and last are kept, or one that is both.
    assert 1 <= len({path.split("/")[1] for path in run.files() if path.startswith(f"{CHECKPOINTS}/")}) <= 2


@pytest.mark.slow
def test_run_that_lost_worker_and_machine_resumes_with_the_same_command_and_with_no_other(
    small_data: Path, tmp_path: Path, undisturbed: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(FolderStore(tmp_path), "run")
    with fmnist("train", *settings(small_data, str(tmp_path), workers=2), "--max-failures", "0") as job:
        job.wait_for(r"^epoch +2/")
        kill_worker()
        assert job.wait() == 1, job.output
    assert "Traceback" not in job.output
    assert re.match(
        r"fmnist: run run: worker [01] was lost \(.+\), once more than max_failures 0 allows; the epochs that were",
        job.lines[-1],
    )
    assert run.state() == "unfinished"

    with fmnist("train", *settings(small_data, str(tmp_path)), environment=OWN_RAY) as job:
        job.wait_for(r"^epoch +5/")
        job.kill_with_cluster()
    assert run.state() == "unfinished"

    assert cli.main(["train", *settings(small_data, str(tmp_path)), "--learning-rate", "0.5"]) == 2
    error = capsys.readouterr().err
    assert "run run" in error and "started with learning_rate 0.001, found 0.5" in error

    # All results are there but the manifest when it dies again.
    with leaving_ray("train", *settings(small_data, str(tmp_path)), environment={"DIE_BEFORE_MANIFEST": "run"}) as job:
        assert job.wait() == 1 and run.state() == "unfinished", job.output
    # The epochs before the machine was lost were not computed again.
    assert not [line for line in job.lines if re.match(r"epoch +[1-4]/", line)]
    # It has each epoch's measured seconds: no epoch trained again is the same to the last digit.
    trained = run.get_bytes(HISTORY)

    with leaving_ray("train", *settings(small_data, str(tmp_path))) as job:
        assert job.wait() == 0, job.output

    assert "finished in" in job.lines[-1], job.output
    assert run.get_bytes(HISTORY) == trained
    assert_like(run, undisturbed)


# tests/unit/distributed/test_checkpoints.py and test_lanes.py have both without Ray.
@pytest.mark.slow
def test_flipped_byte_and_other_processors_change_no_number(
    small_data: Path, tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    run = RunFolder(FolderStore(tmp_path), "run")
    with fmnist("train", *settings(small_data, str(tmp_path))) as job:
        job.wait_for(r"^epoch +3/")
        kill_driver(job, "RayTrainWorker")
    record = run.get_json(f"{CHECKPOINTS}/checkpoint_manager_snapshot.json")
    newest = tmp_path / "run" / CHECKPOINTS / record["latest_checkpoint_result"]["checkpoint_dir_name"]
    content = bytearray((newest / "variables.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (newest / "variables.npz").write_bytes(content)

    with fmnist("train", *settings(small_data, str(tmp_path)), "--cpus-per-worker", "2") as job:
        assert job.wait() == 0, job.output

    assert f"{newest.name}: damaged checkpoint, not used" in job.output
    assert run.verify() == []
    for column in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert history(run)[column].tolist() == undisturbed[column].tolist(), column


# tests/integration/storage/test_arrow.py has the error of the upload.
@pytest.mark.slow
def test_checkpoint_that_cannot_be_stored_ends_the_run_in_a_line_and_nothing_reported_is_lost(
    tiny_data: Path, tmp_path: Path
) -> None:
    arguments = ["--data", str(tiny_data), "--artifacts", str(tmp_path), "--run-id", "run", "--epochs", "2"]
    in_the_way = tmp_path / "run" / CHECKPOINTS / "epoch-0002"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file, where the folder of the second checkpoint is to be")

    with fmnist("train", *arguments) as job:
        assert job.wait() == 1, job.output
    assert re.search(r"^fmnist: run run: .*epoch-0002/.*: cannot be written: ", job.lines[-1]), job.output
    assert "Traceback" not in job.output and not [line for line in job.lines if line.startswith("epoch 2/")]
    assert RunFolder(FolderStore(tmp_path), "run").exists(f"{CHECKPOINTS}/epoch-0001/variables.npz")


# tests/unit/distributed/test_workers.py and tests/integration/storage/test_s3_faults.py have the parts.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (400, "ExpiredToken", "cannot be .+: access denied, the credentials have expired"),
        (507, "QuotaExceeded", "cannot be written .+: the bucket's quota is used up"),
    ],
)
def test_store_that_refuses_from_the_middle_of_a_training_on_costs_at_most_the_last_epoch_and_no_restart(
    status: int, code: str, reason: str, small_data: Path, s3_server: S3Server, s3_bucket: str
) -> None:
    refused: list[tuple[int, str]] = []

    def refusal(request: Request) -> tuple[int, str] | None:
        return refused[0] if refused and (code == "ExpiredToken" or request.method == "PUT") else None

    arguments = settings(small_data, f"s3://{s3_bucket}/artifacts")
    with (
        faulty(s3_server, refusal) as endpoint,
        fmnist("train", *arguments, environment={**OWN_RAY, "AWS_ENDPOINT_URL": endpoint}) as job,
    ):
        job.wait_for(r"^epoch +2/")
        refused.append((status, code))
        assert job.wait() == 1, job.output
    assert re.search(f"^fmnist: run run: .*{reason}$", job.lines[-1]), job.output
    assert "Traceback" not in job.output and resumptions(job.lines) == []
    reported = [line for line in job.lines if re.match(r"epoch +\d+/", line)]

    with fmnist("train", *arguments, environment=OWN_RAY) as job:
        assert job.wait() == 0, job.output
    # The last one may not have been in Ray Train's snapshot yet.
    assert resumptions(job.lines)[0] >= len(reported) - 1
    assert RunFolder(S3Store(s3_bucket, "artifacts"), "run").verify() == []


def test_unreachable_store_is_told_before_any_training(small_data: Path) -> None:
    environment = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "never-to-be-printed",
    }
    with fmnist("train", *settings(small_data, "s3://bucket/artifacts"), environment=environment) as job:
        assert job.wait() == 2

    assert len(job.lines) == 1, job.output
    assert "s3://bucket/artifacts" in job.output and "127.0.0.1:9" in job.output
    assert "never-to-be-printed" not in job.output
