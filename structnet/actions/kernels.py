"""Kernels: all taps from one map to another, which come and go together.

A kernel that is not there, or has few of its taps, is known by the norm of the gradient of those it lacks; one that is
there by what its taps are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from structnet.measure.diagnosis import Diagnosis
from structnet.network.topology import Topology

FEW = 0.25  # of its taps, with which a kernel still counts as absent

Pair = tuple[int, int]


@dataclass(frozen=True)
class Kernels:
    """Absent kernels, one after the other: the taps they lack that have a gradient.

    source, target, gradient: (taps,). stop: (kernels,) how many taps there are up to the end of each.
    """

    source: np.ndarray
    target: np.ndarray
    gradient: np.ndarray
    stop: np.ndarray

    def fitting(self, size: int) -> int:
        """How many of the first have no more taps together than this."""
        return int(np.searchsorted(self.stop, size, side="right"))

    def taps(self, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sources, targets and gradients of the first so many taps."""
        return self.source[:taps], self.target[:taps], self.gradient[:taps]


def kernel_pairs(topology: Topology, pairs: Sequence[Pair]) -> list[Pair]:
    """Those pairs of groups that kernels of more than one tap may join."""
    shape = topology.architecture
    return [pair for pair in pairs if shape.window > 1 and not shape.is_plain(pair[1])]


def absent_kernels(diagnosis: Diagnosis, pairs: Sequence[Pair], taps: int) -> Kernels:
    """Absent kernels of these pairs of groups of maps, those of largest gradient first, up to so many taps or more."""
    topology = diagnosis.topology
    size = topology.architecture.window**2
    strength, chosen = [np.empty(0)], []
    for pair in pairs:
        gradient = diagnosis.absent_gradient(*pair).double().cpu().numpy()
        norm = np.linalg.norm(gradient.reshape(len(gradient), -1, size), axis=2)
        norm[~_is_absent(topology, pair)] = 0.0
        kernels = np.flatnonzero(norm)
        strength.append(norm.reshape(-1)[kernels])
        chosen += [(pair, gradient, *divmod(int(kernel), norm.shape[1])) for kernel in kernels]
    order = np.argsort(-np.concatenate(strength), kind="stable")
    found, stop = [], list[int]()
    for number in order.tolist():
        if stop and stop[-1] >= taps:
            break
        pair, gradient, row, unit = chosen[number]
        column = unit * size + np.flatnonzero(gradient[row, unit * size : (unit + 1) * size])
        found.append((*topology.ends(pair, np.full(len(column), row), column), gradient[row, column]))
        stop.append((stop[-1] if stop else 0) + len(column))
    nothing = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0))
    source, target, of_taps = (np.concatenate(part) for part in zip(nothing, *found))
    return Kernels(source, target, of_taps, np.array(stop, dtype=np.int64))


def random_kernels(
    topology: Topology, pair: Pair, taps: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of so many absent taps, of absent kernels of a link drawn at random; the last may be in part."""
    size = topology.architecture.window**2
    absent = _is_absent(topology, pair)
    free = np.ones(absent.size * size, dtype=bool)
    free[topology.cells(pair)] = False
    cells = [
        kernel * size + np.flatnonzero(free[kernel * size : (kernel + 1) * size])
        for kernel in rng.permutation(np.flatnonzero(absent)).tolist()
    ]
    return np.divmod(np.concatenate(cells)[:taps], absent.shape[1] * size)


def kernels_there(topology: Topology) -> list[np.ndarray]:
    """The connections of every kernel of more than one tap that has some, by their indices."""
    size, found = topology.architecture.window**2, []
    for pair in kernel_pairs(topology, list(topology.links)):
        span = topology.links[pair]
        bounds = np.flatnonzero(np.diff(topology.cells(pair) // size)) + 1
        found += np.split(np.arange(span.start, span.stop), bounds)
    return found


def maps_there(topology: Topology) -> list[np.ndarray]:
    """The connections of every hidden map that has some, both ways, by their indices."""
    shape = topology.architecture
    of_maps = [
        topology.units_of(group) for group in range(1, topology.groups - 1) if not shape.is_plain(group)
    ]
    found = [
        np.flatnonzero((topology.source_unit == unit) | (topology.target == unit))
        for units in of_maps
        for unit in range(units.start, units.stop)
    ]
    return [connections for connections in found if len(connections)]


def _is_absent(topology: Topology, pair: Pair) -> np.ndarray:
    """(target maps, source maps) booleans: whether a kernel has few of its taps, or none."""
    size, (columns, rows) = topology.architecture.window**2, topology.shape_of(pair)
    taps = np.bincount(topology.cells(pair) // size, minlength=rows * columns // size)
    absent: np.ndarray = (taps <= FEW * size).reshape(rows, columns // size)
    return absent
