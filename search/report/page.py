"""A page as one HTML file that needs nothing beside it: styles, script, pictures and charts are in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from search.report.blocks import Page, Table
from search.report.charts import specification
from search.report.files import as_json, drawing_library, picture_of


def html_of(page: Page) -> str:
    """The page. Charts stand on it as SVG, and where scripts run, they are drawn anew, to fit and to be pointed at."""
    specifications = {chart.name: specification(chart.chart) for chart in page.charts}
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
        drawn={name: _drawn(name, found) for name, found in specifications.items()},
        specifications=Markup(as_json(specifications)),
        library=Markup(drawing_library()) if specifications else "",
    )


def _drawn(name: str, found: dict[str, Any]) -> Markup:
    """A chart as the element of a page. What it refers to within itself is named after it: others are on the page."""
    text = picture_of(found, "svg").decode().replace("<svg ", '<svg aria-hidden="true" ', 1)
    return Markup(re.sub(r'((?:id="|url\(#|href="#))', rf"\g<1>{name}-", text))


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
