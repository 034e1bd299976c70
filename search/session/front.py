"""The front as a table: what every size is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from search.session.console import Console


def print_front(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Prints rows of the fronts table, none of which is dominated, smallest first; the chosen one has a mark.

    worth: bits that the last parameters brought, per thousand of them: the price at which this size is the best.
    Multiply-adds are shown where they are more than connections: of feature maps. Rows of an experiment that was begun
    before they were counted, and is resumed, have none.
    """
    console.say("The front, smallest first:")
    header = ("", "parameters", "bytes", "multiply-adds", "accuracy", "information", "worth", "test")
    lines = [header, *(_cells(row, before) for row, before in zip(rows, [None, *rows]))]
    if all(row.get("macs") in (None, row["connections"]) for row in rows):
        lines = [line[:3] + line[4:] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        console.say("  ".join(cell.rjust(width) for cell, width in zip(line, widths)).rstrip())


def _cells(row: dict[str, Any], before: dict[str, Any] | None) -> tuple[str, ...]:
    test, macs, worth = row.get("test_accuracy"), row.get("macs"), ""
    if before is not None:
        bits, parameters = (row[name] - before[name] for name in ("information", "parameters"))
        worth = f"{1000 * bits / max(1, parameters):.3f} bits per thousand"
    return (
        "→" if row["chosen"] else "",
        f"{row['parameters']:,}",
        f"{row['bytes']:,}",
        "" if macs is None else f"{macs:,}",
        f"{row['accuracy']:.2%}",
        f"{row['information']:.3f} bits",
        worth,
        "" if test is None else f"{test:.2%}",
    )
