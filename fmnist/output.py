"""What a command prints: tables for a person in a terminal, tab-separated lines for the next program of a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

console = Console(highlight=False, soft_wrap=True)
# Progress goes to standard error: what a command prints can be piped.
aside = Console(highlight=False, soft_wrap=True, stderr=True)


def print_table(header: Sequence[str], *sections: Sequence[Sequence[str]]) -> None:
    """Prints rows of cells, in a terminal with a line between sections.

    Args:
        header: name of each column.
        sections: rows that belong together; each has as many cells as the header.
    """
    if not console.is_terminal:
        for row in (header, *(row for section in sections for row in section)):
            print(*row, sep="\t")
        return
    table = Table()
    for position, name in enumerate(header):
        # A row's name stays in one piece, to be copied; any other cell goes on in the next line rather than be cut.
        table.add_column(Text(name), overflow="fold", no_wrap=position == 0)
    for section in sections:
        for row in section:
            # As Text, since brackets in a string would be read as colours.
            table.add_row(*map(Text, row))
        table.add_section()
    console.print(table, soft_wrap=False)
