"""The connections of a network as rows of the smallest arrays that a loop in C walks through.

What a group computes has at most two parts: from the inputs, and from hidden units, whose groups are numbered through.
Each part has a row for every unit of the group, and takes the coding of fewest bytes, values included:

    full     every source between the first and the last one used, with value 0 where there is no connection
    sources  of each entry its source, in the smallest unsigned type
    gaps     of each entry how far its source lies behind that of the entry before, in one byte; a row starts at the
             first source of the part. Where a byte is not enough, entries of value 0 and gap 255 come in between

Rows of `sources` and `gaps` differ in length, and say how many entries they have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from structnet.network.topology import Topology

FLOAT_BYTES = 4
FULL, SOURCES, GAPS = "full", "sources", "gaps"
LARGEST_GAP = 255


@dataclass(frozen=True, eq=False)
class Part:
    """What a group takes from the inputs or from hidden units, row after row.

    group: whose units are the rows. from_input: whether sources are inputs; else they are hidden units, numbered from
    the first hidden group on. first: the source that rows of `full` and `gaps` start at, and `sources` count from.
    span: entries of each row of `full`. counts: (rows,) entries of each other row. steps: (entries,) its sources or
    gaps. places: (entries,) which connection of the topology it is, -1 for none. bytes: of values, steps and counts.
    """

    group: int
    from_input: bool
    coding: str
    first: int
    span: int
    counts: np.ndarray
    steps: np.ndarray
    places: np.ndarray
    bytes: int

    @property
    def entries(self) -> int:
        """Multiply-adds of this part."""
        return len(self.places)

    def filled(self, values: np.ndarray) -> np.ndarray:
        """(entries,) of values of all connections; 0 where an entry is no connection."""
        found: np.ndarray = np.where(self.places < 0, values.dtype.type(0), values[self.places])
        return found

    @property
    def prefix(self) -> str:
        """What the names of its tables begin with."""
        return f"g{self.group}_{'input' if self.from_input else 'hidden'}"

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
    from_input: bool
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


def parts_of(topology: Topology, value_bytes: int = FLOAT_BYTES) -> list[list[Part]]:
    """The parts of each group behind the input, of values of so many bytes; that of the inputs first."""
    parts: list[list[Part]] = [[] for _ in range(topology.groups - 1)]
    for cells in _cells_of(topology):
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


def _cells_of(topology: Topology) -> Iterator[_Cells]:
    """Of each part that has connections."""
    inputs = topology.architecture[0]
    # Targets rise from group to group, and within one the connections from the input come first.
    bounds = np.searchsorted(topology.target, topology.offsets[1:])
    for group, (start, stop) in enumerate(pairwise(bounds), start=1):
        middle = start + np.searchsorted(topology.source[start:stop], inputs)
        for from_input, low, high in ((True, start, middle), (False, middle, stop)):
            if low < high:
                yield _cells(topology, group, from_input, int(low), int(high))


def _cells(topology: Topology, group: int, from_input: bool, low: int, high: int) -> _Cells:
    units = topology.units_of(group)
    rows = topology.target[low:high] - np.int32(units.start)
    sources = topology.source[low:high]
    places = np.arange(low, high)
    if np.any(rows[1:] < rows[:-1]):  # several links, each of them row by row
        order = np.argsort(rows, kind="stable")
        rows, sources, places = rows[order], sources[order], places[order]
    least = int(sources.min())
    columns = sources - np.int32(least)
    gaps = columns.copy()
    gaps[1:] -= np.where(rows[1:] == rows[:-1], columns[:-1], 0)
    fillers = (np.maximum(gaps, 1) - 1) // LARGEST_GAP
    lengths = np.bincount(rows, minlength=units.stop - units.start)
    extra = fillers.nonzero()[0]
    stretched = lengths
    if len(extra):
        stretched = lengths + np.bincount(rows[extra], fillers[extra], len(lengths)).astype(np.int64)
    first = least if from_input else least - topology.architecture[0]
    return _Cells(group, from_input, places, rows, columns, first, gaps, fillers, lengths, stretched)


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
    return Part(cells.group, cells.from_input, coding, cells.first, span, counts, steps, places, size)


def _width(most: int | np.integer) -> int:
    """Bytes of the smallest unsigned type that holds this number."""
    return np.min_scalar_type(int(most)).itemsize
