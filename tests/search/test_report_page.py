"""What stands on a page, and that nothing in it is taken for anything but text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from helpers.report_cases import NASTY

from search.report.blocks import (
    Block,
    Card,
    Cards,
    Chart,
    Column,
    Commands,
    Drawing,
    Folded,
    Gallery,
    HeatMap,
    Link,
    Page,
    Picture,
    Sample,
    Section,
    Side,
    Steps,
    Table,
    Text,
)
from search.report.charts import Axis, cells, points
from search.report.drawing import Group, drawn
from search.report.drawing import Link as Wire
from search.report.images import grey_or_colour, heat
from search.report.page import html_of

QUOTED = "\"quotes\" & 'more' <b>"


def chart(name: str) -> Chart:
    rows = [{"x": 1.0, "y": 2.0, "who": NASTY}, {"x": 2.0, "y": 3.0, "who": QUOTED}]
    return Chart(points(rows, Axis("x"), Axis("y"), "who"), name, NASTY, QUOTED, NASTY)


def every_block(text: str) -> list[Block]:
    """One of each kind, with the text wherever one can be given."""
    picture = Picture(heat([0.0, 1.0, 2.0, 3.0], (2, 2)), text, text)
    return [
        Text(text, "lead"),
        Link(text, "other.html"),
        Cards([Card(text, text, text)]),
        Table([text, Column(text)], [[text, 1], [Link(text, "there.html"), 2]], text),
        HeatMap(text, [[1.0, None]], frozenset(), (text, text), [text], [text, text]),
        picture,
        Gallery([picture]),
        Drawing(drawn([Group(3, text), Group(2, text, idle=text)], [Wire(0, 1, 4, 6, 2)]), text, text),
        chart("first"),
        Commands([(text, text)]),
        Sample(text, text),
        Steps([text, text], [[Text(text)], [chart("second")]], 0, text),
        Side([[Text(text)], [Text(text)]]),
        Folded(text, [Text(text)]),
    ]


def page(*blocks: Block) -> str:
    return html_of(Page("Title", "subtitle", [Section("Section", blocks)]))


def test_a_page_has_every_kind_of_block() -> None:
    from search.report import blocks

    kinds = {each for each in vars(blocks).values() if isinstance(each, type) and issubclass(each, Block)}
    assert {type(block) for block in every_block("text")} == kinds - {Block}


class Elements(HTMLParser):
    """Counts the elements of a page, and keeps its texts outside of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, int] = {}
        self.texts: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag] = self.found.get(tag, 0) + 1
        self.inside = tag
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self.inside not in ("script", "style"):
            self.texts.append(data)


def elements(text: str) -> Elements:
    found = Elements()
    found.feed(text)
    return found


@pytest.mark.parametrize(
    "text", [NASTY, QUOTED, "</script><b>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}"]
)
def test_texts_make_no_elements(text: str) -> None:
    plain, nasty = elements(page(*every_block("text"))), elements(page(*every_block(text)))
    assert nasty.found == plain.found
    assert sum(text in found for found in nasty.texts) >= 20


def test_titles_and_subtitles_are_texts() -> None:
    found = elements(html_of(Page(NASTY, QUOTED, [Section(NASTY, [])], up=Link(NASTY, "x.html"))))
    assert found.texts.count(NASTY) == 3  # the head, the heading and that of the section
    assert QUOTED in "".join(found.texts)


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = page(*every_block("text"))
    without_library = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#|other\.html|there\.html)""", without_library)
    assert "url(" not in without_library.replace("url(#", "")
    assert "default-src 'none'" in text


def test_what_a_chart_refers_to_within_itself_is_its_own() -> None:
    axes = Axis("x", kind="ordinal"), Axis("y", kind="ordinal"), Axis("z")
    coloured = cells([{"x": 1, "y": 1, "z": 1.0}, {"x": 2, "y": 1, "z": 2.0}], *axes)
    text = page(Chart(coloured, "first", "one"), Chart(coloured, "second", "other"))
    text = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    names = re.findall(r' id="([^"]+)"', text)
    assert len(names) == len(set(names))
    assert {name.split("-")[0] for name in names} >= {"first", "second"}
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(names)


def test_the_rows_of_a_long_table_that_come_later_are_all_there() -> None:
    rows = [[number, f"name {number}", number / 7] for number in range(Table.AT_ONCE + 40)]
    table = Table(
        ["number", "name", Column("share", ".1%", bar=True)], rows, marked=frozenset({0, Table.AT_ONCE + 3})
    )
    text = page(table)
    assert text.count("<tr") == 1 + Table.AT_ONCE
    late = json.loads(re.search(r'<script type="application/json">(.*?)</script>', text)[1])
    assert [row[:2] for row in late["rows"]] == [[f"{row[0]:,}", row[1]] for row in rows[Table.AT_ONCE :]]
    assert late["rows"][-1][2] == ["914.3%", "", 1.0]
    assert late["marked"] == [3]


def test_cells_show_what_is_known() -> None:
    column = Column("", ",.1f")
    assert [column.shown(value) for value in (None, float("nan"), True, False, 1234.56, "text")] == [
        "", "", "yes", "", "1,234.6", "text",
    ]  # fmt: skip
    assert Column("").shown(1234567) == "1,234,567"


def test_a_column_of_numbers_is_known_also_with_gaps_and_zeros() -> None:
    assert Table(["a", "b", "c"], [[0, None, "x"], [0, 1.5, 2]]).is_number == [True, True, False]
    assert Table(["empty"], [[None]]).is_number == [False]


def test_only_the_chosen_step_is_shown_at_first() -> None:
    text = page(Steps(["a", "b", "c"], [[Text("A")], [Text("B")], [Text("C")]], 1))
    shown = re.findall(r'<div class="step" data-label="(\w)"( hidden)?>', text)
    assert shown == [("a", " hidden"), ("b", ""), ("c", " hidden")]
    assert 'value="1"' in text


def test_pictures_hold_the_pixels() -> None:
    from io import BytesIO

    import numpy as np
    from PIL import Image

    def pixels(png: bytes) -> np.ndarray:
        return np.asarray(Image.open(BytesIO(png)))

    grey = pixels(grey_or_colour([0.0, 1.0, 0.2, 0.4], (2, 2)))
    assert grey[..., 0].tolist() == [[0, 255], [51, 102]]
    colour = pixels(grey_or_colour([1.0, 0.0, 0.0], (3, 1, 1)))
    assert colour[0, 0].tolist() == [255, 0, 0]
    spread = pixels(grey_or_colour([-2.0, 2.0], (1, 2)))
    assert spread[0, :, 0].tolist() == [0, 255]
    light = pixels(heat([0, 1, 2], (1, 3))).astype(int).sum(axis=2)[0]
    assert light[0] < light[1] < light[2]
