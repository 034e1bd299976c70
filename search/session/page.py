"""One HTML page that needs nothing beside it: texts, tables, heat maps and figures, by a Jinja2 template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, Any

import fsspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from structnet.storage.atomic import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """headings: of the columns. rows: their cells, texts or numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class HeatMap:
    """Numbers in cells that are the darker the larger they are.

    values: rows of numbers, None for a cell that is empty. marked: (row, column) of cells with a frame. names: of what
    rows and columns are.
    """

    title: str
    values: Sequence[Sequence[float | None]]
    marked: frozenset[tuple[int, int]] = frozenset()
    names: tuple[str, str] = ("layer", "head")

    @property
    def cells(self) -> list[list[tuple[str, float, bool]]]:
        """Of each cell its text, its share of the range of values, and whether it is marked."""
        known = [value for row in self.values for value in row if value is not None]
        low, span = min(known, default=0.0), (max(known, default=0.0) - min(known, default=0.0)) or 1.0
        return [
            [
                ("", 0.0, False)
                if value is None
                else (f"{value:.3g}", (value - low) / span, (number, place) in self.marked)
                for place, value in enumerate(row)
            ]
            for number, row in enumerate(self.values)
        ]


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it, in this order; texts as they are, line by line where `is_sample`."""

    title: str
    texts: Sequence[str] = ()
    tables: Sequence[Table] = ()
    maps: Sequence[HeatMap] = ()
    figures: Sequence[Figure] = ()
    samples: Mapping[str, str] = field(default_factory=dict)


def write_page(path: str, title: str, sections: Sequence[Section]) -> None:
    """Writes the page; path: a path or an fsspec URL. Every text is escaped. Raises StoreFailed."""
    environment = Environment(
        loader=PackageLoader("search.session"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["svg"] = svg_of
    text = environment.get_template("page.html").render(title=title, sections=sections)
    files, place = fsspec.url_to_fs(path)
    write_whole(files, {place: text.encode()})


def svg_of(figure: Figure) -> Markup:
    """A figure as the element of a page; the same figure gives the same text."""
    from matplotlib import rc_context

    drawn = StringIO()
    with rc_context({"svg.hashsalt": "structnet"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    text = drawn.getvalue()
    # matplotlib escapes the texts of a figure itself.
    return Markup(text[text.index("<svg") :])
