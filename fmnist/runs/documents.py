"""A run's documents as typed records: the one place where the JSON and YAML of a run folder is read and checked."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from fmnist.errors import IntegrityError

Record = TypeVar("Record")

# A report of a search over a thousand trials has some hundred kilobytes.
LARGEST_DOCUMENT = 16 * 2**20


def parse_json(content: bytes, record: type[Record], where: str) -> Record:
    """Returns a JSON document as a record.

    Args:
        content: of the file.
        record: a dataclass, or another type that pydantic knows. Names that it does not have are left out.
        where: the file, for messages.

    Raises:
        IntegrityError: if the document is too large, not JSON, or not such a record.
    """
    _check_size(content, where)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{where}: damaged, not JSON ({error})") from error
    return to_record(value, record, where)


def parse_yaml(content: bytes, where: str) -> dict[str, Any]:
    """Returns a YAML document of names with values.

    Args:
        content: of the file.
        where: the file, for messages.

    Raises:
        IntegrityError: if the document is too large, not YAML, has aliases, or is anything but names with values.
    """
    _check_size(content, where)
    try:
        text = content.decode()
        # A few aliases of aliases make a document of any size.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise IntegrityError(f"{where}: damaged, found an alias, expected values only")
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{where}: damaged, not YAML") from error
    return to_record(value, dict[str, Any], where)


def _check_size(content: bytes, where: str) -> None:
    if len(content) > LARGEST_DOCUMENT:
        raise IntegrityError(f"{where}: found {len(content):,} bytes, expected at most {LARGEST_DOCUMENT:,}")


def to_record(value: Any, record: Any, where: str) -> Any:
    """Returns a value of JSON's types as a record; takes what `parse_json` takes and raises the same error."""
    try:
        return TypeAdapter(record).validate_python(value)
    except (ValidationError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise IntegrityError(f"{where}: damaged, its values are nested too deeply") from error
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise IntegrityError(f"{where}: damaged, {place + ': ' if place else ''}{first['msg'].lower()}") from error
