"""Who is connected to whom, and where what belongs to it lies: a network without its values, as plain arrays.

A network is an ordered list of groups of units. Units are numbered through: group 0 (the input) first, the
output last. A unit is a neuron, or a feature map of many positions. A connection starts at a *port* - a unit as it is
seen: of a neuron there is one, of a map one for each offset of a window (structnet.network.architecture) - and ends at
a unit of any later group. Ports are numbered through as units are, and where all groups are plain the two numbers are
the same. Connections are kept sorted by (target group, source group, target unit, source port), so that each link - all
connections from one group to another - is one contiguous slice, and within it the rows of a CSR matrix follow each
other.

All values of a network lie in one flat vector: the connections in this order, then the biases of all units but the
input, then, where an activation has numbers of its own, those of all hidden units, unit after unit. Where a value lies,
how many there are and what a link has room for is said here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from structnet.network.architecture import Architecture, architecture_of, bias_count, unit_parameters

if TYPE_CHECKING:
    import torch

    from structnet.compiled.plan import Plan
    from structnet.compiled.sheets import Sheets

ALLOCATIONS = ("proportional", "uniform", "dense_output")
Flat = TypeVar("Flat", np.ndarray, "torch.Tensor")


@dataclass(frozen=True)
class Topology:
    """Groups and connections.

    architecture: units per group, input first, and the sides of their maps. source, target: (connections,) int32
    numbers of ports and of units, sorted as above and without duplicates. shape_numbers: of each hidden unit, that
    shape its activation. Build one with `Topology.sorted` unless the order is already known.
    """

    architecture: Architecture
    source: np.ndarray
    target: np.ndarray
    shape_numbers: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "architecture", architecture_of(self.architecture))

    @classmethod
    def sorted(
        cls, architecture: Sequence[int], source: np.ndarray, target: np.ndarray, shape_numbers: int = 0
    ) -> tuple[Topology, np.ndarray]:
        """The topology of these connections, and the order that sorts them: sorted = given[order].

        Raises ValueError for a connection that is doubled, runs backwards or stays inside its group.
        """
        sizes = architecture_of(architecture)
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

    @cached_property
    def port_offsets(self) -> np.ndarray:
        """(groups + 1,) number of the first port of each group; the last entry is the number of ports."""
        return np.concatenate([[0], np.cumsum(np.multiply(self.architecture, self.architecture.port_counts))])

    @cached_property
    def source_unit(self) -> np.ndarray:
        """(connections,) int32 numbers of the units that connections start at."""
        return self.unit_of_port(self.source) if self.architecture.has_maps else self.source

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
        key = self.group_of(self.target) * self.groups + self.group_of(self.source_unit)
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

    @cached_property
    def sheets(self) -> Sheets:
        """As `plan`, of networks of feature maps."""
        from structnet.compiled.sheets import Wiring, sheets_of

        code = self.code_of_port(self.source)
        return sheets_of(
            Wiring(self.architecture, self.source_unit, self.target, code, self.links, self.parameters)
        )

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
        """n_in and n_out of a link: the ports of its source that it can start at, and the units of its target group."""
        ports = len(self.architecture.port_range(pair))
        return self.architecture[pair[0]] * ports, self.architecture[pair[1]]

    def units_joined(self, pair: tuple[int, int]) -> int:
        """Units of the source and of the target group of a link: what shares of connections are in proportion to."""
        return self.architecture[pair[0]] + self.architecture[pair[1]]

    def possible_of(self, pair: tuple[int, int]) -> int:
        """Connections of a link in a dense network, whether or not its groups are linked."""
        return self.architecture.possible(pair)

    def absent_of(self, pair: tuple[int, int]) -> int:
        """Connections that a link can have and does not."""
        n_in, n_out = self.shape_of(pair)
        return n_in * n_out - len(self.source[self.span_of(pair)])

    def positions(self, pair: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of each connection of a link, int32: positions of its target and of its source in the matrix.

        Columns are the ports that the link can start at, unit after unit.
        """
        span = self.span_of(pair)
        row = self.target[span] - np.int32(self.offsets[pair[1]])
        place = self.source[span] - np.int32(self.port_offsets[pair[0]])
        return row, self._column_of(pair, place)

    def cells(self, pair: tuple[int, int]) -> np.ndarray:
        """(connections,) int64 places of a link's connections in its flattened (n_out, n_in) matrix, ascending."""
        row, column = self.positions(pair)
        cells: np.ndarray = row.astype(np.int64) * self.shape_of(pair)[0] + column
        return cells

    def ends(
        self, pair: tuple[int, int], row: np.ndarray, column: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Source ports and target units, by their numbers, of the cells of a link in these rows and columns."""
        ports, every = self.architecture.port_range(pair), self.architecture.port_counts[pair[0]]
        if every > 1:
            column = column // len(ports) * every + column % len(ports) + ports.start
        return column + self.port_offsets[pair[0]], row + self.offsets[pair[1]]

    def _column_of(self, pair: tuple[int, int], place: np.ndarray) -> np.ndarray:
        """Columns of ports, known by their place in the group, in the matrix of a link."""
        ports, every = self.architecture.port_range(pair), self.architecture.port_counts[pair[0]]
        if every == 1:
            return place
        column: np.ndarray = place // every * len(ports) + place % every - ports.start
        return column

    def group_of(self, unit: np.ndarray | int) -> np.ndarray:
        """The group of each unit number."""
        return np.searchsorted(self.offsets, unit, side="right") - 1

    def unit_of_port(self, port: np.ndarray) -> np.ndarray:
        """The units of ports, int32 both."""
        if not self.architecture.has_maps:
            return port
        group = np.searchsorted(self.port_offsets, port, side="right") - 1
        each = np.array(self.architecture.port_counts)[group]
        unit: np.ndarray = self.offsets[group] + (port - self.port_offsets[group]) // each
        return unit.astype(np.int32)

    def code_of_port(self, port: np.ndarray) -> np.ndarray:
        """Which of its unit's ports each is, from 0."""
        code: np.ndarray = port - self.port_of(self.unit_of_port(port))
        return code

    def port_of(self, unit: np.ndarray, code: np.ndarray | int = 0) -> np.ndarray:
        """The ports of these codes of units."""
        if not self.architecture.has_maps:
            return unit
        group = self.group_of(unit)
        each = np.array(self.architecture.port_counts)[group]
        port: np.ndarray = self.port_offsets[group] + (unit - self.offsets[group]) * each + code
        return port.astype(np.int32)

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
        return np.bincount(self.source_unit, minlength=self.units)

    def has(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Which of these pairs of a port and a unit are connected, as booleans."""
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
    link = topology.group_of(target) * topology.groups + topology.group_of(topology.source_unit)
    keys: np.ndarray = (link * topology.units + target) * topology.port_offsets[-1] + source
    return keys


def _checked(topology: Topology) -> np.ndarray:
    """The keys. Raises ValueError for a connection that runs backwards, stays in its group, or has no such unit."""
    source, target = topology.source, topology.target
    if len(source) and (
        min(source.min(), target.min()) < 0
        or target.max() >= topology.units
        or source.max() >= topology.port_offsets[-1]
    ):
        raise ValueError(f"a connection names a unit outside 0 … {topology.units - 1}")
    if np.any(topology.group_of(topology.source_unit) >= topology.group_of(target)):
        raise ValueError("a connection must run from a group to a later one")
    if topology.architecture.has_maps:
        _check_ports(topology)
    return _keys(topology)


def _check_ports(topology: Topology) -> None:
    """Raises ValueError for a connection that starts at a port that its target cannot read."""
    code = topology.code_of_port(topology.source)
    source, target = topology.group_of(topology.source_unit), topology.group_of(topology.target)
    for pair in set(zip(source.tolist(), target.tolist())):
        ports, here = topology.architecture.port_range(pair), (source == pair[0]) & (target == pair[1])
        if np.any((code[here] < ports.start) | (code[here] >= ports.stop)):
            raise ValueError(
                f"a connection from group {pair[0]} to group {pair[1]} starts at a port it cannot read"
            )


def _check_single(topology: Topology) -> None:
    """Raises ValueError if a connection of a topology in order is there twice."""
    source, target = topology.source, topology.target
    if np.any((source[1:] == source[:-1]) & (target[1:] == target[:-1])):
        raise ValueError("a connection is given twice")
