"""The command line: ``fmnist COMMAND …``. It calls a job or a command and prints errors as one line.

Nothing heavy is imported before a command's arguments are checked.
"""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence

import fmnist
from fmnist.boundary import explained, lasting_output, say, signals_as_interrupts
from fmnist.commands import SUMMARIES
from fmnist.errors import UserError
from fmnist.imports import spare_keras
from fmnist.job import Job
from fmnist.workflows import JOBS

# Each command's line of ``fmnist --help``.
COMMANDS = {name: job.summary for name, job in JOBS.items()} | SUMMARIES


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: without the program's name; those of this process if None.

    Returns:
        The exit code: 0 for success, 1 for a failure, 2 for wrong input or configuration, 128 and the signal's number
        when interrupted: 130 by Control-C, 143 by SIGTERM. Each is one line on standard error; an exception that no
        line explains keeps its traceback.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    spare_keras()
    with lasting_output() as failures, signals_as_interrupts() as signals:
        code = _exit_code(name, rest, signals)
    if failures:
        # A job's result is its run. That of a command is what it prints: it ends as if SIGPIPE had ended it.
        if name not in JOBS and isinstance(failures[0], BrokenPipeError):
            return code or 128 + signal.SIGPIPE
        say(f"standard output: {failures[0].strerror}; lines are missing there")
        return code if name in JOBS else code or 1
    return code


def _exit_code(name: str, arguments: list[str], signals: list[int]) -> int:
    try:
        return _run(name, arguments)
    except KeyboardInterrupt:
        if not signals:
            say("interrupted")
            return 128 + signal.SIGINT
        kept = "; what is stored is kept, and the same command with its --run-id resumes" if name in JOBS else ""
        say(f"interrupted by {signal.Signals(signals[0]).name}{kept}")
        return 128 + signals[0]
    except Exception as error:
        if (known := explained(error)) is None:
            raise
        say(str(known))
        return known.exit_code


def _run(name: str, arguments: list[str]) -> int:
    if name in ("--help", "-h"):
        print("usage: fmnist COMMAND [OPTION ...]\n")
        print("Batch training for Fashion-MNIST, the same on a laptop and on a Ray cluster.\n")
        print("commands:")
        for command, summary in COMMANDS.items():
            print(f"  {command:{max(map(len, COMMANDS))}}  {summary}")
        print("\nfmnist COMMAND --help explains a command's options, --print-config prints a job's settings as YAML.")
    elif name == "--version":
        print(f"fmnist {fmnist.__version__}")
    elif name in JOBS:
        _run_job(JOBS[name], arguments)
    elif name in COMMANDS:
        code: int = importlib.import_module(f"fmnist.commands.{name}").run(arguments)
        return code
    else:
        raise UserError(f"{name!r} is not a command, expected one of {', '.join(COMMANDS)}")
    return 0


def _run_job(job: Job, arguments: list[str]) -> None:
    from fmnist.options import parse_config

    config = parse_config(job.Config, f"fmnist {job.name}", arguments)
    if config is not None:
        # Before the job's imports, which take some ten seconds.
        from fmnist.runs.lifecycle import check_run
        from fmnist.tracking.tracker import check_installed

        check_installed(config.track)
        check_run(job.name, config, job.extends)
        job.run(config)
