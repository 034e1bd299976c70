"""What a network takes: where it is stored, where it is used, and where it is trained."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from structnet.export.rows import packed_bytes
from structnet.network.architecture import Architecture
from structnet.network.random_topology import random_topology
from structnet.network.topology import Topology
from structnet.seeds import stream


def stored_bytes(topology: Topology) -> int:
    """Bytes of its smallest exported form in float32: its tables in the C header, indices included.

    What its preprocessing and the names of its classes take is not counted.
    """
    return packed_bytes(topology)


def positions_used(topology: Topology, target: np.ndarray | None = None) -> np.ndarray:
    """(connections,) int64 positions at which each is used in an image: those of the map that it ends at.

    target: (connections,) of others than those that exist.
    """
    shape = topology.architecture
    area = np.array([shape.area(group) for group in range(topology.groups)], dtype=np.int64)
    found: np.ndarray = area[topology.group_of(topology.target if target is None else target)]
    return found


def multiply_adds(topology: Topology) -> int:
    """Multiply-adds of one image: connections at every position where they are used, and the sums of means.

    A mean is a sum over the positions of a map, once for all that read it.
    """
    forward, means = _forward(topology), _means(topology)
    return forward.from_input + forward.others + means.from_input + means.others


def training_multiply_adds(topology: Topology) -> int:
    """Multiply-adds of a training step, for each image: every connection forward, for its gradient, and for its error.

    No error goes back to the input. Of a mean, the sum forward and the error backward. What is done once a step for
    each parameter, by the optimizer, is left out, and so is what normalises maps.
    """
    forward, means = _forward(topology), _means(topology)
    return 2 * forward.from_input + 3 * forward.others + means.from_input + 2 * means.others


def training_share(architecture: Architecture) -> float:
    """Multiply-adds of a training step, for each image and parameter, where connections lie as in the dense network."""
    dense = random_topology(architecture, 1.0, stream(0, "training share"))
    return training_multiply_adds(dense) / (len(dense.source) + dense.bias_count)


class _Work(NamedTuple):
    """Multiply-adds of a pass forward: those that read the input, and all others."""

    from_input: int
    others: int


def _forward(topology: Topology) -> _Work:
    positions = positions_used(topology)
    reads_input = topology.source_unit < topology.architecture[0]
    return _Work(int(positions[reads_input].sum()), int(positions[~reads_input].sum()))


def _means(topology: Topology) -> _Work:
    """The sums of the maps that something reads as a mean."""
    shape = topology.architecture
    if not shape.has_maps:
        return _Work(0, 0)
    source, target = topology.source_unit, topology.target
    plain = np.array([shape.is_plain(group) for group in range(topology.groups)])
    reads_mean = ~plain[topology.group_of(source)] & plain[topology.group_of(target)]
    reads_mean &= topology.code_of_port(topology.source) == shape.window**2
    maps = np.unique(source[reads_mean])
    areas = np.array([shape.area(int(group)) for group in topology.group_of(maps)], dtype=np.int64)
    from_input = maps < shape[0]
    return _Work(int(areas[from_input].sum()), int(areas[~from_input].sum()))
