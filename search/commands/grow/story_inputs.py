"""Where a network reads its input: as an image where it is one, else by the names of its columns."""

from __future__ import annotations

from typing import Any

from search.report.blocks import Block, Chart, Picture, Text
from search.report.charts import Axis, bars
from search.report.images import heat, is_image
from search.report.records import Records, Rows

MOST_BARS = 40
NAMED = 5  # in a sentence


def input_shape(records: Records, trial: str, rounds: Rows) -> tuple[int, ...] | None:
    """Of the images that the network reads; None where they are none, or nothing says so."""
    known = next((tuple(row["shape"]) for row in records.rows("mistakes", trial) if row["shape"]), None)
    if known is None and rounds and rounds[-1]["sides"]:
        known = (rounds[-1]["architecture"][0], *rounds[-1]["sides"][0])
    if known is None and records.dataset == "digits":
        known = (8, 8)
    return known if known is not None and is_image(known) else None


def input_names(records: Records, trial: str) -> list[str] | None:
    """Of each input of a table; None of pictures, and in experiments of before they were kept."""
    return next((row["input_names"] for row in records.runs if row["trial"] == trial), None)


def picture_of_reads(row: dict[str, Any], shape: tuple[int, ...] | None) -> Picture | None:
    """Where on an image connections read, the lighter the more; taps of feature maps read everywhere."""
    counts = row["input_reads"]
    if shape is None or not counts or row["sides"]:
        return None
    size = 1
    for side in shape:
        size *= side
    if len(counts) != size:
        return None
    unread = sum(count == 0 for count in counts)
    caption = f"Where it reads its input: the lighter, the more. {unread:,} of {len(counts):,} numbers are not read."
    return Picture(heat(counts, shape), caption, caption, side=168)


def sentence_of_reads(row: dict[str, Any], names: list[str] | None) -> Text | None:
    """Which inputs of a table a network reads most, and which not at all."""
    found = _ranked(row, names)
    if not found:
        return None
    read = [(name, count) for name, count in found if count]
    unread = [name for name, count in found if not count]
    said = f"It reads {len(read):,} of {len(found):,} inputs"
    if read:
        said += f", most often {', '.join(f'{name} ({count})' for name, count in read[:NAMED])}"
    if unread:
        more = f" and {len(unread) - NAMED:,} more" if len(unread) > NAMED else ""
        said += f". Not read: {', '.join(unread[:NAMED])}{more}"
    return Text(f"{said}.")


def chart_of_reads(row: dict[str, Any], names: list[str] | None) -> list[Block]:
    """Of the network that was taken, how many connections read each input of a table."""
    found = _ranked(row, names)
    if not found:
        return []
    shown = [{"input": name, "connections": count} for name, count in found[:MOST_BARS]]
    text = f"Connections from each of {len(found)} inputs, the most read first."
    texts = (
        " A column of texts has an input for each text." if any(" = " in name for name, _ in found) else ""
    )
    left = f" The first {MOST_BARS} of {len(found)}." if len(found) > MOST_BARS else ""
    chart = bars(
        shown, Axis("connections", "Connections that read it", zero=True), Axis("input", kind="nominal")
    )
    chart = chart.properties(height=max(60, 22 * len(shown)))
    caption = f"Of the network that was taken.{texts}{left}"
    return [Chart(chart, "inputs", "What it reads", text, caption)]


def _ranked(row: dict[str, Any], names: list[str] | None) -> list[tuple[str, int]]:
    """Inputs with their connections, the most read first."""
    counts = row["input_reads"]
    if not names or not counts or len(counts) != len(names):
        return []
    return sorted(zip(names, counts), key=lambda pair: -pair[1])
