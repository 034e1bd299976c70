"""What charts and heat maps show, as they are drawn."""

from __future__ import annotations

import re

import pytest
from helpers.chart_cases import rows_drawn

from search.report.blocks import HeatMap, Page, Section
from search.report.charts import Axis, errors, points, specification, strips
from search.report.files import picture_of
from search.report.page import html_of

MAP = HeatMap("x", [[0.0, 1.0], [None, 0.25]], frozenset({(0, 1)}))


def test_cells_are_the_darker_the_larger_they_are() -> None:
    assert MAP.cells == [
        ("layer 0", [("0", 0.0, False), ("1", 1.0, True)]),
        ("layer 1", [("", 0.0, False), ("0.25", 0.25, False)]),
    ]
    assert [cell[1] for _, cells in HeatMap("x", [[2.0, 2.0]]).cells for cell in cells] == [0.0, 0.0]
    page = html_of(Page("t", "s", [Section("s", [MAP])]))
    assert re.findall(r'<td( class="marked")? style="--share: ([0-9.]+)"', page) == [
        ("", "0.000"),
        (' class="marked"', "1.000"),
        ("", "0.250"),
    ]


def texts(chart: object) -> list[str]:
    """All texts of a chart as it is drawn."""
    drawn = picture_of(specification(chart), "svg").decode()
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawn)


def test_no_name_on_an_axis_is_left_out() -> None:
    names = [f"a rather long name {number}" for number in range(12)]
    rows = [{"arm": name, "value": 1.0 + place} for place, name in enumerate(names)]
    assert {*names} <= {*texts(strips(rows, Axis("arm", kind="nominal"), Axis("value")))}


@pytest.mark.parametrize(
    ("values", "some"), [((520.0, 810.0), "600"), ((0.3, 0.8), "0.5"), ((10.0, 1e6), "10k")]
)
def test_a_logarithmic_axis_says_where_it_is(values: tuple[float, float], some: str) -> None:
    rows = [{"x": 1, "y": value} for value in values]
    said = texts(points(rows, Axis("x"), Axis("y", log=True)))
    assert some in said and not any(text.endswith("m") for text in said)


def test_whiskers_stay_where_a_logarithmic_axis_has_a_place() -> None:
    rows = [{"x": 1, "y": 2.0, "sd": 3.0}, {"x": 2, "y": 4.0, "sd": 1.0}, {"x": 3, "y": 4.0, "sd": None}]
    drawn = rows_drawn(errors(rows, Axis("x"), Axis("y", log=True), "sd"))
    found = {row["x"]: (row["from"], row["to"]) for row in drawn}
    assert found == {1: (2.0, 5.0), 2: (3.0, 5.0), 3: (4.0, 4.0)}
    plain = {row["x"]: row["from"] for row in rows_drawn(errors(rows, Axis("x"), Axis("y"), "sd"))}
    assert plain == {1: -1.0, 2: 3.0, 3: 4.0}
