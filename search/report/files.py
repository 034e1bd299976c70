"""Charts as files, and the library that draws them on a page: Vega, by vl-convert, which carries it."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import Any

from search.report.charts import specification
from structnet.errors import UserError
from structnet.storage.atomic import write_whole
from structnet.storage.user_cache import user_cache

ENDINGS = (".png", ".svg")
PIXELS = 2.0  # of a PNG, for one of the page


def save_chart(path: str, chart: Any) -> None:
    """Writes a chart as PNG or SVG by the ending of its path; the same chart gives the same bytes.

    chart: as search.report.charts makes them. path: a path or fsspec URL, folders are made. Raises UserError for other
    endings.
    """
    import fsspec

    if not path.endswith(ENDINGS):
        raise UserError(f"the figure is '{path}', but must end in {' or '.join(ENDINGS)}: choose one")
    kind = PurePosixPath(path).suffix[1:]
    files, place = fsspec.url_to_fs(path)
    write_whole(files, {place: picture_of(specification(chart), kind)})


def picture_of(found: dict[str, Any], kind: str) -> bytes:
    """A specification as SVG, whose colours are those around it, or as PNG on white."""
    import vl_convert

    if kind == "svg":
        return bytes(vl_convert.vegalite_to_svg(found).encode())
    return bytes(vl_convert.vegalite_to_png({**found, "background": "white"}, scale=PIXELS))


@cache
def drawing_library() -> str:
    """The script that a page needs to draw: it sets `structnetCharts`, and loads nothing.

    It takes a second to make, so it is kept in the user's cache, where that can be written.
    """
    with suppress(OSError, RuntimeError):
        kept = user_cache() / f"vega-{version('vl-convert-python')}.js"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile("w", encoding="utf-8", dir=kept.parent, delete=False) as file:
                file.write(_bundled())
            Path(file.name).replace(kept)
        return kept.read_text(encoding="utf-8")
    return _bundled()


def _bundled() -> str:
    import vl_convert

    code = vl_convert.javascript_bundle("window.structnetCharts = vegaEmbed;")
    # No text in it may end the element that it stands in.
    return re.sub("</(script)", r"<\\/\1", str(code), flags=re.IGNORECASE)


def as_json(value: Any) -> str:
    """JSON that can stand in a script of a page: no text in it can end that."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
