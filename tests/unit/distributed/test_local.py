"""What a local Ray has of its own, without Ray: its folder, which goes whatever ends the job."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from fmnist.distributed import local
from fmnist.distributed.cluster import _environment

HOLDS = """
import time
from fmnist.distributed.local import own_folder
with own_folder() as folder:
    (folder / "session").mkdir()
    print(folder, flush=True)
    time.sleep(60)
"""


def wait_until_gone(path: Path) -> None:
    deadline = time.monotonic() + 60
    while path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_folder_is_only_this_users_and_goes_with_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    with local.own_folder() as folder:
        assert folder.parent == Path("/tmp") and stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "file").touch()

    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_folder_goes_though_its_process_is_killed(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir()
        process.send_signal(number)

    wait_until_gone(folder)


@pytest.mark.parametrize(("length", "elsewhere"), [(20, False), (90, True)])
def test_folder_is_where_rays_sockets_have_short_enough_paths(
    length: int, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="x" * (length - 14), dir="/tmp") as parent:
        monkeypatch.delenv("RAY_TMPDIR", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", parent)
        with local.own_folder() as folder:
            socket = folder / "session_2026-01-01_00-00-00_123456_1234567" / "sockets" / "plasma_store"

            assert (folder.parent == Path("/tmp")) == elsewhere and len(str(socket)) <= 107


def test_variables_of_other_programs_are_away_for_the_block_and_back_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = {
        "TUNE_RESULT_DIR": "/no",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "soon",
        "RAY_AIR_NEW_OUTPUT": "7",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "never",
    }
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)

    with _environment({"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5", "TMPDIR": "/x"}):
        assert {name: os.environ.get(name) for name in (*theirs, "TMPDIR")} == {
            "TUNE_RESULT_DIR": None,
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": None,
            "RAY_AIR_NEW_OUTPUT": None,
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
            "TMPDIR": "/x",
        }

    assert dict(os.environ) == before


def test_nothing_on_this_machine_is_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "intranet")
    monkeypatch.delenv("NO_PROXY", raising=False)

    assert local.around_proxies() == {"no_proxy": "intranet,127.0.0.1,localhost", "NO_PROXY": "127.0.0.1,localhost"}
