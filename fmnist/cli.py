"""The command line: ``fmnist COMMAND …``. It parses, calls the function of the same name, and turns errors into lines.

Nothing heavy is imported before a command's arguments are known to be right.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import fmnist
from fmnist.errors import FmnistError, UserError


@dataclass(frozen=True)
class Command:
    """A subcommand: one line for ``fmnist --help``, and what runs it with the arguments behind its name."""

    summary: str
    run: Callable[[list[str]], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: those behind the program's name; of this process if None.

    Returns:
        The exit code: 0 for success, 1 for a failure, 2 for wrong input or configuration, 130 when interrupted. Errors
        of those kinds are one line on standard error; an unexpected one keeps its traceback.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("--help", "-h"):
        print(_help())
        return 0
    if name == "--version":
        print(f"fmnist {fmnist.__version__}")
        return 0
    try:
        if name not in COMMANDS:
            raise UserError(f"{name!r} is not a command, expected one of {', '.join(COMMANDS)}")
        return COMMANDS[name].run(rest)
    except FmnistError as error:
        print(f"fmnist: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("fmnist: interrupted", file=sys.stderr)
        return 130


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: fmnist COMMAND [OPTION ...]",
            "",
            "Batch training for Fashion-MNIST, the same on a laptop and on a Ray cluster.",
            "",
            "commands:",
            *lines,
            "",
            "fmnist COMMAND --help explains a command's options, --print-config prints a job's settings as YAML.",
        ]
    )


def _job(name: str) -> Callable[[list[str]], int]:
    """Returns what runs a job: the function of its name in the module of its name, with the settings parsed."""

    def run(arguments: list[str]) -> int:
        from fmnist.config import JOBS
        from fmnist.options import parse_config

        config = parse_config(JOBS[name], f"fmnist {name}", arguments)
        if config is not None:
            getattr(importlib.import_module(f"fmnist.workflows.{name}"), name)(config)
        return 0

    return run


def _evaluate(arguments: list[str]) -> int:
    from fmnist.options import command_parser

    parser = command_parser("fmnist evaluate", "Reloads a run's model.keras and measures it on the raw test images.")
    _add_run(parser)
    parser.add_argument("--data", help="test images, as for train; the run's own source if not given")
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    options = parser.parse_args(arguments)
    from fmnist.commands import evaluate

    return evaluate(options.artifacts, options.run, options.data, options.json)


def _predict(arguments: list[str]) -> int:
    from fmnist.options import command_parser

    parser = command_parser("fmnist predict", "Says what pictures show: PNG, JPEG or .npy of any size.")
    _add_run(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a picture, or a .npy array of one or several")
    parser.add_argument(
        "--background",
        choices=("auto", "light", "dark"),
        default="auto",
        help="of the pictures (default: auto)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    from fmnist.commands import predict

    return predict(options.artifacts, options.run, options.images, options.background, options.json)


def _runs(arguments: list[str]) -> int:
    from fmnist.options import command_parser

    parser = command_parser("fmnist runs", "Looks at the runs of an artifact store.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|compare|pull|verify")
    listing = actions.add_parser("list", help="every run: job, status, accuracy, when, how long")
    show = actions.add_parser("show", help="one run's result, settings and files")
    compare = actions.add_parser("compare", help="two finished runs side by side: settings that differ, then metrics")
    pull = actions.add_parser("pull", help="fetch a run's files; goes on where it was interrupted, checks every sha256")
    verify = actions.add_parser("verify", help="compare a run's files with its manifest; exit code 1 if one differs")
    for action in (listing, show, compare, pull, verify):
        _add_artifacts(action)
    for action in (show, pull, verify):
        action.add_argument("run", metavar="RUN", help="run id")
    compare.add_argument("a", metavar="A", help="run id")
    compare.add_argument("b", metavar="B", help="run id; differences are B - A")
    compare.add_argument("--all", action="store_true", help="also what is the same, and what only one of them has")
    compare.add_argument("--json", action="store_true", help="print one JSON document, which has everything")
    pull.add_argument("--to", default=".", metavar="DIR", help="folder that the run folder is put into (default: .)")
    options = parser.parse_args(arguments)
    from fmnist import run_commands

    if options.action == "list":
        return run_commands.list_runs(options.artifacts)
    if options.action == "compare":
        return run_commands.compare_runs(options.artifacts, options.a, options.b, options.all, options.json)
    if options.action == "pull":
        return run_commands.pull_run(options.artifacts, options.run, options.to)
    command = {"show": run_commands.show_run, "verify": run_commands.verify_run}[options.action]
    return command(options.artifacts, options.run)


def _data(arguments: list[str]) -> int:
    from fmnist.options import command_parser

    parser = command_parser("fmnist data", "Looks at the images before any training.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="info|prepare")
    info = actions.add_parser("info", help="where the images come from, counts, nulls, duplicates, checksums")
    prepare = actions.add_parser("prepare", help="obtain and check them now, and draw the study's figures")
    for action in (info, prepare):
        action.add_argument("--data", default="auto", help="as for train (default: auto)")
    info.add_argument("--json", action="store_true", help="print the summary as JSON")
    prepare.add_argument("--figures", metavar="DIR", help="folder for the figures; none are drawn if not given")
    options = parser.parse_args(arguments)
    from fmnist import commands

    if options.action == "info":
        return commands.data_info(options.data, options.json)
    return commands.prepare_data(options.data, options.figures)


def _weights(arguments: list[str]) -> int:
    from fmnist.options import command_parser
    from fmnist.recipes import FACTS

    parser = command_parser("fmnist weights", "Stages pretrained weights for transfer learning.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="fetch")
    fetch = actions.add_parser("fetch", help="obtain a backbone's weights and put them where a cluster finds them")
    fetch.add_argument("--backbone", required=True, choices=[*FACTS, "all"], help="the network, or all of them")
    fetch.add_argument("--to", required=True, metavar="DIR", help="folder or s3://bucket/prefix that gets the files")
    fetch.add_argument(
        "--from",
        dest="source",
        default="imagenet",
        help="imagenet for those that Keras publishes, or a file, a folder or an s3:// address (default: imagenet)",
    )
    options = parser.parse_args(arguments)
    from fmnist.commands import fetch_weights

    return fetch_weights(options.backbone, options.source, options.to)


def _add_artifacts(parser) -> None:  # type: ignore[no-untyped-def]
    from fmnist.config import JobConfig

    parser.add_argument(
        "--artifacts",
        default=JobConfig.artifacts,
        help=f"artifact store, a folder or s3://bucket/prefix (default: {JobConfig.artifacts})",
    )


def _add_run(parser) -> None:  # type: ignore[no-untyped-def]
    _add_artifacts(parser)
    parser.add_argument("--run", required=True, help="run id")


COMMANDS = {
    "train": Command("train one model, data-parallel, and leave a finished run folder", _job("train")),
    "tune": Command("search hyper-parameters, train the best, and leave a finished run folder", _job("tune")),
    "crossval": Command(
        "cross-validate one model, folds side by side, and leave a finished run folder", _job("crossval")
    ),
    "transfer": Command(
        "train new heads on networks trained on ImageNet, and leave a finished run folder", _job("transfer")
    ),
    "pipeline": Command("run the whole study, each stage a run of its own, and write one report", _job("pipeline")),
    "evaluate": Command("measure a run's saved model on the test images again", _evaluate),
    "predict": Command("say what pictures show, with a run's model", _predict),
    "runs": Command("list, show, compare, pull and verify the runs of an artifact store", _runs),
    "data": Command("look at the data set and prepare it", _data),
    "weights": Command("stage pretrained weights where a cluster without internet finds them", _weights),
}
