"""What commands print on: a console that leaves texts as they are, and is wide enough for tables."""

from __future__ import annotations

from typing import Any

from rich import console
from rich.console import RenderableType

WIDTH = 140  # of tables, where there is no terminal


class Console(console.Console):
    """Rich's, whose texts are not coloured by what is in them. options: Rich's."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, **options})

    def say(self, text: str, *, markup: bool = True) -> None:
        """Prints a text that is broken where it says so, and nowhere else: what it names can be copied."""
        self.print(text, markup=markup, soft_wrap=True)

    def show(self, table: RenderableType, width: int = WIDTH) -> None:
        """Prints a table, as wide as the terminal; elsewhere so wide at least."""
        wide = self if self.is_terminal else Console(file=self.file, width=max(width, self.width))
        wide.print(table)
