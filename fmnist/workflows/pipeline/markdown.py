"""Text and tables in the Markdown of GitHub."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence


def escaped(text: str) -> str:
    """Returns text that Markdown shows as it is, in one line: no markup, no HTML, no end of a table's cell."""
    one_line = html.escape(text.replace("\r", " ").replace("\n", " "), quote=False)
    return re.sub(r"([\\`*_~|\[\]])", r"\\\1", one_line)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table, a line a row.

    Args:
        columns: the head, as Markdown of one line without bare ``|``.
        rows: of as many cells each, as such Markdown.

    Raises:
        ValueError: if a row has more or fewer cells than there are columns.
    """
    lines = [_line(columns), _line(["---"] * len(columns))]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"row of {len(row)} cells, expected {len(columns)}: {row}")
        lines.append(_line(row))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
