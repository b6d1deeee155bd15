"""What is printed: tables and lines in which nothing of a file is taken for a command to the terminal, or for markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from weights.errors import printable


class Screen:
    """Prints to standard output. width: the columns where that is not a terminal; None for as many as are known."""

    def __init__(self, width: int | None = None):
        self.console = Console(width=None if Console().is_terminal else width, markup=False, emoji=False, highlight=False)

    def line(self, text: object) -> None:
        """Prints one line, wrapped at words."""
        self.console.print(printable(text))

    def table(self, names: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
        """Prints a table of these columns."""
        table = Table(title=None if title is None else printable(title), title_justify="left")
        for name in names:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*map(printable, row))
        self.console.print(table)


__all__ = ["Screen"]
