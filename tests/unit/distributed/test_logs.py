"""The logs of a job in its run folder."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from pathlib import Path

import pytest

from fmnist.boundary import say
from fmnist.console import console, heard
from fmnist.distributed import logs as module
from fmnist.distributed.logs import LARGEST, LONGEST_LINE, Log, Logs
from fmnist.errors import TrainingError
from fmnist.runs import RunFolder
from fmnist.runs.lease import acquire
from fmnist.storage import FolderStore

FOLDER = "logs/1970-01-01T00-00-00Z"


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """No workers: the driver's log has nothing to do with them."""
    monkeypatch.setattr(module, "UNDER_WAY", 0.0)
    monkeypatch.setattr(module.ray, "get_runtime_context", lambda: None)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(FolderStore(tmp_path), "one")


def texts(content: bytes) -> list[str]:
    """The lines of a log without their times."""
    return [line.partition(" ")[2] for line in content.decode().splitlines()]


def test_long_log_keeps_its_beginning_and_its_end_and_says_what_is_left_out() -> None:
    log = Log()
    for hundred in range(0, 100_000, 100):
        log.add("\n".join(f"line {number}" for number in range(hundred, hundred + 100)))

    lines = log.content().decode().splitlines()
    (between,) = [number for number, line in enumerate(lines) if "left out" in line]
    assert 0.95 * LARGEST < len(log.content()) <= LARGEST
    assert lines[0].endswith("line 0") and lines[-1].endswith("line 99999")
    assert lines[between] == f"({100_000 - len(lines) + 1:,} lines are left out here)"


def test_secrets_and_control_characters_are_in_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "MARKER-secret/0")
    log = Log()
    log.add("key MARKER-secret/0, http://user:MARKER@host/x\n\x1b[2K\ud800" + "x" * 10 * LONGEST_LINE)

    content = log.content()
    assert b"MARKER" not in content and b"\x1b" not in content
    assert texts(content)[0] == "key ***, http://***@host/x" and len(content) < 2 * LONGEST_LINE


def test_what_the_console_and_standard_error_get_is_heard_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    with heard(lines.append):
        console.print("epoch 1/3")
        say("not stored")
        try:
            raise ValueError("why")
        except ValueError:
            traceback.print_exc()
    console.print("afterwards")

    assert lines[:2] == ["epoch 1/3", "fmnist: not stored"] and lines[-1] == "ValueError: why"
    captured = capsys.readouterr()
    assert captured.out == "epoch 1/3\nafterwards\n" and captured.err.endswith("ValueError: why\n")
    assert "afterwards" not in lines and not hasattr(sys.stderr, "_listener")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TrainingError("the loss is nan"), "the loss is nan"),
        (KeyboardInterrupt(), "interrupted"),
        (TypeError("a bug"), "TypeError: a bug"),
    ],
)
def test_log_of_a_job_that_fails_ends_with_the_reason(error: BaseException, reason: str, run: RunFolder) -> None:
    logs = Logs(run, 0.0)
    with pytest.raises(type(error)), logs.recorded(), logs.stored():
        console.print("epoch 1/3")
        logs.begin()
        raise error

    lines = texts(run.get_bytes(f"{FOLDER}/driver.log"))
    assert "epoch 1/3" in lines and lines[-1] == reason
    assert set(run.files()) == {f"{FOLDER}/driver.log"}
    assert not [thread for thread in threading.enumerate() if thread.name == "logs"]


def test_job_that_fails_before_its_run_begins_leaves_nothing(run: RunFolder) -> None:
    logs = Logs(run, 0.0)
    with pytest.raises(TrainingError), logs.recorded(), logs.stored():
        raise TrainingError("no such model")

    assert run.files() == {}


def test_logs_of_a_finished_run_are_in_its_manifest_and_stay_as_they_are(run: RunFolder) -> None:
    logs = Logs(run, 0.0)
    with pytest.raises(TrainingError), logs.recorded(), logs.stored():
        logs.begin()
        console.print("epoch 3/3")
        logs.end()
        run.finish("train")
        raise TrainingError("afterwards")

    assert [file.path for file in run.manifest().files] == [f"{FOLDER}/driver.log"]
    assert run.verify() == []


def test_logs_of_a_job_at_work_are_stored_now_and_then(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.01)
    logs = Logs(run, 0.0)
    with logs.stored():
        logs.begin()
        logs.driver.add("epoch 1/3")
        deadline = time.monotonic() + 60
        while not run.exists(f"{FOLDER}/driver.log") and time.monotonic() < deadline:
            logs._ended.wait(0.01)

        assert texts(run.get_bytes(f"{FOLDER}/driver.log"))[-1] == "epoch 1/3"


def test_process_whose_run_was_taken_over_stores_no_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = FolderStore(tmp_path)
    lease = acquire(store, "one", print)
    run = RunFolder(lease.store, "one")
    logs = Logs(run, 0.0)
    with logs.stored():
        logs.begin()
        store.delete("one/lease.json")
        logs.driver.add("epoch 1/3")
        with pytest.raises(Exception, match="this process changes nothing"):
            lease.renew()
        logs.end()
    lease.release()

    assert RunFolder(store, "one").files() == {}
    assert "logs" not in capsys.readouterr().err


def test_store_that_is_away_costs_a_line_and_not_the_job(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(path: str, data: bytes) -> None:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(run, "put_bytes", fail)
    logs = Logs(run, 0.0)
    with logs.stored():
        logs.begin()
        logs.driver.add("epoch 1/3")
        logs.end()

    assert f"fmnist: the logs of run one were not stored: {FOLDER}/driver.log: No space" in capsys.readouterr().err
