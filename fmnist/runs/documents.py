"""A run's documents: the one place where JSON is written, and JSON and YAML read as typed records and checked."""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any, TypeVar

from pydantic import JsonValue, TypeAdapter, ValidationError

from fmnist.errors import IntegrityError, printable
from fmnist.strict_yaml import DEEPEST, LARGEST_INTEGER, read_yaml

Record = TypeVar("Record")

# The metrics of a search over a thousand trials have some hundred kilobytes, the manifest of ten thousand files two
# megabytes. PyYAML reads a megabyte in some seconds.
LARGEST_JSON = 16 * 2**20
LARGEST_YAML = 2**20


def parse_json(content: bytes, record: type[Record], where: str) -> Record:
    """Returns a JSON document as a record.

    Args:
        content: of the file.
        record: a dataclass, or another type that pydantic knows. Names that it does not have are left out.
        where: the file, for messages.

    Raises:
        IntegrityError: if the document is too large, not JSON, nested too deeply, has a number that is not finite or an
            integer of more than 64 bits, or is not such a record.
    """
    check_size(len(content), LARGEST_JSON, where)
    try:
        value = json.loads(content, parse_int=_integer, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{where}: damaged, not JSON ({printable(str(error))})") from error
    return to_record(value, record, where)


def parse_yaml(content: bytes, record: type[Record], where: str) -> Record:
    """Returns a YAML document as a record; arguments and errors as in `parse_json`, and aliases are refused."""
    check_size(len(content), LARGEST_YAML, where)
    try:
        value = read_yaml(content.decode())
    except ValueError as error:
        raise IntegrityError(f"{where}: damaged, not YAML ({printable(str(error))})") from error
    return to_record(value, record, where)


def to_record(value: Any, record: type[Record], where: str) -> Record:
    """Returns a value of JSON's types as a record; arguments and errors as in `parse_json`."""
    _check_depth(value, where)
    try:
        return _adapter(record).validate_python(value)  # type: ignore[arg-type]  # a type has a hash
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        # pydantic's own text names the class of the record.
        named = first["type"] in {"dataclass_type", "dict_type"}
        found = "expected names with values" if named else first["msg"].lower()
        reason = f"{place}: {found}" if place else found
        raise IntegrityError(f"{where}: damaged, {printable(reason)[:300]}") from error


@cache
def _adapter(record: Any) -> TypeAdapter[Any]:
    # It takes milliseconds to make one.
    return TypeAdapter(record)


def json_bytes(value: Any) -> bytes:
    """Returns a document's content for a value of JSON's types; a ValueError for numbers that JSON lacks."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def check_size(size: int, largest: int, where: str) -> None:
    """Raises an `IntegrityError` if a document has more than ``largest`` bytes."""
    if size > largest:
        raise IntegrityError(f"{where}: damaged, found {size:,} bytes, expected at most {largest:,}")


def _check_depth(value: Any, where: str) -> None:
    level = [value]
    for _ in range(DEEPEST):
        containers = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list))]
        level = [inner for container in containers for inner in container]
        if not level:
            return
    raise IntegrityError(f"{where}: damaged, nested more than {DEEPEST} deep")


def _integer(text: str) -> int:
    value = int(text) if len(text) < 30 else LARGEST_INTEGER
    if abs(value) >= LARGEST_INTEGER:
        raise ValueError(f"found {text[:30]}, expected an integer of 64 bits")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"found {text[:30]}, expected a finite number")
    return value


Names = dict[str, JsonValue]
"""The record of a document of any names with values."""
