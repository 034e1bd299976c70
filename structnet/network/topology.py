"""Who is connected to whom: a network without its values, as plain arrays.

A network is an ordered list of groups of units. Units are numbered through: group 0 (the input) first, the
output last. A connection joins a unit to a unit of any later group. Connections are kept sorted by
(target group, source group, target unit, source unit), so that each link - all connections from one group to
another - is one contiguous slice, and within it the rows of a CSR matrix follow each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from structnet.errors import UserError

ALLOCATIONS = ("proportional", "uniform")


@dataclass(frozen=True)
class Topology:
    """Groups and connections.

    architecture: units per group, input first. source, target: (connections,) int32 unit numbers, sorted as
    above and without duplicates. Build one with `Topology.sorted` unless the order is already known.
    """

    architecture: tuple[int, ...]
    source: np.ndarray
    target: np.ndarray

    @classmethod
    def sorted(
        cls, architecture: Sequence[int], source: np.ndarray, target: np.ndarray
    ) -> tuple[Topology, np.ndarray]:
        """The topology of these connections, and the order that sorts them: sorted = given[order].

        Raises ValueError for a connection that is doubled, runs backwards or stays inside its group.
        """
        sizes = tuple(int(size) for size in architecture)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        source = np.asarray(source, dtype=np.int32)
        target = np.asarray(target, dtype=np.int32)
        if len(source) and (
            min(source.min(), target.min()) < 0 or max(source.max(), target.max()) >= offsets[-1]
        ):
            raise ValueError(f"a connection names a unit outside 0 … {offsets[-1] - 1}")
        source_group = np.searchsorted(offsets, source, side="right") - 1
        target_group = np.searchsorted(offsets, target, side="right") - 1
        if np.any(source_group >= target_group):
            raise ValueError("a connection must run from a group to a later one")
        # Two sorts by one integer each are several times faster than a lexsort of four keys.
        units = int(offsets[-1])
        link = target_group * len(sizes) + source_group
        order = np.lexsort((target.astype(np.int64) * units + source, link))
        source, target = source[order], target[order]
        if np.any((source[1:] == source[:-1]) & (target[1:] == target[:-1])):
            raise ValueError("a connection is given twice")
        return cls(sizes, source, target), order

    @cached_property
    def offsets(self) -> np.ndarray:
        """(groups + 1,) number of the first unit of each group; the last entry is the number of units."""
        return np.concatenate([[0], np.cumsum(self.architecture)])

    @property
    def groups(self) -> int:
        return len(self.architecture)

    @property
    def connections(self) -> int:
        return len(self.source)

    @property
    def biases(self) -> int:
        """Units that have a bias: all but the input."""
        return int(self.offsets[-1] - self.offsets[1])

    @property
    def parameters(self) -> int:
        """Connections that exist + biases of the units that exist."""
        return self.connections + self.biases

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

    def group_of(self, unit: np.ndarray | int) -> np.ndarray:
        """The group of each unit number."""
        return np.searchsorted(self.offsets, unit, side="right") - 1

    def units_of(self, group: int) -> slice:
        """The unit numbers of a group, as a slice."""
        return slice(int(self.offsets[group]), int(self.offsets[group + 1]))

    def fan_in(self) -> np.ndarray:
        """(units,) connections that end at each unit."""
        return np.bincount(self.target, minlength=int(self.offsets[-1]))

    def fan_out(self) -> np.ndarray:
        """(units,) connections that start at each unit."""
        return np.bincount(self.source, minlength=int(self.offsets[-1]))

    def has(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Which of these pairs are connected, as booleans."""
        units = int(self.offsets[-1])
        mine = self.source.astype(np.int64) * units + self.target
        return np.isin(np.asarray(source, dtype=np.int64) * units + target, mine)

    def possible(self) -> int:
        """Connections of the dense network with the same links; neighbouring groups count as linked."""
        pairs = set(self.links) | {(group, group + 1) for group in range(self.groups - 1)}
        return sum(self.architecture[a] * self.architecture[b] for a, b in pairs)

    @property
    def density(self) -> float:
        """Connections that exist ÷ connections possible."""
        return self.connections / max(1, self.possible())


def parameters_dense(architecture: Sequence[int]) -> int:
    """Weights and biases of the fully connected network of this shape."""
    return sum(a * b + b for a, b in pairwise(architecture))


def dense_architecture(architecture: Sequence[int], parameters: int) -> tuple[int, ...]:
    """The dense network with one hidden layer whose size is nearest to so many parameters."""
    inputs, classes = architecture[0], architecture[-1]
    units = max(1, round((parameters - classes) / (inputs + classes + 1)))
    options = [(inputs, width, classes) for width in (max(1, units - 1), units, units + 1)]
    return min(options, key=lambda sizes: abs(parameters_dense(sizes) - parameters))


def check_architecture(architecture: Sequence[int]) -> tuple[int, ...]:
    """The architecture as a tuple; raises UserError unless it is at least two sizes of 1 or more."""
    sizes = tuple(int(size) for size in architecture)
    if len(sizes) < 2 or min(sizes) < 1:
        shown = ",".join(map(str, sizes))
        raise UserError(
            f"architecture is '{shown}', but must be two or more sizes of at least 1, such as 784,100,10"
        )
    return sizes


def random_topology(
    architecture: Sequence[int],
    density: float,
    rng: np.random.Generator,
    *,
    allocation: str = "proportional",
    ensure_paths: bool = False,
) -> Topology:
    """Neighbouring groups joined at random; the number of connections is round(density × possible), exactly.

    allocation: `proportional` shares them with n_in + n_out per link (Erdős–Rényi: Mocanu et al. 2018),
    `uniform` gives every link the same density. ensure_paths: every unit gets at least one connection in and
    one out (an input unit needs none out). Raises UserError for a density outside (0, 1] or too low for that.
    """
    sizes = check_architecture(architecture)
    if not 0 < density <= 1:
        raise UserError(
            f"density is {density}, but must be in (0, 1]: it is the share of connections that exist"
        )
    if allocation not in ALLOCATIONS:
        raise UserError(f"allocation is '{allocation}', but must be one of {', '.join(ALLOCATIONS)}")
    pairs = list(pairwise(sizes))
    room = np.array([a * b for a, b in pairs])
    total = max(1, round(density * int(room.sum())))
    least = (
        np.array([_path_cover(index, a, b) for index, (a, b) in enumerate(pairs)])
        if ensure_paths
        else room * 0
    )
    if total < least.sum():
        enough = np.ceil(1e4 * least.sum() / room.sum()) / 1e4
        raise UserError(
            f"density {density} gives {total} connections, but {least.sum()} are needed to reach every unit "
            f"of {','.join(map(str, sizes))}: raise the density to {enough:g} or use fewer units"
        )
    weight = room if allocation == "uniform" else np.array([a + b for a, b in pairs])
    counts = _share(total, weight, least, room)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    source, target = [], []
    for index, (count, (n_in, n_out)) in enumerate(zip(counts, pairs)):
        cover = _cover(index, n_in, n_out, rng) if ensure_paths else np.empty(0, dtype=np.int64)
        cells = _sample_cells(n_in * n_out, int(count), cover, rng)
        source.append(offsets[index] + cells % n_in)
        target.append(offsets[index + 1] + cells // n_in)
    return Topology.sorted(sizes, np.concatenate(source), np.concatenate(target))[0]


def least_density(architecture: Sequence[int]) -> float:
    """The least density at which `ensure_paths` can reach every unit of neighbouring groups."""
    pairs = list(pairwise(architecture))
    needed = sum(_path_cover(index, n_in, n_out) for index, (n_in, n_out) in enumerate(pairs))
    return needed / sum(n_in * n_out for n_in, n_out in pairs)


def random_absent(
    topology: Topology, pair: tuple[int, int], count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of so many absent connections of a link, or of all there are, uniformly at random."""
    n_in, n_out = topology.architecture[pair[0]], topology.architecture[pair[1]]
    span = topology.links.get(pair, slice(0, 0))
    row = topology.target[span].astype(np.int64) - topology.offsets[pair[1]]
    taken = row * n_in + topology.source[span] - topology.offsets[pair[0]]
    absent = n_in * n_out - len(taken)
    rank = rng.choice(absent, size=min(count, absent), replace=False)
    # The r-th absent cell lies behind all taken ones that have at most r absent cells before them.
    cell = rank + np.searchsorted(taken - np.arange(len(taken)), rank, side="right")
    return cell // n_in, cell % n_in


def random_absent_everywhere(
    topology: Topology, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Source and target of so many absent connections, shared among the links with n_in + n_out of each."""
    pairs = list(topology.links) or [(0, topology.groups - 1)]
    sizes = np.array([[topology.architecture[group] for group in pair] for pair in pairs])
    spans = [topology.links.get(pair, slice(0, 0)) for pair in pairs]
    room = sizes.prod(axis=1) - [span.stop - span.start for span in spans]
    counts = _share(min(count, int(room.sum())), sizes.sum(axis=1), room * 0, room)
    source, target = [], []
    for pair, here in zip(pairs, counts.tolist()):
        row, column = random_absent(topology, pair, here, rng)
        source.append(column + topology.offsets[pair[0]])
        target.append(row + topology.offsets[pair[1]])
    return np.concatenate(source), np.concatenate(target)


def _path_cover(index: int, n_in: int, n_out: int) -> int:
    return n_out if index == 0 else max(n_in, n_out)


def _cover(index: int, n_in: int, n_out: int, rng: np.random.Generator) -> np.ndarray:
    """Cells (target · n_in + source) that give a connection to every target and every source but inputs."""
    length = np.arange(_path_cover(index, n_in, n_out))
    return rng.permutation(n_out)[length % n_out] * n_in + rng.permutation(n_in)[length % n_in]


def _share(total: int, weight: np.ndarray, least: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Whole numbers that add up to total, in proportion to weight, each between least and room."""
    low, high = 0.0, float(total) / float(weight.min()) + 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if np.clip(middle * weight, least, room).sum() < total:
            low = middle
        else:
            high = middle
    exact = np.clip(high * weight, least, room)
    counts = np.minimum(np.floor(exact + 1e-9).astype(np.int64), room)
    while (missing := total - int(counts.sum())) > 0:
        open_links = np.flatnonzero(counts < room)
        best = open_links[np.argsort(counts[open_links] - exact[open_links], kind="stable")]
        counts[best[:missing]] += 1
    return counts


def _sample_cells(cells: int, count: int, cover: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """count different cells, all of cover among them, the others uniformly at random."""
    drawn = rng.choice(cells, size=count, replace=False, shuffle=False)
    fresh = drawn[~np.isin(drawn, cover)]
    keep = rng.permutation(len(fresh))[: count - len(cover)]
    return np.concatenate([cover, fresh[keep]]).astype(np.int64)
