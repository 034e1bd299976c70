"""Charts of plain rows by Altair: few forms, one look, legible on light and on dark ground, and without red and green.

Rows are dicts whose keys are field names; an Axis says which field, and how it is read. Colours are those of Okabe and
Ito (2008), shifted so far that each stands out from white as well as from black; what has a colour has a shape, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COLOURS = ("#2a78c4", "#e08e0b", "#1f9e76", "#c45a97", "#6aaee0", "#d0541c", "#8a8f98", "#9a7d0a")
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
)
WIDTH, HEIGHT = 640, 300
FAINT = "#8a8f98"
GROUND = "var(--ground, transparent)"  # of the page; a chart by itself has none

Rows = Sequence[Mapping[str, Any]]
Chart = Any  # of Altair, of which a single, a layered and a concatenated one have no common type


@dataclass(frozen=True)
class Axis:
    """A field of the rows on an axis. format: of d3, such as ".0%"; zero: whether the axis has to show it.

    kind: "quantitative", "ordinal" for whole numbers and names side by side, "nominal". within: the least and the most
    that is shown.
    """

    field: str
    title: str = ""
    log: bool = False
    format: str = ""
    zero: bool = False
    kind: str = "quantitative"
    within: tuple[float, float] | None = None

    @property
    def scale(self) -> Any:
        """Of Altair."""
        import altair as alt

        told: dict[str, Any] = {"type": "log"} if self.log else {"zero": self.zero}
        if self.within is not None:
            told |= {"domain": list(self.within), "clamp": True}
        elif self.log:
            told |= {"nice": False, "padding": 12}
        return alt.Scale(**told)

    def encoded(self, channel: str) -> Any:
        """As the x or the y of a chart."""
        import altair as alt

        kind = {"x": alt.X, "y": alt.Y}[channel]
        short = f"{escaped(self.field)}:{self.kind[0].upper()}"
        if self.kind != "quantitative":
            angle = {"labelAngle": -30} if channel == "x" and self.kind == "nominal" else {"labelAngle": 0}
            # Of numbers side by side some may be left out, of names none.
            told = {**angle, "labelLimit": 240, "labelOverlap": self.kind != "nominal"}
            order = None if self.kind == "nominal" else "ascending"
            return kind(short, title=self.title or None, sort=order, axis=alt.Axis(**told))
        shown = {"format": self.format or "~r"}
        if self.log and not self.format:
            # By itself a logarithmic axis leaves out most labels, within a decade all of them.
            shown = {"labelExpr": "format(datum.value, datum.value < 1 ? '~g' : '~s')"}
        axis = alt.Axis(**shown, tickCount=6)
        return kind(short, title=self.title or self.field, scale=self.scale, axis=axis)

    def told(self) -> Any:
        """As a line of a tooltip."""
        import altair as alt

        plain = {"format": self.format or ",.6~r"} if self.kind == "quantitative" else {}
        return alt.Tooltip(
            f"{escaped(self.field)}:{self.kind[0].upper()}", title=self.title or self.field, **plain
        )


def data_of(rows: Rows) -> Any:
    """Rows as the data of a chart: a text, of which layers share one.

    Lists Altair would copy and check number by number whenever a chart becomes part of another.
    """
    import altair as alt

    return alt.InlineData(
        values=json.dumps([{name: _short(value) for name, value in row.items()} for row in rows])
    )


def escaped(field: str) -> str:
    """The name of a field as Altair takes it: colons, dots and brackets have a meaning there."""
    for sign in "\\:.[]":
        field = field.replace(sign, f"\\{sign}")
    return field


def points(
    rows: Rows, x: Axis, y: Axis, series: str = "", *, more: Sequence[Axis] = (), size: int = 60
) -> Chart:
    """A point for each row, its colour and shape by `series`. more: further lines of the tooltip."""
    chart = _based(rows).mark_point(filled=True, size=size, opacity=0.8)
    return _encoded(chart, rows, x, y, series, more, shape=True)


def lines(
    rows: Rows,
    x: Axis,
    y: Axis,
    series: str = "",
    *,
    band: tuple[str, str] | None = None,
    more: Sequence[Axis] = (),
) -> Chart:
    """A line through the rows in the order of x, one for every series, with its points. band: fields of its edges."""
    import altair as alt

    drawn = _encoded(_based(rows).mark_line(strokeWidth=2), rows, x, y, series, (), order=x.field)
    marked = points(rows, x, y, series, more=more, size=36)
    if band is None:
        return alt.layer(drawn, marked)
    low, high = band
    area = (
        _based(rows)
        .mark_area(opacity=0.2)
        .encode(
            x=x.encoded("x"),
            y=Axis(low, y.title, y.log, y.format, y.zero, within=y.within).encoded("y"),
            y2=f"{escaped(high)}:Q",
        )
    )
    if series:
        area = area.encode(color=_coloured(rows, series))
    return alt.layer(area, drawn, marked)


def errors(
    rows: Rows, x: Axis, y: Axis, spread: str, series: str = "", *, more: Sequence[Axis] = ()
) -> Chart:
    """As `lines`, with whiskers of `spread`, a field, up and down."""
    import altair as alt

    reaching = [
        {**row, "from": row[y.field] - (row[spread] or 0.0), "to": row[y.field] + (row[spread] or 0.0)}
        for row in rows
    ]
    if y.log:
        # Such an axis has no place for what is not above 0: a whisker ends where the lowest of the others does.
        shown = [value for row in reaching for value in (row["from"], row[y.field]) if value > 0]
        reaching = [{**row, "from": max(row["from"], min(shown, default=0.0))} for row in reaching]
    low = Axis("from", y.title or y.field, y.log, y.format, y.zero, within=y.within)
    whiskers = (
        _based(reaching).mark_rule(strokeWidth=1.5).encode(x=x.encoded("x"), y=low.encoded("y"), y2="to:Q")
    )
    if series:
        whiskers = whiskers.encode(color=_coloured(rows, series))
    return alt.layer(whiskers, lines(reaching, x, y, series, more=more))


def strips(rows: Rows, arm: Axis, y: Axis, *, paired: str = "", more: Sequence[Axis] = ()) -> Chart:
    """For every arm, side by side, a point for each row and a line at their mean. arm: a nominal axis.

    paired: a field; faint lines join the points that are alike in it, such as those of one rng_seed.
    """
    import altair as alt

    dots = points(rows, arm, y, arm.field, more=more)
    means = (
        _based(rows)
        .mark_tick(thickness=2, size=36, color="currentColor")
        .encode(
            x=arm.encoded("x"),
            y=alt.Y(f"mean({escaped(y.field)}):Q", title=y.title or y.field, scale=y.scale),
        )
    )
    if not paired:
        return _without_legend(alt.layer(means, dots))
    joined = _based(rows).mark_line(strokeWidth=1, opacity=0.4, color=FAINT)
    joined = joined.encode(x=arm.encoded("x"), y=y.encoded("y"), detail=f"{escaped(paired)}:N")
    return _without_legend(alt.layer(joined, means, dots))


def bars(rows: Rows, x: Axis, y: Axis, series: str = "", *, more: Sequence[Axis] = ()) -> Chart:
    """A bar for each row, stacked by `series`."""
    return _encoded(_based(rows).mark_bar(), rows, x, y, series, more)


def cells(rows: Rows, x: Axis, y: Axis, value: Axis) -> Chart:
    """A cell for each row at x and y, which are ordinal, the darker the larger its value."""
    import altair as alt

    colour = alt.Color(
        f"{escaped(value.field)}:Q", title=value.title or value.field, scale=alt.Scale(scheme="blues")
    )
    return (
        _based(rows)
        .mark_rect()
        .encode(x=x.encoded("x"), y=y.encoded("y"), color=colour, tooltip=[x.told(), y.told(), value.told()])
    )


def leads(rows: Rows, arm: Axis, lead: Axis, low: str, high: str, *, more: Sequence[Axis] = ()) -> Chart:
    """For every row, one below the other, a point at its lead and a line over its interval; dashed where nobody leads.

    arm: a nominal axis. low, high: fields of the ends of the interval, None where there is none.
    """
    import altair as alt

    y = alt.Y(f"{escaped(arm.field)}:N", sort=None, title=arm.title or None, axis=alt.Axis(labelLimit=300))
    based = _based(rows)
    told = [arm.told(), lead.told(), Axis(low, "from").told(), Axis(high, "to").told()]
    begin = Axis(low, lead.title or lead.field, format=lead.format)
    reach = based.mark_rule(strokeWidth=2, color=COLOURS[0])
    reach = reach.encode(x=begin.encoded("x"), x2=f"{escaped(high)}:Q", y=y)
    dots = based.mark_point(filled=True, size=80, opacity=1, color=COLOURS[0])
    dots = dots.encode(x=lead.encoded("x"), y=y, tooltip=[*told, *(axis.told() for axis in more)])
    even = alt.Chart(data_of([{"at": 0}])).mark_rule(strokeDash=[5, 4], color=FAINT, strokeWidth=1.5)
    chart = alt.layer(even.encode(x="at:Q"), reach, dots)
    return chart.properties(height=max(60, 30 * len(rows)))


def rule(value: float, name: str, *, vertical: bool = False, colour: str = FAINT) -> Chart:
    """A dashed line at a value of the y axis, or of the x axis, with its name; to be layered over a chart."""
    import altair as alt

    place = "x" if vertical else "y"
    data = data_of([{"at": value, "name": name}])
    line = alt.Chart(data).mark_rule(strokeDash=[5, 4], color=colour, strokeWidth=1.5)
    line = line.encode(**{place: "at:Q"}, tooltip=[alt.Tooltip("name:N", title="line"), alt.Tooltip("at:Q")])
    side: dict[str, Any] = (
        {"align": "left", "dx": 4, "y": 8} if vertical else {"align": "left", "dy": -6, "x": 4}
    )
    named = {place: "at:Q", "text": "name:N"}
    text = alt.Chart(data).mark_text(fontSize=11, color="currentColor", **side).encode(**named)
    # In the colour of the page's ground, so that curves do not run through the name.
    behind = (
        alt.Chart(data)
        .mark_text(fontSize=11, stroke=GROUND, strokeWidth=4, color=GROUND, **side)
        .encode(**named)
    )
    return alt.layer(line, behind, text)


def span(low: float, high: float, *, colour: str = FAINT) -> Chart:
    """A shaded range of the x axis; to be layered under a chart."""
    import altair as alt

    data = data_of([{"from": low, "to": high}])
    return alt.Chart(data).mark_rect(opacity=0.15, color=colour).encode(x="from:Q", x2="to:Q")


def layered(*charts: Chart) -> Chart:
    """One over the other, on the same axes."""
    import altair as alt

    return alt.layer(*charts)


def beside(charts: Mapping[str, Chart], *, same_y: bool = True, columns: int = 3) -> Chart:
    """Under titles side by side, as many as fit in a row. same_y: whether they share the scale of their y axis."""
    import altair as alt

    wide = max(150, WIDTH // min(columns, len(charts)) - 60)
    each = [chart.properties(title=title, width=wide, height=220) for title, chart in charts.items()]
    joined = alt.concat(*each, columns=columns)
    return joined.resolve_scale(y="shared" if same_y else "independent")


def specification(chart: Chart, width: int = WIDTH) -> dict[str, Any]:
    """The Vega-Lite of a chart, in the colour of the text around it. Rows without a value on an axis are left out."""
    if not _is_joined(chart):
        chart = chart.properties(width=width)
        chart = chart if _has_height(chart) else chart.properties(height=HEIGHT)
    found: dict[str, Any] = chart.to_dict()
    found.pop("$schema", None)
    found["datasets"] = {name: json.loads(rows) for name, rows in found.get("datasets", {}).items()}
    faint = {"gridColor": "currentColor", "gridOpacity": 0.12, "domainColor": FAINT, "tickColor": FAINT}
    ink = {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "labelFontSize": 12,
        "titleFontSize": 12,
    }
    found["background"] = None
    found["config"] = {
        "aria": False,  # a page says in words what is seen; every point by itself would say it a thousand times
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {**faint, **ink, "titleFontWeight": "normal", "labelOverlap": True, "labelSeparation": 5},
        "legend": {
            **ink,
            "titleFontWeight": "normal",
            "orient": "bottom",
            "columns": 3,
            "labelLimit": 260,
            "symbolOpacity": 1,
        },
        "title": {"color": "currentColor", "fontSize": 13, "fontWeight": "normal"},
        "header": {"labelColor": "currentColor", "titleColor": "currentColor"},
        "mark": {"color": COLOURS[0]},
    }
    return found


def _based(rows: Rows) -> Any:
    import altair as alt

    return alt.Chart(data_of(rows))


def _short(value: Any) -> Any:
    """A number with as many digits as a chart can show; no JSON has what is not finite."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if value - value == 0 else None
    return value


def _encoded(
    chart: Any,
    rows: Rows,
    x: Axis,
    y: Axis,
    series: str,
    more: Sequence[Axis],
    *,
    shape: bool = False,
    order: str = "",
) -> Chart:
    import altair as alt

    lines_of_tooltip = [alt.Tooltip(f"{escaped(series)}:N", title=series)] if series else []
    chart = chart.encode(
        x=x.encoded("x"),
        y=y.encoded("y"),
        tooltip=[*lines_of_tooltip, x.told(), y.told(), *(axis.told() for axis in more)],
    )
    if series:
        chart = chart.encode(color=_coloured(rows, series))
        if shape:
            names = _names(rows, series)
            marks = [SHAPES[number % len(SHAPES)] for number in range(len(names))]
            scale = alt.Scale(domain=names, range=marks)
            chart = chart.encode(shape=alt.Shape(f"{escaped(series)}:N", title=None, scale=scale))
    if order:
        chart = chart.encode(order=f"{escaped(order)}:Q")
    return chart


def _names(rows: Rows, series: str) -> list[str]:
    return [*dict.fromkeys(str(row[series]) for row in rows)]


def _coloured(rows: Rows, series: str) -> Any:
    """A colour for every name, in the order in which they come, whatever else is on the page."""
    import altair as alt

    names = _names(rows, series)
    scale = alt.Scale(domain=names, range=[COLOURS[number % len(COLOURS)] for number in range(len(names))])
    return alt.Color(f"{escaped(series)}:N", title=None, scale=scale)


def _without_legend(chart: Any) -> Chart:
    """Where names stand on an axis, a legend says them twice."""
    for layer in chart.layer:
        for channel in ("color", "shape"):
            if (encoding := getattr(layer.encoding, channel, None)) is not None and hasattr(
                encoding, "legend"
            ):
                encoding.legend = None
    return chart


def _is_joined(chart: Any) -> bool:
    return (
        any(hasattr(chart, name) for name in ("concat", "hconcat", "vconcat", "facet"))
        and not hasattr(chart, "layer")
        and not hasattr(chart, "mark")
    )


def _has_height(chart: Any) -> bool:
    import altair as alt

    return getattr(chart, "height", alt.Undefined) is not alt.Undefined
