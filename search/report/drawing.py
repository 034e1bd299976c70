"""A network as an SVG: groups as columns of units or of feature maps, links as ribbons, what is new in a colour.

Ribbons are the stronger the denser a link is, and the wider the more connections it has. Colours are those of the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, sqrt

from markupsafe import Markup, escape

GAP, WIDE, TALL = 150, 34, 190  # between columns, of a column, of the tallest
LEAST = 0.7  # of its width, below which what it says could not be read
MOST_DOTS, MOST_MAPS = 40, 32


@dataclass(frozen=True)
class Group:
    """A group of units, or of feature maps where there are sides. said: what stands below its number, such as `inputs`.

    idle: how many of its units are saturated or dead, as it is said.
    """

    units: int
    said: str
    sides: tuple[int, int] = (1, 1)
    is_new: bool = False
    idle: str = ""


@dataclass(frozen=True)
class Link:
    """From one group to a later one: connections that exist, and that could. added: of them, since the round before."""

    source: int
    target: int
    connections: int
    possible: int
    added: int = 0


def drawn(groups: Sequence[Group], links: Sequence[Link]) -> Markup:
    """The SVG element. A link that passes over groups goes in an arc above them."""
    heights = [_height(group) for group in groups]
    places = [40 + GAP * number for number in range(len(groups))]
    furthest = max((link.target - link.source for link in links), default=1)
    top = 12 if furthest == 1 else 26 + 7 * furthest
    tallest = max(heights)
    middle = top + tallest / 2
    most = max((link.connections for link in links), default=1)
    # What is densest comes last, on top.
    ribbons = [
        _ribbon(link, places, heights, middle, most)
        for link in sorted(links, key=lambda link: link.connections / max(1, link.possible))
    ]
    columns = [
        _column(group, x, middle, tallest, height) for group, x, height in zip(groups, places, heights)
    ]
    width, height = places[-1] + 80, round(top + tallest + 58)
    head = (
        f'<svg class="network" viewBox="0 0 {width} {height}" width="{width}" style="min-width:{LEAST * width:.0f}px" '
        'font-family="system-ui, sans-serif" font-size="12" aria-hidden="true">'
    )
    return Markup("".join([head, *ribbons, *columns, "</svg>"]))


def _height(group: Group) -> float:
    """Of a column: it grows with the logarithm of its units, so that 10 and 3,072 fit on one picture."""
    return min(TALL, 22 + 15 * log2(1 + group.units))


def _ribbon(link: Link, places: Sequence[int], heights: Sequence[float], middle: float, most: int) -> str:
    start, end = places[link.source] + WIDE / 2, places[link.target] - WIDE / 2
    share = link.connections / max(1, link.possible)
    width = 1.5 + 12.5 * sqrt(link.connections / most)
    strength = 0.2 + 0.6 * min(1.0, sqrt(share))
    if link.target - link.source == 1:
        path = f"M{start:.0f} {middle:.0f}L{end:.0f} {middle:.0f}"
    else:
        over = range(link.source, link.target + 1)
        top = middle - max(heights[number] for number in over) / 2 - 12 - 7 * (link.target - link.source)
        one, other = (middle - heights[number] * 0.35 for number in (link.source, link.target))
        path = f"M{start:.0f} {one:.0f}C{start + 60:.0f} {top:.0f} {end - 60:.0f} {top:.0f} {end:.0f} {other:.0f}"
    new = f", {link.added:,} of them new" if link.added > 0 else ""
    told = f"{link.source} → {link.target}: {link.connections:,} of {link.possible:,} connections ({share:.2g}){new}"
    ribbon = _stroke(path, "var(--mark)", width, strength, told)
    if link.added > 0:
        ribbon += _stroke(path, "var(--new)", max(1.5, width * link.added / link.connections), 0.9, told)
    if link.target - link.source > 1:
        return ribbon
    label = f'<text x="{(start + end) / 2:.0f}" y="{middle - width / 2 - 5:.0f}" text-anchor="middle">'
    added = f' <tspan fill="var(--new)">+{link.added:,}</tspan>' if 0 < link.added < link.connections else ""
    return f"{ribbon}{label}{link.connections:,}{added}</text>"


def _stroke(path: str, colour: str, width: float, strength: float, told: str) -> str:
    look = f'stroke="{colour}" stroke-width="{width:.1f}" stroke-opacity="{strength:.2f}"'
    return f'<path d="{path}" fill="none" {look}><title>{escape(told)}</title></path>'


def _column(group: Group, x: int, middle: float, tallest: float, height: float) -> str:
    colour = "var(--new)" if group.is_new else "var(--ink)"
    top = middle - height / 2
    frame = (
        f'<rect x="{x - WIDE / 2}" y="{top:.0f}" width="{WIDE}" height="{height:.0f}" rx="7" fill="var(--raised)" '
        f'stroke="{colour}" stroke-width="{2 if group.is_new else 1}"/>'
    )
    inside = (
        _maps(group, x, top, height, colour)
        if group.sides != (1, 1)
        else _dots(group, x, top, height, colour)
    )
    idle = f", {group.idle}" if group.idle else ""
    title = f"<title>{escape(f'{group.units:,} {group.said}{idle}')}</title>"
    side = f" {group.sides[0]}×{group.sides[1]}" if group.sides != (1, 1) else ""
    lines = [f"{group.units:,}{side}", group.said, *([group.idle] if group.idle else [])]
    below = round(middle + tallest / 2) + 18
    texts = "".join(
        f'<text x="{x}" y="{below + 14 * number}" text-anchor="middle"{_faint(number)}>{escape(text)}</text>'
        for number, text in enumerate(lines)
    )
    return f"<g>{title}{frame}{inside}</g>{texts}"


def _faint(number: int) -> str:
    return "" if number == 0 else ' font-size="11" style="fill:var(--faint)"'


def _dots(group: Group, x: int, top: float, height: float, colour: str) -> str:
    """A dot for every unit, in up to two columns; lines where there are too many."""
    if group.units > MOST_DOTS:
        lines = range(int(height // 5) - 1)
        marks = "".join(f"M{x - 9} {top + 6 + 5 * number:.0f}h18" for number in lines)
        return f'<path d="{marks}" stroke="{colour}" stroke-opacity=".45"/>'
    columns = 1 if group.units <= 12 else 2
    rows = -(-group.units // columns)
    apart = (height - 12) / max(1, rows)
    radius = min(5.0, apart / 2.4)
    return "".join(
        f'<circle cx="{x + (number % columns - (columns - 1) / 2) * 13:.1f}" '
        f'cy="{top + 6 + apart * (number // columns + 0.5):.1f}" r="{radius:.1f}" fill="{colour}" fill-opacity=".7"/>'
        for number in range(group.units)
    )


def _maps(group: Group, x: int, top: float, height: float, colour: str) -> str:
    """A grid for every map, the finer the larger its sides."""
    shown = min(group.units, MOST_MAPS)
    columns = 1 if shown <= 6 else 2
    rows = -(-shown // columns)
    side = min(22.0 / columns, (height - 8) / rows - 2)
    cells = max(1, min(4, round(log2(max(group.sides)))))
    step = side / cells
    marks = []
    for number in range(shown):
        left = x + (number % columns - (columns - 1) / 2) * (side + 2) - side / 2
        up = top + 4 + (height - 8) / rows * (number // columns + 0.5) - side / 2
        inner = "".join(
            f"M{left + step * line:.1f} {up:.1f}v{side:.1f}M{left:.1f} {up + step * line:.1f}h{side:.1f}"
            for line in range(1, cells)
        )
        marks.append(f"M{left:.1f} {up:.1f}h{side:.1f}v{side:.1f}h-{side:.1f}z{inner}")
    return (
        f'<path d="{"".join(marks)}" fill="none" stroke="{colour}" stroke-opacity=".65" stroke-width=".7"/>'
    )
