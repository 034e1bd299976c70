"""A page as one HTML file that needs nothing beside it: styles, script, pictures and charts are in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from search.report.blocks import Chart, Page, Table
from search.report.files import as_json, drawing_library


def html_of(page: Page) -> str:
    """The page. Charts stand on it as SVG, and where scripts run, they are drawn anew, to fit and to be pointed at."""
    specifications = {chart.name: chart.specification for chart in page.charts}
    environment = Environment(
        loader=PackageLoader("search.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["late_rows"] = _late_rows
    return environment.get_template("page.html").render(
        page=page,
        drawn={chart.name: _drawn(chart) for chart in page.charts},
        specifications=Markup(as_json(specifications)),
        library=Markup(drawing_library()) if specifications else "",
    )


def _drawn(chart: Chart) -> Markup:
    """A chart as the element of a page. What it refers to within itself is named after it: others are on the page."""
    text = chart.svg.decode().replace("<svg ", '<svg aria-hidden="true" ', 1)
    return Markup(re.sub(r'((?:id="|url\(#|href="#))', rf"\g<1>{chart.name}-", text))


def _late_rows(rows: Sequence[Sequence[tuple[str, str, float | None]]], marked: frozenset[int]) -> Markup:
    """The rows of a table that are not on the page at first, as JSON.

    A cell is its text, or where it has a link or a bar, a list of text, target and share. marked: of the whole table.
    """
    cells: list[list[Any]] = [
        [text if not target and share is None else [text, target, share] for text, target, share in row]
        for row in rows
    ]
    return Markup(
        as_json(
            {
                "rows": cells,
                "marked": sorted(place - Table.AT_ONCE for place in marked if place >= Table.AT_ONCE),
            }
        )
    )
