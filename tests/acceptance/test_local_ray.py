"""A local Ray of a job: who reaches it, what its logs tell, and what is left of it when the job is terminated."""

from __future__ import annotations

import signal
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from jobs import OWN_RAY, fmnist

SECRETS = {
    "AWS_ACCESS_KEY_ID": "marker-key",
    "AWS_SECRET_ACCESS_KEY": "marker-secret",
    "AWS_SESSION_TOKEN": "marker-session",
    "HF_TOKEN": "marker-hub",
    "http_proxy": "http://user:marker-proxy@127.0.0.1:9",
    "https_proxy": "http://user:marker-proxy@127.0.0.1:9",
}
# What other programs may have set.
THEIRS = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "soon", "TUNE_RESULT_DIR": "/no", "RAY_AUTH_MODE": "disabled"}


def files_with(folder: Path, text: bytes) -> list[str]:
    """The regular files below a folder that have a text; a process may remove some meanwhile."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            try:
                content = path.read_bytes()
            except OSError:
                continue
            if text in content:
                found.append(path.name)
    return found


# Each job's settings, and the line after which it trains for as long as it may.
LONG = {
    "train": ("--epochs 500 --patience 0 --workers 2", r"epoch +2/500"),
    "tune": ("--max-epochs 1 --iterations 1 --retrain-epochs 500 --retrain-patience 0 --workers 2", r"epoch +2/500"),
    "crossval": ("--folds 2 --epochs 500 --patience 0", r"fold 1 epoch"),
    "transfer": (
        "--backbone vgg16 --weights none --image-size 32 --epochs 1 --fine-tune-epochs 500 --patience 0 --workers 2",
        r"epoch +1/500",
    ),
}


@pytest.mark.parametrize(
    "name", [name if name == "train" else pytest.param(name, marks=pytest.mark.slow) for name in LONG]
)
@pytest.mark.usefixtures("ray_cluster")
def test_local_ray_is_reached_from_this_machine_only_logs_no_secret_and_leaves_nothing(
    name: str, tiny_data: Path, tmp_path: Path
) -> None:
    settings, training = LONG[name]
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as temporary:
        environment = {**OWN_RAY, **SECRETS, **THEIRS, "HOME": str(tmp_path), "RAY_TMPDIR": temporary}
        arguments = [name, "--data", str(tiny_data), "--artifacts", str(tmp_path / "runs"), *settings.split()]
        with fmnist(*arguments, environment=environment) as job:
            job.wait_for(training)
            family = [psutil.Process(job.process.pid), *psutil.Process(job.process.pid).children(recursive=True)]
            listeners = {
                connection.laddr.ip
                for process in family
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            }
            # Each would cost a process that has nothing to do on one machine.
            names = " ".join(part for process in family for part in process.cmdline())
            needless = ("PlacementGroupCleaner", "Autoscaling", "dashboard.py", "autoscaler")
            assert not any(one in names for one in needless)
            [folder] = Path(temporary).iterdir()
            told = files_with(folder, b"marker-") + files_with(tmp_path, b"marker-")
            job.process.send_signal(signal.SIGTERM)

            assert job.wait() == 143, job.output
        assert listeners and listeners <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
        assert told == [] and "marker-" not in job.output
        assert job.lines[-1].startswith("fmnist: interrupted by SIGTERM; what is stored is kept"), job.output
        deadline = time.monotonic() + 60
        while any(Path(temporary).iterdir()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(Path(temporary).iterdir())
        assert not (tmp_path / ".ray").exists()
