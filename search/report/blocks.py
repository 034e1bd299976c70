"""What can stand on a page, as plain data. `templates/blocks.html` has a macro of the same name for each.

Texts are shown as they are: whatever they hold is escaped. Numbers in tables are shown by the format of their column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from markupsafe import Markup

from search.report.charts import specification
from search.report.files import picture_of


class Block:
    """Something on a page."""

    @property
    def kind(self) -> str:
        """The name of its macro: `HeatMap` is drawn by `heat_map`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()


@dataclass(frozen=True)
class Text(Block):
    """A paragraph. tone: "" as it is, "lead" large, "note" small, or "warning"."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Link(Block):
    """A paragraph that leads to another page. target: a path relative to this page."""

    text: str
    target: str


@dataclass(frozen=True)
class Card:
    """One number that says much. value: as it is read; note: what it is to be compared with."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Cards(Block):
    """Cards side by side."""

    cards: Sequence[Card]


@dataclass(frozen=True)
class Column:
    """A column of a table. format: of its numbers, such as ",.0f" or ".2%"; "" for texts and whole numbers.

    bar: whether each number has a bar behind it, as long as its share of the largest.
    """

    heading: str
    format: str = ""
    bar: bool = False

    def shown(self, value: Any) -> str:
        """The text of a cell; nothing for None and for what is no number where one is due."""
        if value is None or value != value:  # NaN
            return ""
        if isinstance(value, bool):
            return "yes" if value else ""
        if isinstance(value, int | float):
            return format(value, self.format or ("," if isinstance(value, int) else ".4g"))
        return str(value)


@dataclass(frozen=True)
class Table(Block):
    """Rows under headings, which a click sorts; a field filters them where there are many.

    columns: a Column, or a heading alone. rows: cells, a Link for what leads somewhere. marked: rows that stand out.
    """

    columns: Sequence[Column | str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    marked: frozenset[int] = frozenset()

    FILTERED = 12  # rows from which on there is a field that filters
    AT_ONCE = 25  # rows that stand on the page; others are data until they are asked for

    @property
    def headed(self) -> list[Column]:
        """Every column as one."""
        return [Column(column) if isinstance(column, str) else column for column in self.columns]

    @property
    def is_number(self) -> list[bool]:
        """Of each column, whether it holds numbers alone."""
        return [
            any(value is not None for value in values)
            and all(value is None or isinstance(value, int | float) for value in values)
            for values in ([row[place] for row in self.rows] for place in range(len(self.columns)))
        ]

    @property
    def cells(self) -> list[list[tuple[str, str, float | None]]]:
        """Of each cell its text, where it leads, and how long its bar is, as a share of the longest."""
        columns = self.headed
        tops = [
            max((abs(row[place]) for row in self.rows if row[place] is not None), default=0.0)
            if column.bar
            else 0.0
            for place, column in enumerate(columns)
        ]
        return [[_cell(*each) for each in zip(columns, row, tops)] for row in self.rows]


def _cell(column: Column, value: Any, top: float) -> tuple[str, str, float | None]:
    if isinstance(value, Link):
        return value.text, value.target, None
    return column.shown(value), "", abs(value) / top if top and value is not None else None


@dataclass(frozen=True)
class HeatMap(Block):
    """Numbers in cells that are the darker the larger they are, from 0 where that is not far below them all.

    values: rows of numbers, None for a cell that is empty. marked: (row, column) of cells with a frame. names: of what
    rows and columns are. rows, columns: what each is called; numbers where that is not given. format: of the numbers.
    """

    title: str
    values: Sequence[Sequence[float | None]]
    marked: frozenset[tuple[int, int]] = frozenset()
    names: tuple[str, str] = ("layer", "head")
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    format: str = ".3g"

    @property
    def headings(self) -> list[str]:
        """Of the columns."""
        return list(self.columns) or [str(number) for number in range(max(map(len, self.values), default=0))]

    @property
    def cells(self) -> list[tuple[str, list[tuple[str, float, bool]]]]:
        """Of each row its name, and of each cell its text, its share of the range of values, whether it is marked."""
        known = [value for row in self.values for value in row if value is not None]
        low, high = min(known, default=0.0), max(known, default=0.0)
        # Counts and shares begin at 0; of values far from it, shades tell what sets them apart.
        low = 0.0 if 0 <= low <= high / 2 else low
        span = (high - low) or 1.0
        names = list(self.rows) or [f"{self.names[0]} {number}" for number in range(len(self.values))]
        return [
            (
                name,
                [
                    ("", 0.0, False)
                    if value is None
                    else (format(value, self.format), (value - low) / span, (number, place) in self.marked)
                    for place, value in enumerate(row)
                ],
            )
            for number, (name, row) in enumerate(zip(names, self.values))
        ]


@dataclass(frozen=True)
class Picture(Block):
    """An image of pixels. image: a PNG. text: what it shows, for whoever does not see it. side: pixels on the page."""

    image: bytes
    text: str
    caption: str = ""
    side: int = 160

    @property
    def source(self) -> str:
        """As a data URI."""
        from base64 import b64encode

        return f"data:image/png;base64,{b64encode(self.image).decode()}"


@dataclass(frozen=True)
class Gallery(Block):
    """Pictures side by side."""

    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Drawing(Block):
    """An SVG that is made here, by search.report.drawing. text: what it shows, for whoever does not see it."""

    svg: Markup
    text: str
    caption: str = ""


@dataclass(frozen=True)
class Chart(Block):
    """A chart, which is also saved as SVG and PNG. chart: of Altair, as search.report.charts makes them.

    name: of its files, without an ending, unique on the page. text: what it shows, for whoever does not see it.
    """

    chart: Any
    name: str
    title: str
    text: str = ""
    caption: str = ""

    @cached_property
    def specification(self) -> dict[str, Any]:
        """Its Vega-Lite."""
        return specification(self.chart)

    @cached_property
    def svg(self) -> bytes:
        """As it stands on the page, and beside it."""
        return picture_of(self.specification, "svg")


@dataclass(frozen=True)
class Commands(Block):
    """Lines to copy. lines: what each is for, and the line."""

    lines: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Sample(Block):
    """A text with its line breaks, such as generated text or a log."""

    text: str
    title: str = ""


@dataclass(frozen=True)
class Steps(Block):
    """One of several contents at a time, chosen by a slider. labels: what each is called. first: shown at first.

    key: tells it from others on the page, so that a page that is loaded again shows the same step.
    """

    labels: Sequence[str]
    contents: Sequence[Sequence[Block]]
    first: int
    key: str = "steps"


@dataclass(frozen=True)
class Side(Block):
    """Blocks side by side where there is room, each in a column with what stands below it."""

    columns: Sequence[Sequence[Block]]


@dataclass(frozen=True)
class Folded(Block):
    """What is shown when its title is clicked."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A page. subtitle: below its title. blocks: before the sections. refresh: seconds until it loads itself again."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    blocks: Sequence[Block] = field(default_factory=tuple)
    refresh: int | None = None
    up: Link | None = None

    @property
    def charts(self) -> list[Chart]:
        """All charts, also those within other blocks, in their order."""
        found: list[Chart] = []
        for block in (*self.blocks, *(block for section in self.sections for block in section.blocks)):
            _collect(block, found)
        return found


def _collect(block: Block, found: list[Chart]) -> None:
    if isinstance(block, Chart):
        found.append(block)
    elif isinstance(block, Folded):
        for inner in block.blocks:
            _collect(inner, found)
    elif isinstance(block, Steps | Side):
        for blocks in block.contents if isinstance(block, Steps) else block.columns:
            for inner in blocks:
                _collect(inner, found)


@dataclass(frozen=True)
class Story:
    """What a command has to tell about one of its experiments; the page around it is the same for all.

    lead: what came of it, in one or two sentences. commands: what to do next, each with what it is for. pages: further
    ones of the same experiment, by the name of their file such as "samples.html".
    """

    lead: str
    cards: Sequence[Card] = ()
    sections: Sequence[Section] = ()
    commands: Sequence[tuple[str, str]] = ()
    pages: Mapping[str, Sequence[Section]] = field(default_factory=dict)
