"""A page: every text is escaped, nothing is loaded from elsewhere, and the same content gives the same bytes."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from matplotlib.figure import Figure

from search.session.page import HeatMap, Section, Table, write_page


def figure() -> Figure:
    drawn = Figure(figsize=(2, 1))
    drawn.subplots().plot([1, 2], [2, 1], label="a < b")
    return drawn


def sections() -> list[Section]:
    heat = HeatMap("<Entropy>", [[0.0, 1.0], [None, 0.25]], frozenset({(0, 1)}))
    table = Table(["a & b"], [["<b>bold</b>"], [3]])
    return [
        Section(
            "One <script>", ["1 < 2"], [table], [heat], [figure()], {"sample": "</pre><script>x()</script>"}
        )
    ]


def written(folder: Path) -> str:
    path = folder / "deep" / "index.html"
    write_page(str(path), "Title & more", sections())
    return path.read_text()


class Seen(HTMLParser):
    """Names of elements, and what of their attributes points elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.places: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.places += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")
        ]


def test_texts_are_escaped_and_nothing_is_loaded(tmp_path: Path) -> None:
    seen = Seen(written(tmp_path))
    assert not {"script", "link", "img", "iframe", "b"} & set(seen.names)
    assert "svg" in seen.names and "pre" in seen.names
    assert all(place.startswith("#") for place in seen.places)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    assert written(tmp_path / "a") == written(tmp_path / "b")


def test_cells_are_the_darker_the_larger_they_are(tmp_path: Path) -> None:
    heat = HeatMap("x", [[0.0, 1.0], [None, 0.25]], frozenset({(0, 1)}))
    assert heat.cells == [[("0", 0.0, False), ("1", 1.0, True)], [("", 0.0, False), ("0.25", 0.25, False)]]
    assert [cell[1] for row in HeatMap("x", [[2.0, 2.0]]).cells for cell in row] == [0.0, 0.0]
    shades = re.findall(r"rgba\(52, 104, 192, ([0-9.]+)\)", written(tmp_path))
    assert shades == ["0.000", "0.600", "0.000", "0.150"]
