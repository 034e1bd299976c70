"""The connections of a network as rows of the smallest arrays that a loop in C walks through.

What a group computes has at most two parts: from the inputs, and from hidden units, whose groups are numbered through.
Each part has a row for every unit of the group, and takes the coding of fewest bytes, values included:

    full     every source between the first and the last one used, with value 0 where there is no connection
    sources  of each entry its source, in the smallest unsigned type
    gaps     of each entry how far its source lies behind that of the entry before, in one byte; a row starts at the
             first source of the part. Where a byte is not enough, entries of value 0 and gap 255 come in between

Rows of `sources` and `gaps` differ in length, and say how many entries they have.

Of feature maps a group has a part for each group that it takes taps from, where a source is a map seen at an offset
(window² · map + offset); neurons have one from hidden neurons and means of maps, which structnet.export.map_layout
numbers through, and one for each group whose maps they read position by position.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from structnet.export.map_layout import Layout
from structnet.network.topology import Topology

FLOAT_BYTES = 4
FULL, SOURCES, GAPS = "full", "sources", "gaps"
INPUT, HIDDEN, TAPS, POSITIONS = "input", "hidden", "taps", "positions"
LARGEST_GAP = 255


@dataclass(frozen=True, eq=False)
class Part:
    """What a group takes from the inputs or from hidden units, row after row.

    group: whose units are the rows. kind: what its sources are, inputs, hidden units, which are numbered from the first
    hidden group on, taps or positions; origin: of the last two, the group of their maps, else -1. first: the source
    that rows of `full` and `gaps` start at, and `sources` count from. span: entries of each row of `full`. counts:
    (rows,) entries of each other row. steps: (entries,) its sources or gaps. places: (entries,) which connection of the
    topology it is, -1 for none. bytes: of values, steps and counts.
    """

    group: int
    kind: str
    origin: int
    coding: str
    first: int
    span: int
    counts: np.ndarray
    steps: np.ndarray
    places: np.ndarray
    bytes: int

    @property
    def from_input(self) -> bool:
        """Whether its sources are inputs."""
        return self.kind == INPUT

    @property
    def entries(self) -> int:
        """Multiply-adds of this part, of maps at each position."""
        return len(self.places)

    def filled(self, values: np.ndarray) -> np.ndarray:
        """(entries,) of values of all connections; 0 where an entry is no connection."""
        found: np.ndarray = np.where(self.places < 0, values.dtype.type(0), values[self.places])
        return found

    @property
    def prefix(self) -> str:
        """What the names of its tables begin with."""
        return f"g{self.group}_{self.kind}{self.origin if self.origin >= 0 else ''}"

    def tables(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Its tables by name, of values of all connections."""
        found = {f"{self.prefix}_weights": self.filled(values)}
        if self.coding != FULL:
            found |= {f"{self.prefix}_counts": self.counts, f"{self.prefix}_{self.coding}": self.steps}
        return found


class _Cells(NamedTuple):
    """The connections of a part, by row and then by source.

    columns: from the first source that is used. gaps: to the source before, in each row from column 0 on. fillers:
    entries that come before each connection where gaps are bytes. lengths, stretched: entries of each row without and
    with them.
    """

    group: int
    kind: str
    origin: int
    places: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    first: int
    gaps: np.ndarray
    fillers: np.ndarray
    lengths: np.ndarray
    stretched: np.ndarray

    @property
    def span(self) -> int:
        return int(self.columns.max()) + 1

    def bytes_by_coding(self, value_bytes: int) -> dict[str, int]:
        """The codings, from the fastest to the slowest."""
        rows, count = len(self.lengths), len(self.places)
        return {
            FULL: rows * self.span * value_bytes,
            SOURCES: count * (value_bytes + _width(self.span - 1)) + rows * _width(self.lengths.max()),
            GAPS: (count + int(self.fillers.sum())) * (value_bytes + 1) + rows * _width(self.stretched.max()),
        }


def parts_of(
    topology: Topology, value_bytes: int = FLOAT_BYTES, layout: Layout | None = None
) -> list[list[Part]]:
    """The parts of each group behind the input, of values of so many bytes; that of the inputs first.

    layout: of a network with maps, if it is not the usual one.
    """
    parts: list[list[Part]] = [[] for _ in range(topology.groups - 1)]
    for cells in _cells_of(topology, layout):
        sizes = cells.bytes_by_coding(value_bytes)
        coding = min(sizes, key=lambda name: sizes[name])
        parts[cells.group - 1].append(_packed(cells, coding, sizes[coding]))
    return parts


def packed_bytes(topology: Topology, value_bytes: int = FLOAT_BYTES) -> int:
    """Of all parts, and of the biases and shapes of units, where each value takes so many bytes."""
    rows = sum(min(cells.bytes_by_coding(value_bytes).values()) for cells in _cells_of(topology))
    return rows + value_bytes * topology.unit_parameters


def smallest(numbers: np.ndarray) -> np.ndarray:
    """Integers in the smallest type that holds them all: unsigned where none is negative."""
    least, most = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, 0)
    # A signed type holds one number more below 0 than above it.
    return numbers.astype(np.min_scalar_type(most if least >= 0 else min(least, -most - 1)))


def _cells_of(topology: Topology, layout: Layout | None = None) -> Iterator[_Cells]:
    """Of each part that has connections."""
    if topology.architecture.has_maps:
        yield from _cells_of_maps(layout or Layout(topology))
        return
    inputs = topology.architecture[0]
    # Targets rise from group to group, and within one the connections from the input come first.
    bounds = np.searchsorted(topology.target, topology.offsets[1:])
    for group, (start, stop) in enumerate(pairwise(bounds), start=1):
        middle = start + np.searchsorted(topology.source[start:stop], inputs)
        for kind, low, high in ((INPUT, start, middle), (HIDDEN, middle, stop)):
            if low < high:
                sources = topology.source[low:high]
                if kind == HIDDEN:
                    sources = sources - np.int32(inputs)
                yield _cells(topology, group, (kind, -1), np.arange(low, high), sources)


def _cells_of_maps(layout: Layout) -> Iterator[_Cells]:
    topology, shape = layout.topology, layout.shape
    for group in range(1, topology.groups):
        links = [link for link in topology.links if link[1] == group]
        if group in layout.sheets:
            for link in links:
                span = topology.span_of(link)
                places, columns = np.arange(span.start, span.stop), topology.positions(link)[1]
                yield _cells(topology, group, (TAPS, link[0]), places, columns)
            continue
        for link in links:
            if not shape.is_plain(link[0]):
                places, columns = layout.positions(link)
                if len(places):
                    yield _cells(topology, group, (POSITIONS, link[0]), places, columns)
        found = [layout.neurons(link) for link in links]
        if sum(len(places) for places, _ in found):
            places, columns = (np.concatenate(part) for part in zip(*found))
            yield _cells(topology, group, (HIDDEN, -1), places, columns)


def _cells(
    topology: Topology, group: int, origin: tuple[str, int], places: np.ndarray, sources: np.ndarray
) -> _Cells:
    """Of these connections, link after link; sources: by the numbers of their kind."""
    units = topology.units_of(group)
    rows = topology.target[places] - np.int32(units.start)
    if np.any(rows[1:] < rows[:-1]):  # several links, each of them row by row
        order = np.argsort(rows, kind="stable")
        rows, sources, places = rows[order], sources[order], places[order]
    first = int(sources.min())
    columns = sources - sources.dtype.type(first)
    gaps = columns.copy()
    gaps[1:] -= np.where(rows[1:] == rows[:-1], columns[:-1], 0)
    fillers = (np.maximum(gaps, 1) - 1) // LARGEST_GAP
    lengths = np.bincount(rows, minlength=units.stop - units.start)
    extra = fillers.nonzero()[0]
    stretched = lengths
    if len(extra):
        stretched = lengths + np.bincount(rows[extra], fillers[extra], len(lengths)).astype(np.int64)
    return _Cells(group, *origin, places, rows, columns, first, gaps, fillers, lengths, stretched)


def _packed(cells: _Cells, coding: str, size: int) -> Part:
    none = np.empty(0, dtype=np.uint8)
    span, counts, steps, places = 0, none, none, cells.places
    if coding == FULL:
        span = cells.span
        places = np.full(len(cells.lengths) * span, -1)
        places[cells.rows.astype(np.int64) * span + cells.columns] = cells.places
    elif coding == SOURCES:
        counts, steps = smallest(cells.lengths), smallest(cells.columns)
    else:
        counts = smallest(cells.stretched)
        ends = np.cumsum(cells.fillers + 1) - 1
        places = np.full(ends[-1] + 1, -1)
        places[ends] = cells.places
        steps = np.full(len(places), LARGEST_GAP, dtype=np.uint8)
        steps[ends] = cells.gaps - LARGEST_GAP * cells.fillers
    return Part(cells.group, cells.kind, cells.origin, coding, cells.first, span, counts, steps, places, size)


def _width(most: int | np.integer) -> int:
    """Bytes of the smallest unsigned type that holds this number."""
    return np.min_scalar_type(int(most)).itemsize
