"""YAML by the rules of version 1.2, and no others: the one loader of settings and of a run's documents.

PyYAML reads version 1.1, in which ``010`` is 8, ``12:30`` is 750 and ``off`` is false; it takes the last of two equal
names, and a few aliases of aliases are a document of any size.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from fmnist.errors import one_line

# What reads a document later may recurse.
DEEPEST = 50
LARGEST_INTEGER = 2**63

_TAG = "tag:yaml.org,2002:"
_INTEGER = r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
# The core schema; the first that matches is a plain text's type.
_RULES = {
    "null": "~|null|Null|NULL|",
    "bool": "true|True|TRUE|false|False|FALSE",
    "int": _INTEGER,
    "float": _FLOAT,
}


class StrictLoader(yaml.SafeLoader):
    """Reads one document of names, lists, texts, numbers, truths and null; a YAMLError for everything else."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  (PyYAML's own name)
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.composer.ComposerError(None, None, "found an alias, expected values only", event.start_mark)
        self.depth += 1
        if self.depth > DEEPEST + 1:
            raise yaml.composer.ComposerError(None, None, f"nested more than {DEEPEST} deep", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str):
                found = f"found the name {getattr(key, 'value', '')!s:.40}, expected text"
                raise yaml.constructor.ConstructorError(None, None, found, key.start_mark)
            if name in names:
                raise yaml.constructor.ConstructorError(None, None, f"found {name} twice", key.start_mark)
            names.add(name)
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        # Python refuses more than 4,300 digits by itself.
        value = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)) if len(text) < 30 else LARGEST_INTEGER
        if abs(value) >= LARGEST_INTEGER:
            raise yaml.constructor.ConstructorError(None, None, f"found {text:.30}, expected 64 bits", node.start_mark)
        return value

    def construct_number(self, node: yaml.ScalarNode) -> float:
        text = self.construct_scalar(node).lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


for _name, _pattern in _RULES.items():
    StrictLoader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^(?:{_pattern})$"), None)
StrictLoader.add_constructor(f"{_TAG}int", StrictLoader.construct_integer)
StrictLoader.add_constructor(f"{_TAG}float", StrictLoader.construct_number)
# Its own tags of version 1.1, such as !!set and !!timestamp, are unknown here.
for _name in ("binary", "timestamp", "omap", "pairs", "set"):
    StrictLoader.yaml_constructors.pop(f"{_TAG}{_name}")


def read_yaml(text: str) -> Any:
    """Returns the value of a YAML document.

    Raises:
        ValueError: if it is not YAML, has a name twice, an alias, an integer of more than 64 bits, or is nested too
            deeply; one line that says where.
    """
    try:
        return yaml.load(text, Loader=StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem}") from error
    # PyYAML lets errors of its own code through, such as an IndexError or an AttributeError.
    except (yaml.YAMLError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(one_line(error)) from error
