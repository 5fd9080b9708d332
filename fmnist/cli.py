"""The command line: ``fmnist COMMAND …``. It calls a job or a command and prints errors as one line.

Nothing heavy is imported before a command's arguments are checked.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import fmnist
from fmnist.commands import SUMMARIES
from fmnist.errors import FmnistError, UserError, printable
from fmnist.job import Job
from fmnist.workflows import JOBS

# Each command's line of ``fmnist --help``.
COMMANDS = {name: job.summary for name, job in JOBS.items()} | SUMMARIES


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: without the program's name; those of this process if None.

    Returns:
        The exit code: 0 for success, 1 for a failure, 2 for wrong input or configuration, 130 when interrupted. Errors
        of those kinds are one line on standard error; an unexpected one keeps its traceback.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("--help", "-h"):
        print("usage: fmnist COMMAND [OPTION ...]\n")
        print("Batch training for Fashion-MNIST, the same on a laptop and on a Ray cluster.\n")
        print("commands:")
        for command, summary in COMMANDS.items():
            print(f"  {command:{max(map(len, COMMANDS))}}  {summary}")
        print("\nfmnist COMMAND --help explains a command's options, --print-config prints a job's settings as YAML.")
        return 0
    if name == "--version":
        print(f"fmnist {fmnist.__version__}")
        return 0
    try:
        if name not in COMMANDS:
            raise UserError(f"{name!r} is not a command, expected one of {', '.join(COMMANDS)}")
        if name not in JOBS:
            return importlib.import_module(f"fmnist.commands.{name}").run(rest)
        _run_job(JOBS[name], rest)
        return 0
    except FmnistError as error:
        print(f"fmnist: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("fmnist: interrupted", file=sys.stderr)
        return 130


def _run_job(job: Job, arguments: list[str]) -> None:
    from fmnist.options import parse_config

    config = parse_config(job.Config, f"fmnist {job.name}", arguments)
    if config is not None:
        # Before the job's imports, which take some ten seconds.
        from fmnist.runs.lifecycle import check_run

        check_run(job.name, config, job.extends)
        job.run(config)
