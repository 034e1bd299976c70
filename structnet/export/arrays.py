"""What a network is to every form: its groups and values as plain arrays, and what it takes in words."""

from __future__ import annotations

import pprint
from typing import Any, NamedTuple

import numpy as np

from structnet.export.model import Model
from structnet.network.architecture import dashed
from structnet.network.network import StructNet
from structnet.network.topology import Topology


class Group(NamedTuple):
    """One group of units behind the input, by numbers of units and of connections.

    low: the first unit of the first group that it takes anything from, `first` where it takes nothing. first, last: its
    own units, last excluded. start, stop: the connections that end at it, stop excluded.
    """

    low: int
    first: int
    last: int
    start: int
    stop: int


def groups_of(topology: Topology) -> list[Group]:
    """The groups behind the input, in their order."""
    found, at = [], 0
    for group in range(1, topology.groups):
        sources = [pair[0] for pair in topology.links if pair[1] == group]
        units = topology.units_of(group)
        low = topology.units_of(min(sources)).start if sources else units.start
        count = sum(len(topology.source[topology.span_of((source, group))]) for source in sources)
        found.append(Group(low, units.start, units.stop, at, at + count))
        at += count
    return found


class Maps(NamedTuple):
    """One group of a network of feature maps: its first unit, its units, and their sides."""

    first: int
    units: int
    high: int
    wide: int


class MapLink(NamedTuple):
    """One link of such a network, by numbers of groups, connections and ports.

    start, stop: its connections, stop excluded. port: the code of the first port of a unit that it can start at, ports:
    of how many it does. down, right, top, left: position (y, x) of maps lies on (down · y + top, right · x + left) of
    its source; 1, 1, 0, 0 of neurons.
    """

    source: int
    target: int
    start: int
    stop: int
    port: int
    ports: int
    down: int
    right: int
    top: int
    left: int


def maps_of(topology: Topology) -> list[Maps]:
    """All groups, the input first."""
    shape = topology.architecture
    return [
        Maps(int(topology.offsets[group]), shape[group], *shape.sides[group]) for group in range(len(shape))
    ]


def links_of(topology: Topology) -> list[MapLink]:
    """The links of a network of feature maps, in the order of their connections."""
    shape, found = topology.architecture, []
    for pair, span in topology.links.items():
        (down, right), (top, left) = ((1, 1), (0, 0)) if shape.is_plain(pair[1]) else shape.geometry(pair)
        ports = shape.port_range(pair)
        found.append(MapLink(*pair, span.start, span.stop, ports.start, len(ports), down, right, top, left))
    return found


def arrays_of(network: StructNet) -> dict[str, np.ndarray]:
    """What a network holds.

    values float32, source and target int32 unit numbers, (connections,) each, in the order of the topology; biases
    float32, (units behind the input,); shapes float32, (hidden units, numbers), where its activation has such numbers;
    offset int32, (connections,), where it has maps: the codes of ports (structnet.network.architecture).
    """
    topology = network.topology
    flat = network.values.detach().cpu().numpy()
    values, biases = topology.split(flat)
    found = {
        "values": values,
        "source": topology.source_unit,
        "target": topology.target,
        "biases": biases,
    }
    if topology.architecture.has_maps:
        found["offset"] = topology.code_of_port(topology.source).astype(np.int32)
    if topology.shape_numbers:
        found["shapes"] = topology.shapes(flat).reshape(-1, topology.shape_numbers)
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def columns_of(preprocessing: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Name and, where they are texts, categories of every column; None of images."""
    if preprocessing["kind"] == "image":
        return None
    if preprocessing["kind"] == "columns":
        return [{"name": name} for name in preprocessing["columns"]]
    known = ("name", "categories")
    return [{key: column[key] for key in known if key in column} for column in preprocessing["columns"]]


def described(model: Model) -> str:
    """One line on the network: its name, its units by group, its parameters."""
    network = model.network
    sizes = dashed(network.topology.architecture)
    return f"{model.name}: {sizes}, {network.activation}, {network.parameter_count:,} parameters."


def raw_type(model: Model) -> str:
    """Of raw values in numpy's words: a column may have an offset that float32 has no room for."""
    return "float32" if model.preprocessing["kind"] == "image" else "float64"


def raw_described(model: Model) -> str:
    """What one raw input is, in words."""
    kind = model.preprocessing["kind"]
    shape = ", ".join(["batch", *(f"{size:d}" for size in model.raw_shape)])
    if kind == "image":
        return f"raw ({shape}), pixels from 0 to {model.preprocessing['full_scale']:g}"
    if kind == "columns":
        return f"raw ({shape}), a number a column"
    return f"raw ({shape}), a number a column: nan where none is, of a text its place in `categories`"


def shown(value: Any) -> str:
    """Plain data as Python, in lines of 100 characters."""
    return pprint.pformat(value, width=100, compact=True, sort_dicts=False)
