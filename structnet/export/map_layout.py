"""Where the values of a network of feature maps lie while a C program computes it.

Maps that taps or single positions are read from lie in one array, each on a sheet: its rows, with a border of zeros as
wide as the window reaches, so that a tap never has to look where it is. What is right of a row is left of the next one,
and what is below a map is above the next one. So where source and target have the same sides, a tap is a run of
consecutive numbers times its weight. When nothing reads a group any more, others take its place.

Neurons, and the means of maps that have them, lie in a second array, one after the other.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from structnet.network.architecture import Side
from structnet.network.topology import Topology

LANES = 8  # a run is a multiple of so many numbers, which compilers turn into vectors without a rest


class Sheet(NamedTuple):
    """How the maps of a group lie: rows of `pitch` numbers, maps of `size`, the first position of each at `origin`.

    run: from its first position to its last, rounded up. block: all maps, and the border before and behind them.
    """

    high: int
    wide: int
    pitch: int
    size: int
    origin: int
    run: int
    block: int

    @classmethod
    def of(cls, units: int, side: Side, reach: int, *, is_apart: bool = False) -> Sheet:
        """is_apart: whether maps have borders of their own, whose numbers differ."""
        high, wide = side
        pitch = wide + reach
        size = (high + 2 * reach) * pitch + reach if is_apart else (high + reach) * pitch
        origin, used = reach * (pitch + 1), (high - 1) * pitch + wide
        run = -(-used // LANES) * LANES
        before = 0 if is_apart else origin
        return cls(high, wide, pitch, size, origin, run, before + units * size + run - used)

    def places(self, position: np.ndarray) -> np.ndarray:
        """Where positions of a map lie, from the start of its sheet."""
        places: np.ndarray = self.origin + position // self.wide * self.pitch + position % self.wide
        return places


class Layout:
    """What has a place in which array, by group.

    sheets: of maps. kept: the groups of maps that taps or single positions are read from, means: those whose means are,
    by neurons or by maps that are read themselves: the others need not be computed. first: where neurons, and those
    means, begin among the neurons; hidden: how many there are. is_apart: whether the maps of the input have borders of
    their own.
    """

    def __init__(self, topology: Topology, *, is_apart: bool = False) -> None:
        shape = topology.architecture
        self.topology, self.shape, self.is_apart = topology, shape, is_apart
        reach = shape.window // 2
        self.sheets = {
            group: Sheet.of(shape[group], shape.sides[group], reach, is_apart=is_apart and group == 0)
            for group in range(len(shape))
            if not shape.is_plain(group)
        }
        self.code = topology.code_of_port(topology.source)
        self.kept, self.means = set(), set()
        self._last_reader: dict[int, int] = {}
        for source, target in sorted(topology.links, key=lambda link: -link[1]):
            if source not in self.sheets or (target in self.sheets and not self.is_read(target)):
                continue
            span = topology.span_of((source, target))
            is_mean = self.code[span] == shape.window**2
            if is_mean.any():
                self.means.add(source)
            if not is_mean.all():
                self.kept.add(source)
                self._last_reader[source] = max(target, self._last_reader.get(source, 0))
        self.first: dict[int, int] = {}
        self.hidden = 0
        for group in range(len(shape) - 1):
            if group in self.means or group not in self.sheets:
                self.first[group] = self.hidden
                self.hidden += shape[group]

    @cached_property
    def starts(self) -> dict[int, int]:
        """Of groups that are kept, where their blocks begin: the lowest place that is free until nobody reads them."""
        placed: dict[int, int] = {}
        for group in sorted(self.kept):
            size = self.sheets[group].block
            taken = sorted(
                (start, start + self.sheets[other].block)
                for other, start in placed.items()
                if self._last_reader[other] >= group
            )
            at = 0
            for start, stop in taken:
                if start - at >= size:
                    break
                at = max(at, stop)
            placed[group] = at
        return placed

    @property
    def maps(self) -> int:
        """Numbers of the array of maps."""
        return max((start + self.sheets[group].block for group, start in self.starts.items()), default=0)

    @property
    def sums(self) -> int:
        """Numbers of the largest map while it is added up; of hidden maps that anything reads."""
        runs = [sheet.run for group, sheet in self.sheets.items() if group > 0 and self.is_read(group)]
        return max(runs, default=0)

    def is_read(self, group: int) -> bool:
        """Whether anything takes something from a group of maps."""
        return group in self.kept or group in self.means

    def neurons(self, link: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Of the connections of a link into neurons that start at a neuron or a mean: which, and where that lies."""
        span = self.topology.span_of(link)
        places = np.arange(span.start, span.stop)
        if link[0] in self.sheets:
            places = places[self.code[span] == self.shape.window**2]
        unit = self.topology.source_unit[places] - self.topology.offsets[link[0]]
        return places, unit + self.first.get(link[0], 0)

    def positions(self, link: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Of the connections of a link into neurons that start at a position of a map: which, and where that lies.

        Counted from where the block of its group begins.
        """
        span, sheet = self.topology.span_of(link), self.sheets[link[0]]
        places = np.arange(span.start, span.stop)
        places = places[self.code[span] > self.shape.window**2]
        unit = self.topology.source_unit[places] - self.topology.offsets[link[0]]
        return places, unit * sheet.size + sheet.places(self.code[places] - self.shape.window**2 - 1)
