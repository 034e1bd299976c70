"""What a network is wired like, in numbers for a table: its links, and how often it reads each number of an input.

Nothing here looks at a value, and nothing loops over connections: what a round writes of it takes far less than a step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from structnet.network.architecture import Architecture
from structnet.network.topology import Topology


def wiring_columns(topology: Topology) -> dict[str, Any]:
    """What the table `rounds` has on links and inputs: lists of whole numbers, of links one in each."""
    pairs, spans = list(topology.links), list(topology.links.values())
    return {
        "link_sources": [source for source, _ in pairs],
        "link_targets": [target for _, target in pairs],
        "link_connections": [span.stop - span.start for span in spans],
        "link_possible": [topology.possible_of(pair) for pair in pairs],
        "input_reads": input_reads(topology).tolist(),
    }


def input_reads(topology: Topology) -> np.ndarray:
    """(inputs,) int64 how often each number of an input is read, in the order of the flattened input.

    Where groups are plain these are the connections that start at it. A tap reads a number at every position of its
    target at which its window lies there, and what starts at the mean of a map reads every number of it.
    """
    shape = topology.architecture
    reads = np.zeros((shape[0], *shape.sides[0]), dtype=np.int64)
    for pair, span in topology.links.items():
        if pair[0] == 0:
            ports = shape[0] * shape.port_counts[0]
            taps = np.bincount(topology.source[span], minlength=ports).reshape(shape[0], -1)
            _read(reads, taps, shape, pair)
    return reads.reshape(-1)


def _read(reads: np.ndarray, taps: np.ndarray, shape: Architecture, pair: tuple[int, int]) -> None:
    """Adds what a link reads of the input. taps: (maps, ports) connections of the link by where they start."""
    if shape.is_plain(0):
        reads += taps[:, :, None]
    elif shape.is_plain(pair[1]):
        window = shape.window**2
        reads += taps[:, window, None, None]
        if 0 in shape.flat:
            reads += taps[:, window + 1 :].reshape(reads.shape)
    else:
        for code in np.flatnonzero(taps[:, : shape.window**2].any(axis=0)):
            down, right = divmod(int(code), shape.window)
            rows, columns = _seen(shape, pair, 0, down), _seen(shape, pair, 1, right)
            reads[:, rows, columns] += taps[:, code, None, None]


def _seen(shape: Architecture, pair: tuple[int, int], axis: int, place: int) -> slice:
    """Which rows (axis 0) or columns (1) of the source a link into maps sees from this place of its window."""
    geometry, source = shape.geometry(pair), shape.sides[pair[0]][axis]
    step, first = geometry.stride[axis], geometry.start[axis] + place - shape.window // 2
    stop = min(source, first + (shape.sides[pair[1]][axis] - 1) * step + 1)
    return slice(first if first >= 0 else first % step, max(0, stop), step)
