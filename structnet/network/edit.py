"""Edits: the one place where networks change shape.

Every edit is a pure function that makes a new network and says where each of its parameters and units comes
from, so that whatever goes with a parameter - Adam's moments, its age - can be carried over by index. Growth
actions (structnet.actions) are combinations of these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from structnet.network.architecture import POINT, Architecture, Side
from structnet.network.constant_units import constant_units, constants, feeding_maps
from structnet.network.initial_values import initial_shapes
from structnet.network.network import StructNet
from structnet.network.topology import Topology


@dataclass(frozen=True)
class Edit:
    """A new network and its ancestry.

    origin: (parameters,) index of each parameter in the flat vector of the network before, -1 where it is new.
    unit_origin: (units,) number of each unit in the network before, -1 where it is new. before: parameters of
    the network before.
    """

    network: StructNet
    origin: np.ndarray
    unit_origin: np.ndarray
    before: int

    @property
    def new(self) -> np.ndarray:
        """Indices of the parameters that are new."""
        return np.flatnonzero(self.origin < 0)

    @property
    def new_connections(self) -> np.ndarray:
        """Indices of the connections that are new."""
        return np.flatnonzero(self.origin[: self.network.connection_count] < 0)

    @property
    def new_units(self) -> np.ndarray:
        """Numbers of the units that are new."""
        return np.flatnonzero(self.unit_origin < 0)

    @property
    def freed(self) -> int:
        """Parameters of the network before that are gone; one that has become several is not."""
        survives = np.zeros(self.before, dtype=bool)
        survives[self.origin[self.origin >= 0]] = True
        return self.before - int(np.count_nonzero(survives))

    @property
    def added(self) -> int:
        """Parameters that are new, less those that are gone."""
        return len(self.origin) - self.before

    def then(self, later: Edit) -> Edit:
        """This edit followed by another of its network, as one."""
        return Edit(
            later.network,
            _through(self.origin, later.origin),
            _through(self.unit_origin, later.unit_origin),
            self.before,
        )

    def port_now(self, before: Topology, port: np.ndarray) -> np.ndarray:
        """As `number_now`, of ports; before: the topology before the edit, in which they have these numbers."""
        unit = before.unit_of_port(port)
        return self.network.topology.port_of(self.number_now(unit), before.code_of_port(port))

    def number_now(self, unit: np.ndarray | int) -> np.ndarray:
        """The numbers, after the edit, of units known by their number before; raises KeyError if one is gone."""
        unit = np.atleast_1d(np.asarray(unit, dtype=np.int64))
        known = np.flatnonzero(self.unit_origin >= 0)
        place = np.full(
            int(max(self.unit_origin.max(initial=0), unit.max(initial=0))) + 1, -1, dtype=np.int64
        )
        place[self.unit_origin[known]] = known
        if np.any(place[unit] < 0):
            raise KeyError(f"unit {int(unit[place[unit] < 0][0])} is gone")
        numbers: np.ndarray = place[unit]
        return numbers


def unchanged(network: StructNet) -> Edit:
    """The edit that changes nothing: the network itself."""
    parameters, units = network.parameter_count, network.topology.units
    return Edit(network, np.arange(parameters), np.arange(units), parameters)


def connect(
    network: StructNet, source: np.ndarray, target: np.ndarray, values: np.ndarray | float = 0.0
) -> Edit:
    """Adds connections from these ports to these units; values: one number, or one per connection.

    Raises ValueError if one exists already, is given twice or does not run to a later group.
    """
    before = network.topology
    fresh = np.broadcast_to(np.asarray(values, dtype=np.float64), (len(source),))
    topology, order = before.joined_by(source, target)
    origin = np.concatenate([np.arange(before.connections), np.full(len(source), -1)])
    flat = np.concatenate([_connection_values(network), fresh])
    return _edited(network, topology, origin[order], np.arange(before.units), flat[order], _biases(network))


def disconnect(network: StructNet, connections: np.ndarray) -> Edit:
    """Removes connections, given by their indices. Units stay, also those that lose their last connection."""
    topology = network.topology
    stay = np.ones(topology.connections, dtype=bool)
    stay[connections] = False
    return _assemble(
        network,
        topology.architecture,
        topology.source[stay],
        topology.target[stay],
        np.flatnonzero(stay),
        np.arange(topology.units),
        connection_values=_connection_values(network)[stay],
        biases=_biases(network),
    )


def redirect(network: StructNet, connections: np.ndarray, source: np.ndarray) -> Edit:
    """Lets connections, given by their indices, start at other ports; their values and ancestry stay theirs.

    Raises ValueError if one comes to exist twice or does not run to a later group.
    """
    before = network.topology
    start = before.source.copy()
    start[connections] = source
    topology, order = Topology.sorted(before.architecture, start, before.target, before.shape_numbers)
    values = _connection_values(network)[order]
    return _edited(network, topology, order, np.arange(before.units), values, _biases(network))


def add_units(
    network: StructNet, group: int, biases: np.ndarray, statistics: np.ndarray | None = None
) -> Edit:
    """Appends units without connections to a hidden group; biases: (units,). They are the last of the group.

    statistics: (2, units) means and variances, where the network normalises; 0 and 1 by default.
    """
    if not 0 < group < network.topology.groups - 1:
        raise ValueError(f"units can be added to hidden groups only, not to group {group}")
    before = network.topology.architecture
    sizes = list(before)
    sizes[group] += len(biases)
    at = int(network.topology.offsets[group + 1])
    return _insert_units(network, before.resized(sizes), at, biases, statistics)


def add_group(
    network: StructNet,
    position: int,
    biases: np.ndarray,
    side: Side = POINT,
    *,
    flat: bool = False,
    statistics: np.ndarray | None = None,
) -> Edit:
    """Inserts a hidden group of unconnected units of this side before group `position`; biases: (units,).

    flat: whether plain groups may read its maps position by position. statistics: as in `add_units`.
    """
    if not 0 < position < network.topology.groups:
        raise ValueError(f"a group can be inserted between input and output only, not at {position}")
    architecture = network.topology.architecture.with_group(position, len(biases), side, flat=flat)
    return _insert_units(network, architecture, int(network.topology.offsets[position]), biases, statistics)


def remove_units(network: StructNet, units: np.ndarray) -> Edit:
    """Removes hidden units with all their connections; a group that loses its last unit goes as well."""
    topology = network.topology
    units = np.asarray(units, dtype=np.int64)
    hidden = topology.hidden
    if np.any((units < hidden.start) | (units >= hidden.stop)):
        raise ValueError("only hidden units can be removed")
    stay = np.ones(topology.units, dtype=bool)
    stay[units] = False
    number = np.cumsum(stay) - 1
    sizes = np.add.reduceat(stay.astype(np.int64), topology.offsets[:-1])
    kept = stay[topology.source_unit] & stay[topology.target]
    architecture = topology.architecture.resized(sizes.tolist())
    return _assemble(
        network,
        architecture,
        _ports_moved(topology, architecture, topology.source[kept], number),
        number[topology.target[kept]],
        np.flatnonzero(kept),
        np.flatnonzero(stay),
        connection_values=_connection_values(network)[kept],
        biases=_biases(network)[stay[hidden.start :]],
    )


def fold(network: StructNet) -> Edit:
    """Removes units without a way out and folds those without a way in into the biases they feed.

    A unit without a connection in is constant, activation(bias), so its targets take over that constant and
    the output does not change. Repeats until every hidden unit has a connection in and one out - but for maps whose
    constant is not 0: at the border of what they feed it ends, which no bias can say.
    """
    edit = unchanged(network)
    while True:
        now = edit.network
        topology = now.topology
        hidden = topology.hidden
        no_way_out = np.flatnonzero(topology.fan_out()[hidden] == 0) + hidden.start
        no_way_in = np.flatnonzero(topology.fan_in()[hidden] == 0) + hidden.start
        no_way_in = no_way_in[_is_even(now, no_way_in)]
        if not len(no_way_out) and not len(no_way_in):
            return edit
        edit = edit.then(
            remove_units(_with_constants_folded(now, no_way_in), np.union1d(no_way_out, no_way_in))
        )


def _is_even(network: StructNet, units: np.ndarray) -> np.ndarray:
    """(units,) booleans: whether units without a connection in are the same wherever they are seen."""
    constant = constant_units(network)
    if constant is None:
        return np.ones(len(units), dtype=bool)
    even: np.ndarray = ~(feeding_maps(network.topology) & constant)[units]
    return even


def _with_constants_folded(network: StructNet, constant: np.ndarray) -> StructNet:
    """The network with what these units say to plain groups in the biases there."""
    topology = network.topology
    first = topology.hidden.start
    biases, values = _biases(network).copy(), _connection_values(network)
    leaving = np.flatnonzero(np.isin(topology.source_unit, constant))
    if not len(leaving):
        return network
    amount = values[leaving] * constants(network, topology.source_unit[leaving])
    np.add.at(biases, topology.target[leaving] - first, amount)
    values = values.copy()
    values[leaving] = 0.0
    return network.with_values(np.concatenate([values, biases, topology.shapes(_flat(network))]))


def _insert_units(
    network: StructNet, architecture: Architecture, at: int, biases: np.ndarray, statistics: np.ndarray | None
) -> Edit:
    topology = network.topology
    count = len(biases)
    unit_origin = np.insert(np.arange(topology.units), at, np.full(count, -1))
    number = np.arange(topology.units) + count * (np.arange(topology.units) >= at)
    edit = _assemble(
        network,
        architecture,
        _ports_moved(topology, architecture, topology.source, number),
        number[topology.target],
        np.arange(topology.connections),
        unit_origin,
        connection_values=_connection_values(network),
        biases=np.insert(_biases(network), at - topology.hidden.start, biases),
    )
    return edit if statistics is None else normalised_by(edit, edit.new_units, statistics)


def normalised_by(edit: Edit, units: np.ndarray, statistics: np.ndarray) -> Edit:
    """The edit with these means and variances, (2, units), of hidden units of its new network, if that normalises."""
    kept = edit.network.statistics
    if kept is None:
        return edit
    place = torch.from_numpy(units - edit.network.topology.hidden.start).to(kept.device)
    changed = kept.clone()
    changed[:, place] = torch.from_numpy(statistics).to(kept)
    network = edit.network.like(edit.network.topology, edit.network.values.detach(), changed)
    return replace(edit, network=network)


def _ports_moved(
    before: Topology, architecture: Architecture, port: np.ndarray, number: np.ndarray
) -> np.ndarray:
    """The numbers that ports have in another architecture; number: (units,) of each unit there."""
    if not before.architecture.has_maps:
        moved: np.ndarray = number[port]
        return moved
    nothing = np.empty(0, dtype=np.int32)
    after = Topology(architecture, nothing, nothing)
    return after.port_of(number[before.unit_of_port(port)], before.code_of_port(port))


def _assemble(
    network: StructNet,
    architecture: Architecture,
    source: np.ndarray,
    target: np.ndarray,
    connection_origin: np.ndarray,
    unit_origin: np.ndarray,
    *,
    connection_values: np.ndarray,
    biases: np.ndarray,
) -> Edit:
    """The edited network from connections in their order, with the origin of every parameter."""
    numbers = network.topology.shape_numbers
    topology = Topology(architecture, source.astype(np.int32), target.astype(np.int32), numbers)
    return _edited(network, topology, connection_origin, unit_origin, connection_values, biases)


def _edited(
    network: StructNet,
    topology: Topology,
    connection_origin: np.ndarray,
    unit_origin: np.ndarray,
    connection_values: np.ndarray,
    biases: np.ndarray,
) -> Edit:
    before = network.topology
    with_bias = unit_origin[topology.hidden.start :]
    bias_origin = np.where(with_bias < 0, -1, before.bias_of(with_bias))
    shape_origin, shapes = _shapes_through(network, topology, unit_origin[topology.hidden])
    origin = np.concatenate([connection_origin, bias_origin, shape_origin])
    joined = np.concatenate([connection_values, biases, shapes])
    edited = network.like(topology, joined, _statistics_through(network, with_bias))
    return Edit(edited, origin, unit_origin, before.parameters)


def _statistics_through(network: StructNet, origin: np.ndarray) -> torch.Tensor | None:
    """What maps were on average, of units known by their numbers before; those of new ones are 0 and 1."""
    if network.statistics is None:
        return None
    place = np.where(origin < 0, -1, origin - network.topology.architecture[0])
    fresh = network.statistics.new_tensor([[0.0], [1.0]])
    return torch.cat([network.statistics, fresh], dim=1)[:, torch.from_numpy(place).to(fresh.device)]


def _shapes_through(
    network: StructNet, topology: Topology, hidden_origin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Origins and values of what shapes the activations of hidden units, known by their numbers before, or new: -1."""
    before = network.topology
    is_new = np.repeat(hidden_origin < 0, topology.shape_numbers)
    place = before.shapes_of(np.maximum(hidden_origin, before.hidden.start))
    values = np.where(is_new, initial_shapes(topology, network.activation), _flat(network)[place])
    return np.where(is_new, -1, place), values


def _connection_values(network: StructNet) -> np.ndarray:
    return network.topology.split(_flat(network))[0]


def _biases(network: StructNet) -> np.ndarray:
    return network.topology.split(_flat(network))[1]


def _flat(network: StructNet) -> np.ndarray:
    """(parameters,) float64: exact for float32 and float64 networks alike."""
    return network.values.detach().cpu().double().numpy()


def _through(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.where(second < 0, -1, first[second])
