"""Sheets: networks of feature maps as plain arrays, in the order in which compiled steps walk through them.

A workspace is one vector of rows, each a position of a map with all images of a block. A map lies on a *sheet*: its
positions, row by row, with a border of zeros as wide as the window reaches, so that a tap never has to look where it
is. A link whose target has other sides than its source reads *views*: sheets with the sides of the target, one for each
remainder by which the stride divides an offset, onto which the positions of the source are copied. Then every tap is a
run of consecutive numbers, times its weight, added to another: source and target lie apart by a constant. A mean is a
view of one row. A neuron is a sheet of one row, and what is fully connected needs no rule of its own.

Forward, taps that end at one map follow each other in the flat vector, a *run*. Backward, the error of a sheet is a sum
over the taps that leave it, which are listed once more, *place* by place: sheets, views, and single positions that flat
links read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from structnet.network.architecture import POINT, Architecture, Side

# Columns of Sheets.members. FIRST_...: where what belongs to the member begins in the array of that name.
FIRST_PARAMETER, CONNECTIONS, FIRST_UNIT, FIRST_GROUP, FIRST_VIEW, FIRST_RUN = range(6)
FIRST_CONNECTION, FIRST_PLACE, FIRST_OUT, ROWS, MAP_ROWS, PARAMETERS = range(6, 12)
# Columns of Sheets.groups. ROW: of the first sheet. SHEET: rows of each. ORIGIN: its row of the first position.
ROW, UNITS, SHEET, ORIGIN, PITCH, HIGH, WIDE, UNIT, RUN, RUN_STOP = range(10)
VIEW, VIEW_STOP, PLACE, PLACE_STOP = range(10, 14)
# Columns of Sheets.views. VIEW_ROW: of the first position of the first unit. Its position (y, x), from TOP and LEFT to
# BOTTOM and RIGHT, is row FROM + STEP_DOWN · y + STEP_RIGHT · x of the source.
VIEW_ROW, VIEW_UNITS, VIEW_SHEET, VIEW_PITCH, TOP, BOTTOM, LEFT, RIGHT = range(8)
FROM, FROM_SHEET, STEP_DOWN, STEP_RIGHT, IS_MEAN = range(8, 13)
# Columns of Sheets.places: rows and columns of positions from AT on, PITCH_AT apart. ALIKE_AT: how many places from it
# on are read by the same rows.
AT, HIGH_AT, WIDE_AT, PITCH_AT, OUT_STOP, ALIKE_AT = range(6)


class Sheets(NamedTuple):
    """Several networks, one after the other, as a structnet.compiled.plan.Plan tells those without maps.

    members: (members + 1, 12), groups: (groups, 14), views: (views, 13), places: (places, 6), int64, columns as above;
    the input is a group too. target, stop: (runs,) int64 row where the target begins, and the connection behind the
    last; is_later: whether an earlier run ends there too; alike: how many runs from it on read the same rows. fed:
    (units behind the input,) whether some run does. row: (connections,) int64 row where each source begins.
    out_connection, out_row: what leaves the places, and the row of its target for the first position of its place.
    features: numbers of an image, the first rows of every workspace.
    """

    members: np.ndarray
    groups: np.ndarray
    views: np.ndarray
    target: np.ndarray
    stop: np.ndarray
    is_later: np.ndarray
    alike: np.ndarray
    fed: np.ndarray
    row: np.ndarray
    places: np.ndarray
    out_connection: np.ndarray
    out_row: np.ndarray
    features: np.ndarray

    @property
    def rows(self) -> int:
        """Of the workspace of the largest member."""
        return int(self.members[:-1, ROWS].max())

    @property
    def map_rows(self) -> int:
        """Of these, before the first view: the sheets of groups."""
        return int(self.members[:-1, MAP_ROWS].max())

    @property
    def cells(self) -> int:
        """Of matrices that are made for a moment: none."""
        return 0


class Wiring(NamedTuple):
    """A network as a structnet.network.topology.Topology tells it.

    source, target, code: (connections,) of each the units it joins, and the number of its port among those of its
    source.
    """

    architecture: Architecture
    source: np.ndarray
    target: np.ndarray
    code: np.ndarray
    links: Mapping[tuple[int, int], slice]
    parameters: int


def sheets_of(wiring: Wiring) -> Sheets:
    """The plan of one network."""
    return _Layout(wiring).sheets()


class _View(NamedTuple):
    """A view of a group's maps for targets of these sides, at a remainder of the stride; or its means."""

    group: int
    side: tuple[int, int] = POINT
    remainder: tuple[int, int] = (0, 0)
    is_mean: bool = False


class _Layout:
    """Gives rows to all that has some, and says how it is walked through."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring, self.shape = wiring, wiring.architecture
        self.offsets = np.concatenate([[0], np.cumsum(self.shape)])
        self.views: dict[_View, int] = {}
        shape, self.border = self.shape, self.shape.window // 2
        if any(self._reaches_over(pair) for pair in wiring.links):
            # Positions beyond the sides of a target are seen from as far beyond again, backward.
            self.border *= 2
        self.first, self.rows = [0], shape.inputs
        for group in range(1, len(shape)):
            self.first.append(self.rows)
            self.rows += shape[group] * self.sheet(shape.sides[group])
        self.map_rows = self.rows

    def sheets(self) -> Sheets:
        wiring, shape = self.wiring, self.shape
        source_group, target_group = (
            np.searchsorted(self.offsets, units, side="right") - 1 for units in (wiring.source, wiring.target)
        )
        row, ends = (np.empty(len(wiring.source), dtype=np.int64) for _ in range(2))
        place = np.empty((len(row), 4), dtype=np.int64)
        for pair, span in wiring.links.items():
            row[span], place[span] = self._sources(pair, span)
            first, sheet, _ = self.source(pair[1])
            ends[span] = first + (wiring.target[span] - self.offsets[pair[1]]) * sheet
        link = target_group * len(shape) + source_group
        last = np.flatnonzero((np.diff(ends, append=-1) != 0) | (np.diff(link, append=-1) != 0))
        is_later = ~np.isin(np.arange(len(last)), np.unique(ends[last], return_index=True)[1])
        order = np.lexsort((place[:, 1] * place[:, 2], place[:, 0], source_group))
        last_out = np.flatnonzero((np.diff(place[order], axis=0, append=-1) != 0).any(axis=1))
        # A source lies as far behind the place it begins at as its target does behind the row it is told by.
        out_row = (ends + place[:, 0] - row)[order]
        of_places = np.column_stack([source_group[order], place[order, 1:]])[last_out]
        alike_out = _alike(out_row, last_out + 1, place[order[last_out], 0], of_places)
        places = np.column_stack([place[order[last_out]], last_out + 1, alike_out])
        views = sorted(self.views)
        bounds = [
            np.searchsorted(of, np.arange(len(shape) + 1))
            for of in (target_group[last], [view.group for view in views], source_group[order[last_out]])
        ]
        groups = [
            (*self._group(number), *(int(at) for bound in bounds for at in bound[number : number + 2]))
            for number in range(len(shape))
        ]
        members = np.zeros((2, 12), dtype=np.int64)
        members[0, [CONNECTIONS, ROWS, MAP_ROWS, PARAMETERS]] = (
            len(row),
            self.rows,
            self.map_rows,
            wiring.parameters,
        )
        members[1, FIRST_PARAMETER] = wiring.parameters
        members[1, FIRST_UNIT:ROWS] = (
            sum(shape[1:]),
            len(groups),
            len(views),
            len(last),
            len(row),
            len(places),
            len(order),
        )
        return Sheets(
            members,
            np.array(groups, dtype=np.int64),
            np.array([self._copied(view) for view in views], dtype=np.int64).reshape(len(views), 13),
            ends[last],
            last + 1,
            is_later,
            _alike(row, last + 1, ends[last], np.column_stack([link[last], is_later])),
            np.isin(np.arange(sum(shape[1:])), wiring.target - shape[0]),
            row,
            places,
            order,
            out_row,
            np.array([shape.inputs]),
        )

    def pitch(self, side: Side) -> int:
        """Rows from a row of positions to the next."""
        return side[1] + 2 * self.border if side != POINT else 1

    def sheet(self, side: Side) -> int:
        """Rows of a sheet."""
        return (side[0] + 2 * self.border) * self.pitch(side) if side != POINT else 1

    def origin(self, side: Side) -> int:
        """The row of a sheet that its first position has."""
        return self.border * (self.pitch(side) + 1) if side != POINT else 0

    def source(self, group: int) -> tuple[int, int, int]:
        """Of a group: the row of the first position of its first map, rows of a map, and rows of a row."""
        side = self.shape.sides[group]
        if group == 0:
            return 0, side[0] * side[1], side[1]
        return self.first[group] + self.origin(side), self.sheet(side), self.pitch(side)

    def _group(self, group: int) -> tuple[int, ...]:
        side, origin = self.shape.sides[group], 0 if group == 0 else self.origin(self.shape.sides[group])
        first, sheet, pitch = self.source(group)
        behind = int(self.offsets[group]) - self.shape[0]
        return first - origin, self.shape[group], sheet, origin, pitch, *side, behind

    def _view(self, view: _View) -> int:
        """The first row of a view, which is made if it is not there yet."""
        if view not in self.views:
            self.views[view] = self.rows
            self.rows += self.shape[view.group] * self.sheet(view.side)
        return self.views[view]

    def _sources(self, pair: tuple[int, int], span: slice) -> tuple[np.ndarray, np.ndarray]:
        """Of the connections of a link: where their sources begin, and the places that these belong to."""
        shape = self.shape
        first, sheet, pitch = self.source(pair[0])
        unit = self.wiring.source[span].astype(np.int64) - self.offsets[pair[0]]
        code = self.wiring.code[span].astype(np.int64)
        if shape.is_plain(pair[1]):
            position = code - shape.window**2 - 1
            wide = shape.sides[pair[0]][1]
            row = first + unit * sheet + position // wide * pitch + position % wide
            if shape.is_plain(pair[0]):
                row = first + unit
            elif np.any(position < 0):
                means = self._view(_View(pair[0], is_mean=True))
                row = np.where(position < 0, means + unit, row)
            return row, np.column_stack([row, *np.ones((3, len(row)), dtype=np.int64)])
        down, right = shape.offset_of(code)
        side = shape.sides[pair[1]]
        if pair[0] > 0 and side == shape.sides[pair[0]]:
            place = np.broadcast_to([0, *side, pitch], (len(unit), 4)).copy()
            place[:, 0] = first + unit * sheet
            return place[:, 0] + down * pitch + right, place
        stride = shape.geometry(pair).stride
        row, place = np.empty(len(unit), dtype=np.int64), np.empty((len(unit), 4), dtype=np.int64)
        pitch, origin = self.pitch(side), self.origin(side)
        for remainder in sorted(set(zip((down % stride[0]).tolist(), (right % stride[1]).tolist()))):
            here = np.flatnonzero((down % stride[0] == remainder[0]) & (right % stride[1] == remainder[1]))
            view = _View(pair[0], side, remainder)
            begin = self._view(view) + unit[here] * self.sheet(side)
            row[here] = begin + origin + down[here] // stride[0] * pitch + right[here] // stride[1]
            (top, bottom), (left, right_end) = self._region(pair, remainder)
            place[here, 0] = begin + origin + top * pitch + left
            place[here, 1:] = bottom - top, right_end - left, pitch
        return row, place

    def _region(self, pair: tuple[int, int], remainder: Side) -> list[tuple[int, int]]:
        """Along height and width: which positions of a view, told from its origin, lie on its source."""
        shape, reach = self.shape, self.shape.window // 2
        geometry = shape.geometry(pair)
        region = []
        for axis in range(2):
            step, start = geometry.stride[axis], geometry.start[axis] + remainder[axis]
            size_in, size_out = shape.sides[pair[0]][axis], shape.sides[pair[1]][axis]
            region.append(
                (max(-reach, -(start // step)), min(size_out + reach, (size_in - 1 - start) // step + 1))
            )
        return region

    def _reaches_over(self, pair: tuple[int, int]) -> bool:
        """Whether some view of a link has positions beyond the sides of its target."""
        shape = self.shape
        if shape.is_plain(pair[1]):
            return False
        strides, sides = shape.geometry(pair).stride, shape.sides[pair[1]]
        remainders = [(down, right) for down in range(strides[0]) for right in range(strides[1])]
        regions = [self._region(pair, remainder) for remainder in remainders]
        return any(
            first < 0 or last > size for region in regions for (first, last), size in zip(region, sides)
        )

    def _copied(self, view: _View) -> tuple[int, ...]:
        """The row of Sheets.views of a view."""
        shape, first = self.shape, self.views[view]
        source, sheet, pitch = self.source(view.group)
        units = shape[view.group]
        if view.is_mean:
            high, wide = shape.sides[view.group]
            return first, units, 1, 1, 0, high, 0, wide, source, sheet, pitch, 1, 1
        pair = view.group, shape.sides.index(view.side, 1)
        geometry, ((top, bottom), (left, right)) = shape.geometry(pair), self._region(pair, view.remainder)
        (down, along), (row, column) = geometry.stride, np.add(geometry.start, view.remainder).tolist()
        rows, begin = self.sheet(view.side), first + self.origin(view.side)
        start = source + row * pitch + column
        steps = down * pitch, along
        return begin, units, rows, self.pitch(view.side), top, bottom, left, right, start, sheet, *steps, 0


def _alike(row: np.ndarray, stop: np.ndarray, begins: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """How many of some lists, from each on, are of one kind, have the same rows in the same order and are evenly apart.

    row: of all lists, one after the other. stop: (lists,) behind each, none of them empty. begins: (lists,) the row
    that each is told by. kind: (lists, numbers).
    """
    size, apart = np.diff(stop, prepend=0), np.diff(begins, prepend=begins[:1])
    before = np.maximum(np.arange(len(row)) - np.repeat(size, size), 0)
    goes_on = (
        np.logical_and.reduceat(row == row[before], stop - size) if len(stop) else np.empty(0, dtype=bool)
    )
    goes_on[1:] &= (size[1:] == size[:-1]) & (kind[1:] == kind[:-1]).all(axis=1)
    goes_on[:1] = False
    # Lists that go on from the one before at one distance, all after each other, are a stretch.
    stretch = np.cumsum(~goes_on | ~np.roll(goes_on, 1) | (apart != np.roll(apart, 1)))
    left = np.cumsum(np.bincount(stretch))[stretch] - np.arange(len(stop))
    alike = np.ones(len(stop), dtype=np.int64)
    alike[:-1] += np.where(goes_on, left, 0)[1:]
    return alike


def joined_sheets(plans: Sequence[Sheets]) -> Sheets:
    """Several plans of one network each as one."""
    if len(plans) == 1:
        return plans[0]
    members = np.stack([plan.members[0] for plan in plans] + [np.zeros(12, dtype=np.int64)])
    for column in (FIRST_PARAMETER, *range(FIRST_UNIT, ROWS)):
        members[1:, column] = np.cumsum([plan.members[1, column] for plan in plans])
    parts = [np.concatenate(part) for part in list(zip(*plans))[1:]]
    return Sheets(members, *parts)
