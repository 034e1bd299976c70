"""What commands print on: a console that leaves texts as they are, and is wide enough for tables."""

from __future__ import annotations

from rich import console
from rich.console import RenderableType

WIDTH = 140  # of tables, where there is no terminal


class Console(console.Console):
    """Rich's, whose texts are not coloured by what is in them."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def say(self, text: str, *, markup: bool = True) -> None:
        """Prints a text that is broken where it says so, and nowhere else: what it names can be copied."""
        self.print(text, markup=markup, soft_wrap=True)

    def show(self, table: RenderableType) -> None:
        """Prints a table, as wide as the terminal."""
        width = None if self.is_terminal else WIDTH
        console.Console(width=width, highlight=False).print(table)
