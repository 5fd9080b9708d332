"""The one boundary: which exceptions become a line, at every command, and what a job is spared."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import ray.train
from hypothesis import given
from hypothesis import strategies as st
from library_errors import LINES, SECRET, TRACEBACKS, of_mlflow, of_task

from fmnist import cli
from fmnist.boundary import explained, lasting, signals_as_interrupts, spared
from fmnist.commands import SUMMARIES
from fmnist.errors import DataError, StoreError
from fmnist.workflows import JOBS


@pytest.fixture
def thrower(monkeypatch: pytest.MonkeyPatch):
    """Makes every command throw one error instead of its work."""

    def throw_at(error: BaseException) -> None:
        def throw(*_: object) -> int:
            raise error

        monkeypatch.setattr(cli, "_run_job", throw)
        for name in SUMMARIES:
            monkeypatch.setitem(
                sys.modules, f"fmnist.commands.{name}", type("Module", (), {"run": staticmethod(throw)})
            )

    return throw_at


@pytest.mark.parametrize("error", [*LINES, of_mlflow], ids=lambda error: type(error).__name__)
def test_known_error_is_one_line_at_every_command(
    error: Exception | Callable[[], Exception], thrower, capsys: pytest.CaptureFixture[str]
) -> None:
    thrower(of_mlflow() if error is of_mlflow else error)
    for command in (*JOBS, *SUMMARIES):
        assert cli.main([command]) in (1, 2)
        text = capsys.readouterr().err
        assert text.startswith("fmnist: ") and text.count("\n") == 1 and SECRET not in text


@pytest.mark.parametrize("error", TRACEBACKS, ids=lambda error: type(error).__name__)
def test_error_that_no_line_explains_keeps_its_traceback_at_every_command(error: Exception, thrower) -> None:
    thrower(error)
    for command in (*JOBS, *SUMMARIES):
        with pytest.raises(type(error)):
            cli.main([command])


@given(st.sampled_from([code for code in errno.errorcode if code]), st.none() | st.text(min_size=1))
def test_every_error_of_the_system_is_explained_with_its_file(code: int, path: str | None) -> None:
    known = explained(OSError(code, os.strerror(code), path))

    assert known is not None and known.exit_code == 1
    assert str(known) == (f"{path}: " if path else "") + os.strerror(code)


def test_full_disk_and_own_errors_come_again_but_a_lost_process_does_not() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/runs/a")
    own = StoreError("s3://runs: access denied")

    for error in (full, own):
        for wrapped in (error, of_task(error), ray.train.WorkerGroupError("", {1: ValueError(), 0: of_task(error)})):
            assert lasting(wrapped) is not None
    for error in (ConnectionResetError(errno.ECONNRESET, "reset"), ray.exceptions.WorkerCrashedError(), ValueError()):
        assert lasting(ray.train.WorkerGroupError("", {0: error})) is None


def test_spared_work_that_fails_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with spared("epoch-0001 was not removed"):
        raise OSError(errno.EBUSY, "Device or resource busy", "epoch-0001/x")
    with spared("figure cost was not drawn"):
        raise ValueError("ParseException\nof several lines")

    assert capsys.readouterr().err.splitlines() == [
        "fmnist: epoch-0001 was not removed: epoch-0001/x: Device or resource busy",
        "fmnist: figure cost was not drawn: ParseException",
    ]


def test_control_c_is_not_spared() -> None:
    with pytest.raises(KeyboardInterrupt), spared("nothing"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_interrupts_once_and_is_named(number: signal.Signals, request: pytest.FixtureRequest) -> None:
    before = signal.SIG_DFL
    # It is ignored where the tests were started by `nohup`, and stays so.
    ignored = signal.signal(number, before)
    request.addfinalizer(lambda: signal.signal(number, ignored))
    with signals_as_interrupts() as received:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            signal.pause()
        # Whoever asks again does not break what the first one has begun to end.
        os.kill(os.getpid(), number)

    assert received == [number, number]
    assert signal.getsignal(number) is before


def test_terminated_command_says_so_and_ends_with_128_and_the_signal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def terminate(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    monkeypatch.setattr(cli, "_run_job", terminate)

    assert cli.main(["train"]) == 143
    expected = (
        "fmnist: interrupted by SIGTERM; what is stored is kept, and the same command with its --run-id resumes\n"
    )
    assert capsys.readouterr().err == expected


PRINTS = """
import sys
from fmnist import cli
def job(*_):
    for number in range(5000):
        print(number)
cli._run_job = job
cli._run = cli._run if sys.argv[1] == "train" else lambda *_: job() or 0
sys.exit(cli.main(sys.argv[1:2]))
"""


@pytest.mark.parametrize(
    ("command", "output", "code", "line"),
    [
        ("train", "full", 0, "fmnist: standard output: No space left on device; lines are missing there\n"),
        ("train", "gone", 0, "fmnist: standard output: Broken pipe; lines are missing there\n"),
        ("runs", "full", 1, "fmnist: standard output: No space left on device; lines are missing there\n"),
        ("runs", "gone", 141, ""),
        ("train", "closed", 0, ""),
        ("runs", "closed", 0, ""),
    ],
)
def test_output_that_cannot_be_written_ends_no_job_and_a_command_quietly(
    command: str, output: str, code: int, line: str
) -> None:
    reading, gone = os.pipe()
    os.close(reading)
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [
                "sh",
                "-c",
                'exec "$@" >&-' if output == "closed" else 'exec "$@"',
                "-",
                sys.executable,
                "-c",
                PRINTS,
                command,
            ],
            stdout=full if output == "full" else gone,
            stderr=subprocess.PIPE,
            text=True,
        )
    os.close(gone)

    assert (ended.returncode, ended.stderr) == (code, line)


def test_error_of_a_task_is_what_the_task_ended_with() -> None:
    cause = DataError("images.csv: found 3 columns, expected 785")

    assert explained(of_task(cause)) is cause
    assert lasting(of_task(cause)) is cause
