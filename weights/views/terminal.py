"""What is printed: tables and lines in which nothing of a file is taken for a command to the terminal, or for markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from weights.errors import printable

MOST = 1000
"""Rows of a table that are printed; a thousand take a second."""

LINE, CELL = 20_000, 2000
"""Characters of a line and of a cell that are printed."""


class Screen:
    """Prints to standard output. width: the columns where that is not a terminal; None for as many as are known."""

    def __init__(self, width: int | None = None):
        self.console = Console(width=None if Console().is_terminal else width, markup=False, emoji=False, highlight=False)

    def line(self, text: object) -> None:
        """Prints one line, wrapped at words."""
        self.console.print(_cut(text, LINE))

    def table(self, names: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
        """Prints a table of these columns, of which the first rows if there are very many."""
        rows = list(rows)
        table = Table(title=None if title is None else printable(title), title_justify="left")
        for name in names:
            table.add_column(name, overflow="fold")
        for row in rows[:MOST]:
            table.add_row(*(_cut(cell, CELL) for cell in row))
        self.console.print(table)
        if len(rows) > MOST:
            self.line(f"{len(rows) - MOST} more rows: --json prints all")


def _cut(text: object, limit: int) -> str:
    said = str(text)
    return printable(said) if len(said) <= limit else f"{printable(said[:limit])}... ({len(said)} characters)"


__all__ = ["Screen"]
