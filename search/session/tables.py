"""Tables on the console as every command prints them: without lines, texts to the left and numbers to the right."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table


def table_of(texts: Sequence[str], numbers: Sequence[str], *, title: str | None = None) -> Table:
    """An empty table: the headings of its columns of texts, and then those of its columns of numbers."""
    table = Table(*texts, box=None, header_style="bold", title=title, title_justify="left")
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table
