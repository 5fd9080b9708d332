"""Arguments to typed values: a job's configuration from flags and YAML, and errors as one line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from jsonargparse import ActionYesNo, ArgumentParser, set_loader

from fmnist.config import JobConfig, SettingError, fits, hints
from fmnist.errors import UserError
from fmnist.files import local_path, read_text
from fmnist.strict_yaml import read_yaml

Config = TypeVar("Config", bound=JobConfig)

LARGEST_FILE = 2**20


# For flags and settings files.
set_loader("yaml", read_yaml, exceptions=(ValueError,))


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
    if recipes := recipes_of(config_class):
        parser.add_argument("--recipe", choices=list(recipes), help=_recipes_help(recipes))
    parser.add_argument("--print-config", action="store_true", help="Print the settings as YAML and exit.")
    parser.add_class_arguments(config_class, as_group=False)
    for name in config_class.removed:
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    arguments = [_expanded(argument) for argument in _joined(arguments, "--config", *["--recipe"] * bool(recipes))]
    for argument in [one for one in arguments if recipes and one.startswith("--recipe=")]:
        arguments.remove(argument)
        name = argument.partition("=")[2]
        if name not in recipes:
            parser.error(f"recipe: found {name}, expected one of {', '.join(recipes)}")
        # First: settings files and flags win over it, wherever they stand.
        arguments.insert(0, f"--config={recipes[name]}")
    for argument in arguments:
        if argument.startswith("--config="):
            _check_file(config_class, argument.partition("=")[2], parser.error)
    try:
        namespace = parser.parse_args(arguments)
        config = config_class(**{field.name: _plain(namespace[field.name]) for field in fields(config_class)})
    except SettingError as error:
        parser.error(f"{error}{_source(error, arguments)}", error)
    except UserError as error:
        raise UserError(f"{error}{_source(error.__cause__, arguments)}") from error
    if namespace["print_config"]:
        print(settings_yaml(asdict(config)), end="")
        return None
    return config


def settings_yaml(settings: dict[str, Any]) -> str:
    """Writes settings as YAML that `parse_config` reads as the same."""
    return yaml.dump(settings, Dumper=_SettingsDumper, sort_keys=False)


class _SettingsDumper(yaml.SafeDumper):
    """Quotes text that version 1.1 or 1.2 of YAML reads as something else: 1e-3 is a number for the latter alone."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    try:
        plain = read_yaml(text) == text
    except ValueError:
        plain = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_SettingsDumper.add_representer(str, _represent_text)


def _plain(value: Any) -> Any:
    """jsonargparse's restricted types as the plain values that they are, which YAML and JSON can write."""
    if isinstance(value, bool):
        return value
    return next((plain(value) for plain in (int, float, str) if isinstance(value, plain)), value)


def recipes_of(config_class: type[JobConfig]) -> dict[str, Path]:
    """Returns the settings files of a job's recipes by name."""
    return {file.stem: file for file in sorted(config_class.recipes.glob("*.yaml"))} if config_class.recipes else {}


def _recipes_help(recipes: dict[str, Path]) -> str:
    reached = [f"{name}: {file.read_text().splitlines()[0].removeprefix('# ')}" for name, file in recipes.items()]
    return f"Settings by name; files and flags win over them. {'. '.join(reached)}."


def _joined(arguments: list[str], *names: str) -> list[str]:
    """Writes ``--config FILE`` as ``--config=FILE``, and so for each of these names."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in names:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _expanded(argument: str) -> str:
    """Returns an argument with the path of its settings file without ``~``, which no shell replaces behind ``=``."""
    name, equals, path = argument.partition("=")
    return f"{name}={local_path(path)}" if equals and name == "--config" else argument


def _check_file(config_class: type[JobConfig], path: str, fail: Callable[[str], NoReturn]) -> None:
    """Checks what jsonargparse does not: that a settings file is one, in YAML, and has a value for each name."""
    try:
        settings = read_yaml(read_text(Path(path), LARGEST_FILE))
    except UserError as error:
        fail(str(error))
    except ValueError as error:
        fail(f"{error} (in {path})")
    if not isinstance(settings, dict):
        fail(f"found {'nothing' if settings is None else 'no names'}, expected settings by name (in {path})")
    for name, value in settings.items():
        hint = hints(config_class).get(name)
        if value is None and hint is not None and not fits(None, hint):
            fail(f"{SettingError(name, value, hint)} (in {path})")


def _source(error: BaseException | None, arguments: list[str]) -> str:
    """Names the YAML file that a wrong value came from: the one of a setting that is not among the flags."""
    flags = {argument.split("=")[0].removeprefix("--").replace("-", "_") for argument in arguments}
    files = [argument.partition("=")[2] for argument in arguments if argument.startswith("--config=")]
    of_flag = error is None or isinstance(error, argparse.ArgumentError) or getattr(error, "field", "") in flags
    return "" if of_flag or not files else f" (in {', '.join(files)})"
