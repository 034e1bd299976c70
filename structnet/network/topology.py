"""Who is connected to whom, and where what belongs to it lies: a network without its values, as plain arrays.

A network is an ordered list of groups of units. Units are numbered through: group 0 (the input) first, the
output last. A connection joins a unit to a unit of any later group. Connections are kept sorted by
(target group, source group, target unit, source unit), so that each link - all connections from one group to
another - is one contiguous slice, and within it the rows of a CSR matrix follow each other.

All values of a network lie in one flat vector: the connections in this order, then the biases of all units but the
input, then, where an activation has numbers of its own, those of all hidden units, unit after unit. Where a value lies,
how many there are and what a link has room for is said here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from structnet.errors import UserError

if TYPE_CHECKING:
    import torch

    from structnet.compiled.plan import Plan

ALLOCATIONS = ("proportional", "uniform", "dense_output")
Flat = TypeVar("Flat", np.ndarray, "torch.Tensor")


@dataclass(frozen=True)
class Topology:
    """Groups and connections.

    architecture: units per group, input first. source, target: (connections,) int32 unit numbers, sorted as
    above and without duplicates. shape_numbers: of each hidden unit, that shape its activation. Build one with
    `Topology.sorted` unless the order is already known.
    """

    architecture: tuple[int, ...]
    source: np.ndarray
    target: np.ndarray
    shape_numbers: int = 0

    @classmethod
    def sorted(
        cls, architecture: Sequence[int], source: np.ndarray, target: np.ndarray, shape_numbers: int = 0
    ) -> tuple[Topology, np.ndarray]:
        """The topology of these connections, and the order that sorts them: sorted = given[order].

        Raises ValueError for a connection that is doubled, runs backwards or stays inside its group.
        """
        sizes = tuple(int(size) for size in architecture)
        bare = cls(sizes, np.asarray(source, dtype=np.int32), np.asarray(target, dtype=np.int32))
        order = np.argsort(_checked(bare), kind="stable")
        ordered = cls(sizes, bare.source[order], bare.target[order], shape_numbers)
        _check_single(ordered)
        return ordered, order

    def joined_by(self, source: np.ndarray, target: np.ndarray) -> tuple[Topology, np.ndarray]:
        """The topology with more connections, and the order of mine followed by these; as `sorted`, but a merge."""
        more = Topology(
            self.architecture, np.asarray(source, dtype=np.int32), np.asarray(target, dtype=np.int32)
        )
        keys = _checked(more)
        late = np.argsort(keys, kind="stable")
        places = np.searchsorted(_keys(self), keys[late])
        joined = Topology(
            self.architecture,
            np.insert(self.source, places, more.source[late]),
            np.insert(self.target, places, more.target[late]),
            self.shape_numbers,
        )
        _check_single(joined)
        return joined, np.insert(np.arange(self.connections), places, late + self.connections)

    @cached_property
    def offsets(self) -> np.ndarray:
        """(groups + 1,) number of the first unit of each group; the last entry is the number of units."""
        return np.concatenate([[0], np.cumsum(self.architecture)])

    @property
    def groups(self) -> int:
        """Groups of units, input and output included."""
        return len(self.architecture)

    @property
    def connections(self) -> int:
        """Connections that exist."""
        return len(self.source)

    @property
    def units(self) -> int:
        """Units of all groups, the input included."""
        return int(self.offsets[-1])

    @property
    def hidden(self) -> slice:
        """The numbers of the units that are neither input nor output."""
        return slice(int(self.offsets[1]), int(self.offsets[-2]))

    @property
    def bias_count(self) -> int:
        """Units that have a bias: all but the input."""
        return bias_count(self.architecture)

    @property
    def parameters(self) -> int:
        """Connections that exist + what belongs to the units that exist: biases, and shapes of activations."""
        return self.connections + self.unit_parameters

    @property
    def unit_parameters(self) -> int:
        """Parameters that are no connections."""
        return unit_parameters(self.architecture, self.shape_numbers)

    @cached_property
    def links(self) -> dict[tuple[int, int], slice]:
        """(source group, target group) -> the slice of the connections that belong to the link."""
        key = self.group_of(self.target) * self.groups + self.group_of(self.source)
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        stops = np.append(starts[1:], self.connections)
        return {
            (int(key[start]) % self.groups, int(key[start]) // self.groups): slice(int(start), int(stop))
            for start, stop in zip(starts, stops)
        }

    @cached_property
    def bias_spans(self) -> list[slice]:
        """Where the biases of each group lie in the flat vector; the input's entry is empty."""
        first = self.connections - self.architecture[0]
        spans = [self.units_of(group) for group in range(1, self.groups)]
        return [slice(0, 0)] + [slice(first + span.start, first + span.stop) for span in spans]

    @cached_property
    def plan(self) -> Plan:
        """As compiled steps walk through it."""
        from structnet.compiled.plan import plan_of

        return plan_of(self.architecture, self.source, self.target, self.links, self.shape_numbers)

    def bias_of(self, unit: np.ndarray) -> np.ndarray:
        """Where the biases of these units, which are no inputs, lie in the flat vector."""
        return unit - self.architecture[0] + self.connections

    def shapes_of(self, unit: np.ndarray) -> np.ndarray:
        """(units · shape_numbers,) where the numbers lie that shape the activations of these hidden units."""
        first = self.connections + self.bias_count + (unit - self.hidden.start) * self.shape_numbers
        places: np.ndarray = (first[:, None] + np.arange(self.shape_numbers)).reshape(-1)
        return places

    def split(self, flat: Flat) -> tuple[Flat, Flat]:
        """The flat vector, (parameters,), as views: values of the connections, and biases of all but the input."""
        biases = self.connections + self.bias_count
        return flat[: self.connections], flat[self.connections : biases]

    def shapes(self, flat: Flat) -> Flat:
        """The numbers that shape activations, as a view of (hidden units · shape_numbers,)."""
        return flat[self.connections + self.bias_count :]

    def span_of(self, pair: tuple[int, int]) -> slice:
        """The slice of the connections of a link; it is empty where the two groups are not linked."""
        return self.links.get(pair, slice(0, 0))

    def shape_of(self, pair: tuple[int, int]) -> tuple[int, int]:
        """n_in and n_out of a link: the units of its source and of its target group."""
        return self.architecture[pair[0]], self.architecture[pair[1]]

    def possible_of(self, pair: tuple[int, int]) -> int:
        """Connections that a link can have, whether or not its groups are linked."""
        n_in, n_out = self.shape_of(pair)
        return n_in * n_out

    def absent_of(self, pair: tuple[int, int]) -> int:
        """Connections that a link can have and does not."""
        return self.possible_of(pair) - len(self.source[self.span_of(pair)])

    def positions(self, pair: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of each connection of a link, int32: positions in its target and in its source group."""
        span = self.span_of(pair)
        row = self.target[span] - np.int32(self.offsets[pair[1]])
        return row, self.source[span] - np.int32(self.offsets[pair[0]])

    def cells(self, pair: tuple[int, int]) -> np.ndarray:
        """(connections,) int64 places of a link's connections in its flattened (n_out, n_in) matrix, ascending."""
        row, column = self.positions(pair)
        cells: np.ndarray = row.astype(np.int64) * self.architecture[pair[0]] + column
        return cells

    def ends(
        self, pair: tuple[int, int], row: np.ndarray, column: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Source and target unit numbers of the cells of a link in these rows and columns."""
        return column + self.offsets[pair[0]], row + self.offsets[pair[1]]

    def group_of(self, unit: np.ndarray | int) -> np.ndarray:
        """The group of each unit number."""
        return np.searchsorted(self.offsets, unit, side="right") - 1

    def units_of(self, group: int) -> slice:
        """The unit numbers of a group, as a slice."""
        return slice(int(self.offsets[group]), int(self.offsets[group + 1]))

    def position_in(self, group: int, unit: np.ndarray) -> np.ndarray:
        """Where in their group units lie that are known by their numbers."""
        positions: np.ndarray = unit - self.offsets[group]
        return positions

    def fan_in(self) -> np.ndarray:
        """(units,) connections that end at each unit."""
        return np.bincount(self.target, minlength=self.units)

    def fan_out(self) -> np.ndarray:
        """(units,) connections that start at each unit."""
        return np.bincount(self.source, minlength=self.units)

    def has(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Which of these pairs are connected, as booleans."""
        mine = self.source.astype(np.int64) * self.units + self.target
        return np.isin(np.asarray(source, dtype=np.int64) * self.units + target, mine)

    def possible(self) -> int:
        """Connections of the dense network with the same links; neighbouring groups count as linked."""
        pairs = set(self.links) | {(group, group + 1) for group in range(self.groups - 1)}
        return sum(self.possible_of(pair) for pair in pairs)

    @property
    def density(self) -> float:
        """Connections that exist ÷ connections possible."""
        return self.connections / max(1, self.possible())


def _keys(topology: Topology) -> np.ndarray:
    """(connections,) int64 numbers that rise in the order of connections."""
    source, target = topology.source.astype(np.int64), topology.target.astype(np.int64)
    link = topology.group_of(target) * topology.groups + topology.group_of(source)
    keys: np.ndarray = (link * topology.units + target) * topology.units + source
    return keys


def _checked(topology: Topology) -> np.ndarray:
    """The keys. Raises ValueError for a connection that runs backwards, stays in its group, or has no such unit."""
    source, target = topology.source, topology.target
    if len(source) and (
        min(source.min(), target.min()) < 0 or max(source.max(), target.max()) >= topology.units
    ):
        raise ValueError(f"a connection names a unit outside 0 … {topology.units - 1}")
    if np.any(topology.group_of(source) >= topology.group_of(target)):
        raise ValueError("a connection must run from a group to a later one")
    return _keys(topology)


def _check_single(topology: Topology) -> None:
    """Raises ValueError if a connection of a topology in order is there twice."""
    source, target = topology.source, topology.target
    if np.any((source[1:] == source[:-1]) & (target[1:] == target[:-1])):
        raise ValueError("a connection is given twice")


def bias_count(architecture: Sequence[int]) -> int:
    """Units that have a bias: all but the input."""
    return sum(architecture[1:])


def unit_parameters(architecture: Sequence[int], shape_numbers: int = 0) -> int:
    """Parameters that are no connections: biases, and so many numbers of each hidden unit."""
    return bias_count(architecture) + shape_numbers * hidden_units(architecture)


def hidden_units(architecture: Sequence[int]) -> int:
    """Units that are neither input nor output."""
    return sum(architecture[1:-1])


def possible_connections(architecture: Sequence[int]) -> int:
    """Connections of this shape with every neighbouring pair of groups fully connected."""
    return sum(n_in * n_out for n_in, n_out in pairwise(architecture))


def parameters_dense(architecture: Sequence[int], shape_numbers: int = 0) -> int:
    """Parameters of the fully connected network of this shape."""
    return possible_connections(architecture) + unit_parameters(architecture, shape_numbers)


def density_for(architecture: Sequence[int], parameters: int, shape_numbers: int = 0) -> float:
    """The density at which this shape has so many parameters."""
    own = unit_parameters(architecture, shape_numbers)
    return (parameters - own) / possible_connections(architecture)


def dense_architecture(
    architecture: Sequence[int], parameters: int, shape_numbers: int = 0
) -> tuple[int, ...]:
    """The dense network with one hidden layer whose size is nearest to so many parameters."""
    inputs, classes = architecture[0], architecture[-1]
    units = max(1, round((parameters - classes) / (inputs + classes + 1 + shape_numbers)))
    options = [(inputs, width, classes) for width in (max(1, units - 1), units, units + 1)]
    return min(options, key=lambda sizes: abs(parameters_dense(sizes, shape_numbers) - parameters))


def sizes_of(text: str) -> list[int]:
    """`784,100,10` or `784-100-10` as numbers; raises UserError for anything else."""
    try:
        return [int(part) for part in text.replace("-", ",").split(",")]
    except ValueError as error:
        raise UserError(f"architecture is '{text}', but must be sizes such as 784,100,10") from error


def check_architecture(architecture: Sequence[int]) -> tuple[int, ...]:
    """The architecture as a tuple; raises UserError unless it is at least two sizes of 1 or more."""
    sizes = tuple(int(size) for size in architecture)
    if len(sizes) < 2 or min(sizes) < 1:
        shown = ",".join(map(str, sizes))
        raise UserError(
            f"architecture is '{shown}', but must be two or more sizes of at least 1, such as 784,100,10"
        )
    return sizes
