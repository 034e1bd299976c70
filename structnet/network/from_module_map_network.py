"""The network of a torch module with feature maps that was followed to its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from structnet.errors import UserError
from structnet.network.architecture import POINT, Architecture, check_architecture
from structnet.network.from_module_maps import Kernel, MapReading, Maps, geometry_of
from structnet.network.from_module_values import Affine, Value
from structnet.network.network import StructNet
from structnet.network.normalisation import first_statistics
from structnet.network.topology import Topology

LEAST_WINDOW = 3  # so that growth has where to place taps


class _Link(NamedTuple):
    """Weights that are not 0, of a link: units of both ends by their places, and codes of ports."""

    source: int
    target: int
    unit: np.ndarray
    code: np.ndarray
    row: np.ndarray
    values: np.ndarray


def without_maps(reading: MapReading, values: list[Value]) -> list[Affine] | None:
    """Values of a module whose input may as well be one unit a pixel; None if there are maps, or means of them."""
    found = []
    for value in values:
        if not isinstance(value, Affine):
            return None
        terms = dict(value.terms)
        if 0 in terms:
            is_mean = np.arange(terms[0].shape[1]) % reading.columns(0) == 0
            if terms[0][:, is_mean].count_nonzero():
                return None
            terms[0] = terms[0][:, ~is_mean]
        found.append(Affine(reading, value.features, terms, value.bias))
    return found


def map_network(reading: MapReading, logits: Affine) -> StructNet:
    """The groups and the logits as a network. Raises UserError for sides that it cannot have."""
    groups: list[Value] = [*reading.groups, logits]
    sides, units = [*reading.sides, POINT], [*reading.units, len(logits.bias)]
    # Groups come in the order in which they were made, but sides have to fall.
    order = sorted(range(len(sides)), key=lambda group: -sides[group][0] * sides[group][1])
    number = {group: place for place, group in enumerate(order)}
    reach = max((_reach(reading, group) for group in groups if isinstance(group, Maps)), default=0)
    window = max(LEAST_WINDOW, 2 * reach + 1)
    kind = np.float64 if reading.dtype == torch.float64 else np.float32
    links, flat = [], set()
    for target, value in enumerate(groups, start=1):
        for link in _links(reading, value, target, window):
            values = link.values.astype(kind)
            exists = values != 0
            unit, code, row = (part[exists] for part in (link.unit, link.code, link.row))
            places = number[link.source], number[link.target]
            links.append(_Link(*places, unit, code, row, values[exists]))
            if sides[target] == POINT and (code > window**2).any():
                flat.add(places[0])
    shape = Architecture(
        [units[group] for group in order], [sides[group] for group in order], window, sorted(flat)
    )
    topology, values = _joined(check_architecture(shape), links, kind)
    biases = np.concatenate([groups[group - 1].bias for group in order if group]).astype(kind)
    flat_values = np.concatenate([values, biases])
    if not np.isfinite(flat_values).all():
        raise UserError(
            "some weights are not finite, but a network computes with numbers: give other weights"
        )
    return StructNet.from_parts(
        topology,
        torch.from_numpy(flat_values).to(reading.device),
        activation=reading.activation or "relu",
        statistics=_statistics(reading, topology, order),
    )


def _reach(reading: MapReading, value: Maps) -> int:
    """How far its kernels reach from the centres of windows."""
    found = 0
    for group, kernel in value.terms.items():
        start = geometry_of(reading.sides[group], value.side).start
        for first, size, centre in zip(kernel.start, kernel.weight.shape[2:], start):
            found = max(found, centre - first, first + size - 1 - centre)
    return found


def _links(reading: MapReading, value: Value, target: int, window: int) -> Iterator[_Link]:
    """The links that end at a group, of all weights that are not 0."""
    if isinstance(value, Maps):
        for source, kernel in value.terms.items():
            yield _taps(reading, value, kernel, source, target, window)
        return
    assert isinstance(value, Affine)
    for source, matrix in value.terms.items():
        cells, each = matrix.tocoo(), reading.columns(source)
        unit, code = np.divmod(cells.col.astype(np.int64), each)
        code = code + window**2 if each > 1 else code
        yield _Link(source, target, unit, code, cells.row.astype(np.int64), cells.data)


def _taps(reading: MapReading, value: Maps, kernel: Kernel, source: int, target: int, window: int) -> _Link:
    start = geometry_of(reading.sides[source], value.side).start
    row, unit, down, right = kernel.weight.nonzero()
    down, right = (
        offset + first - centre + window // 2
        for offset, first, centre in zip((down, right), kernel.start, start)
    )
    return _Link(source, target, unit, down * window + right, row, kernel.weight[kernel.weight != 0])


def _joined(shape: Architecture, links: list[_Link], kind: type) -> tuple[Topology, np.ndarray]:
    """The topology of all links, and the values of its connections."""
    nothing = np.empty(0, dtype=np.int32)
    bare = Topology(shape, nothing, nothing)
    source, target = [nothing], [nothing]
    values: list[np.ndarray] = [np.empty(0, kind)]
    for link in links:
        source.append(bare.port_of(bare.offsets[link.source] + link.unit, link.code))
        target.append(bare.offsets[link.target] + link.row)
        values.append(link.values)
    topology, order = Topology.sorted(shape, np.concatenate(source), np.concatenate(target))
    return topology, np.concatenate(values)[order]


def _statistics(reading: MapReading, topology: Topology, order: list[int]) -> torch.Tensor | None:
    if not reading.statistics:
        return None
    found = first_statistics(topology, reading.dtype)
    assert found is not None
    for place, group in enumerate(order):
        if group in reading.statistics:
            units = topology.units_of(place)
            own = slice(units.start - topology.architecture[0], units.stop - topology.architecture[0])
            found[:, own] = torch.from_numpy(np.stack(reading.statistics[group]))
    return found.to(reading.device)
