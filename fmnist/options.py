"""Arguments to typed values: a job's configuration from flags and YAML, and errors as one line."""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict, fields
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

import yaml
from jsonargparse import ActionYesNo, ArgumentParser, get_loader, set_loader

from fmnist.config import EXPECTED, JobConfig
from fmnist.errors import UserError

Config = TypeVar("Config", bound=JobConfig)

# What jsonargparse's YAML loader raises for text that it cannot read: ._ matches its pattern of numbers, but float()
# fails; a lone ? fails in its own code. By default it catches YAMLError only.
UNREADABLE = (yaml.YAMLError, ValueError, TypeError)
set_loader("yaml", get_loader("yaml"), exceptions=UNREADABLE)


class SettingError(TypeError):
    """A value that a setting cannot have."""

    def __init__(self, field: str, value: Any, hint: Any) -> None:
        super().__init__(f"{field}: found {_shown(value)}, expected {_expected(hint)}")
        self.field = field


class JobParser(ArgumentParser):
    """jsonargparse's parser with ``--batch-size`` for ``batch_size``, a bare ``--overwrite``, and one-line errors."""

    def add_argument(self, *names: str, **options: Any) -> Any:
        if options.get("type") is bool:
            del options["type"]
            options["action"] = ActionYesNo(no_prefix=None)  # type: ignore[arg-type]
        if getattr(options.get("action"), "_typehint", None) == str | None:
            # jsonargparse takes the texts null and ~ for None, even where a settings file quotes them.
            del options["action"]
            options["type"] = str
        dashed = [name.replace("_", "-") if name.startswith("--") else name for name in names]
        action = super().add_argument(*dashed, **options)
        hint = bool if isinstance(action, ActionYesNo) else getattr(action, "_typehint", None)
        if hint is not None:
            # jsonargparse's own errors are text of several lines; field, value and type are known here only.
            check = action._check_type_

            def check_type(value: Any, **context: Any) -> Any:
                try:
                    return check(value, **context)
                except (TypeError, ValueError) as error:
                    raise SettingError(action.dest, value, hint) from error

            action._check_type_ = check_type
        return action

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UserError(f"{(self.prog or '').removeprefix('fmnist ')}: {' '.join(message.split())}") from ex


class CommandParser(argparse.ArgumentParser):
    """argparse's parser with one-line errors, for a command that is not a job."""

    def add_artifacts(self) -> None:
        """Adds ``--artifacts``."""
        default = JobConfig().artifacts
        help_text = f"artifact store, a folder or s3://bucket/prefix (default: {default})"
        self.add_argument("--artifacts", default=default, help=help_text)

    def add_run(self) -> None:
        """Adds ``--artifacts`` and ``--run``."""
        self.add_artifacts()
        self.add_argument("--run", required=True, help="run id")

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog.removeprefix('fmnist ')}: {message}")


def parse_config(config_class: type[Config], program: str, arguments: list[str]) -> Config | None:
    """Reads a job's configuration, whose fields are flags and keys of its YAML: defaults, then YAML files, then flags.

    Args:
        config_class: the job's configuration class.
        program: name of the command, for messages.
        arguments: of the command line, without the job's name.

    Returns:
        The configuration, or None if ``--print-config`` was given: it is printed then.

    Raises:
        UserError: if a setting is wrong; names the field, the value found and what is expected.
    """
    for argument in arguments:
        if re.search("[\ud800-\udfff]", argument):
            raise UserError(f"{program.removeprefix('fmnist ')}: found {argument!r}, expected text in UTF-8")
    description = (config_class.__doc__ or "").split("\n\n")[0]
    parser = JobParser(prog=program, description=description, print_config=None, allow_abbrev=False)
    parser.add_argument("--config", action="config", metavar="FILE.yaml", help="Settings as YAML; flags win over them.")
    parser.add_argument("--print-config", action="store_true", help="Print the settings as YAML and exit.")
    parser.add_class_arguments(config_class, as_group=False)
    for name in config_class.removed:
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    try:
        namespace = parser.parse_args(arguments)
    except UserError as error:
        raise UserError(f"{error}{_source(error.__cause__, arguments)}") from error
    config = config_class(**{field.name: _plain(namespace[field.name]) for field in fields(config_class)})
    if namespace["print_config"]:
        print(settings_yaml(asdict(config)), end="")
        return None
    return config


def settings_yaml(settings: dict[str, Any]) -> str:
    """Writes settings as YAML that `parse_config` reads as the same."""
    return yaml.dump(settings, Dumper=_SettingsDumper, sort_keys=False)


class _SettingsDumper(yaml.SafeDumper):
    """Quotes text that PyYAML or jsonargparse would read as something else: 1e-3 is a number for the latter alone."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    try:
        plain = get_loader("yaml")(text) == text
    except UNREADABLE:
        plain = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_SettingsDumper.add_representer(str, _represent_text)


def _plain(value: Any) -> Any:
    """jsonargparse's restricted types as the plain values that they are, which YAML and JSON can write."""
    if isinstance(value, bool):
        return value
    return next((plain(value) for plain in (int, float, str) if isinstance(value, plain)), value)


def _source(error: BaseException | None, arguments: list[str]) -> str:
    """Names the YAML file that a wrong value came from: the one of a setting that is not among the flags."""
    flags = {argument.split("=")[0].removeprefix("--").replace("-", "_") for argument in arguments}
    files = [file for flag, file in pairwise(arguments) if flag == "--config"]
    of_flag = error is None or isinstance(error, argparse.ArgumentError) or getattr(error, "field", "") in flags
    return "" if of_flag or not files else f" (in {', '.join(files)})"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).split("\n...")[0].strip()


def _expected(hint: Any) -> str:
    """Says what values a type has."""
    if get_origin(hint) is Literal:
        *others, last = map(str, get_args(hint))
        return f"one of {', '.join([*others, last])}" if others else last
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_expected(kind) for kind in get_args(hint) if kind is not NoneType)
    return EXPECTED[(get_origin(hint) or hint).__name__]
