"""Arguments to typed values: a job's configuration from flags and YAML, and errors as one line."""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict, fields
from itertools import pairwise
from typing import Any, NoReturn, TypeVar

import yaml
from jsonargparse import ActionYesNo, ArgumentParser

from fmnist.config import EXPECTED, JobConfig
from fmnist.errors import UserError

Config = TypeVar("Config", bound=JobConfig)


class JobParser(ArgumentParser):
    """jsonargparse's parser with ``--batch-size`` for ``batch_size``, a bare ``--overwrite``, and one-line errors."""

    def add_argument(self, *names: str, **options: Any) -> Any:
        if options.get("type") is bool:
            del options["type"]
            options["action"] = ActionYesNo(no_prefix=None)  # type: ignore[arg-type]
        dashed = [name.replace("_", "-") if name.startswith("--") else name for name in names]
        return super().add_argument(*dashed, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UserError(f"{(self.prog or '').removeprefix('fmnist ')}: {_readable(message)}")


class CommandParser(argparse.ArgumentParser):
    """argparse's parser with one-line errors."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog.removeprefix('fmnist ')}: {message}")


def command_parser(program: str, description: str) -> CommandParser:
    """Returns a parser for a command that is not a job."""
    return CommandParser(prog=program, description=description, allow_abbrev=False)


def add_artifacts(parser: argparse.ArgumentParser) -> None:
    """Adds ``--artifacts`` to a command's parser."""
    parser.add_argument(
        "--artifacts",
        default=JobConfig().artifacts,
        help=f"artifact store, a folder or s3://bucket/prefix (default: {JobConfig().artifacts})",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds ``--artifacts`` and ``--run`` to a command's parser."""
    add_artifacts(parser)
    parser.add_argument("--run", required=True, help="run id")


def job_parser(config_class: type[Config], program: str) -> JobParser:
    """Returns the parser of a job: every field of its configuration is a flag and a key of its YAML."""
    description = (config_class.__doc__ or "").split("\n\n")[0]
    parser = JobParser(prog=program, description=description, print_config=None, allow_abbrev=False)
    parser.add_argument("--config", action="config", metavar="FILE.yaml", help="Settings as YAML; flags win over them.")
    parser.add_argument("--print-config", action="store_true", help="Print the settings as YAML and exit.")
    parser.add_class_arguments(config_class, as_group=False)
    for name in config_class.removed:
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    return parser


def parse_config(config_class: type[Config], program: str, arguments: list[str]) -> Config | None:
    """Reads a job's configuration: defaults, then YAML files, then flags.

    Args:
        config_class: the job's configuration class.
        program: what the job is called as, for messages.
        arguments: of the command line, behind the job's name.

    Returns:
        The configuration, or None if it was asked to be printed, and was.

    Raises:
        UserError: naming the field, what was found and what is expected.
    """
    try:
        namespace = job_parser(config_class, program).parse_args(arguments)
    except UserError as error:
        raise UserError(f"{error}{_source(str(error), arguments)}") from error
    config = config_class(**{field.name: _plain(namespace[field.name]) for field in fields(config_class)})
    if namespace["print_config"]:
        print(settings_yaml(asdict(config)), end="")
        return None
    return config


def settings_yaml(settings: dict[str, Any]) -> str:
    """Writes settings as YAML that `parse_config` reads as the same."""
    return yaml.dump(settings, Dumper=_SettingsDumper, sort_keys=False)


class _SettingsDumper(yaml.SafeDumper):
    """Quotes texts that look like numbers: 1e-3 is a text for PyYAML, and a number for jsonargparse."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    try:
        float(text)
    except ValueError:
        return dumper.represent_str(text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')


_SettingsDumper.add_representer(str, _represent_text)


def _plain(value: Any) -> Any:
    """jsonargparse's restricted types as the plain values that they are, which YAML and JSON can write."""
    if isinstance(value, bool):
        return value
    return next((plain(value) for plain in (int, float, str) if isinstance(value, plain)), value)


def _source(message: str, arguments: list[str]) -> str:
    """Names the YAML file that a wrong value came from: jsonargparse does not say, but a flag would be here."""
    flagged = {argument.split("=")[0].removeprefix("--").replace("-", "_") for argument in arguments}
    files = [file for flag, file in pairwise(arguments) if flag == "--config"]
    words = set(re.findall(r"\w+", message))
    return f" (in {', '.join(files)})" if files and not words & (flagged - {"config"}) else ""


def _readable(message: str) -> str:
    """jsonargparse's report of several lines as a sentence: field, found, expected."""
    text = " ".join(message.split())
    known = re.search(r'key "(?P<field>[^"]+)": (?P<reason>.*)', text)
    if not known:
        return text
    reason = known["reason"]
    value = re.search(
        r"(?:Given|Got) value: (.+)$|(?:to float|base 10): (\S+)$|: (\S+) does not conform"
        r"|Not of type \w+: (.+?) does not match",
        reason,
    )
    kinds = re.findall(r"Literal\[.*?\]|" + "|".join(EXPECTED), reason)
    if not (value and kinds):
        return f"{known['field']}: {reason}"
    found = next(group for group in value.groups() if group)
    expected = [_expected(kind) for kind in dict.fromkeys(kinds)]
    return f"{known['field']}: found {found.strip(chr(39))}, expected {' or '.join(expected)}"


def _expected(kind: str) -> str:
    if kind.startswith("Literal"):
        return (
            "one of " + ", ".join(re.findall(r"'([^']*)'", kind)) if "," in kind else re.findall(r"'([^']*)'", kind)[0]
        )
    return EXPECTED[kind]
