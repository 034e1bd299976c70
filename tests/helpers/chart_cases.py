"""What a chart shows, read from its specification."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from search.report.charts import specification


def panels_of(chart: Any) -> list[str]:
    """The titles of charts side by side, or of a single one."""
    found = specification(chart)
    return [panel["title"] for panel in found.get("concat", [found])]


def rows_drawn(chart: Any) -> list[dict[str, Any]]:
    """All rows of all its layers, in their order."""
    found = specification(chart)
    return [row for data in _each(found, "data") for row in _values(found, data)]


def _values(found: Mapping[str, Any], data: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(data["values"] if "values" in data else found["datasets"][data["name"]])


def series_of(chart: Any) -> list[str]:
    """The names in its legend."""
    return list(
        next(
            colour["scale"]["domain"] for colour in _each(specification(chart), "color") if "scale" in colour
        )
    )


def scales_of(chart: Any) -> dict[str, str]:
    """Whether x and y are linear or log; all layers have to say the same."""
    found = specification(chart)
    kinds = {
        axis: {
            encoding["scale"].get("type", "linear") for encoding in _each(found, axis) if "scale" in encoding
        }
        for axis in ("x", "y")
    }
    assert all(len(kind) == 1 for kind in kinds.values()), kinds
    return {axis: kind.pop() for axis, kind in kinds.items()}


def _each(part: Any, name: str) -> Iterator[dict[str, Any]]:
    """Everything of this name anywhere in a specification."""
    if isinstance(part, dict):
        if isinstance(part.get(name), dict):
            yield part[name]
        for inner in part.values():
            yield from _each(inner, name)
    elif isinstance(part, list):
        for inner in part:
            yield from _each(inner, name)
