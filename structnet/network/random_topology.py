"""Random topologies: how links share connections, and where those come to lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from structnet.errors import UserError
from structnet.network.architecture import (
    Architecture,
    architecture_of,
    check_architecture,
    possible_connections,
)
from structnet.network.topology import ALLOCATIONS, Topology


def random_topology(
    architecture: Sequence[int],
    density: float,
    rng: np.random.Generator,
    *,
    allocation: str = "proportional",
    ensure_paths: bool = False,
    shape_numbers: int = 0,
) -> Topology:
    """Neighbouring groups joined at random; the number of connections is round(density × possible), exactly.

    allocation: `proportional` shares them with n_in + n_out per link (Erdős–Rényi: Mocanu et al. 2018), `uniform`
    gives every link the same density, `dense_output` all but the last, which is full. ensure_paths: every unit gets
    at least one connection in and one out (an input unit needs none out). Raises UserError for a density outside (0,
    1] or too low for that.
    """
    sizes = check_architecture(architecture)
    if not 0 < density <= 1:
        raise UserError(
            f"density is {density}, but must be in (0, 1]: it is the share of connections that exist"
        )
    if allocation not in ALLOCATIONS:
        raise UserError(f"allocation is '{allocation}', but must be one of {', '.join(ALLOCATIONS)}")
    pairs = list(pairwise(sizes))
    links = list(pairwise(range(len(sizes))))
    room = np.array([sizes.possible(link) for link in links])
    total = max(1, round(density * int(room.sum())))
    least = (
        np.array([_path_cover(index, a, b) for index, (a, b) in enumerate(pairs)])
        if ensure_paths
        else room * 0
    )
    if allocation == "dense_output":
        least[-1] = room[-1]
    if total < least.sum():
        enough = np.ceil(1e4 * least.sum() / room.sum()) / 1e4
        full = " with a full output" if allocation == "dense_output" else ""
        raise UserError(
            f"density {density} gives {total} connections, but {least.sum()} are needed to reach every unit "
            f"of {sizes}{full}: raise the density to {enough:g} or use fewer units"
        )
    weight = np.array([a + b for a, b in pairs]) if allocation == "proportional" else room
    counts = _share(total, weight, least, room)
    drawn = []
    for link, count in zip(links, counts):
        cover = _cover(sizes, link, rng) if ensure_paths else np.empty(0, dtype=np.int64)
        drawn.append(_sample_cells(sizes.possible(link), int(count), cover, rng))
    return Topology.sorted(sizes, *_ends(sizes, drawn), shape_numbers)[0]


def _ends(sizes: Architecture, drawn: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Source ports and target units of the cells, (target · sources + source) · ports + port, of every link."""
    nothing = np.empty(0, dtype=np.int32)
    bare = Topology(sizes, nothing, nothing)
    source, target = [], []
    for link, cells in zip(pairwise(range(len(sizes))), drawn):
        ports = sizes.regular_ports(link)
        unit, row = cells // len(ports) % sizes[link[0]], cells // len(ports) // sizes[link[0]]
        source.append(bare.port_of(unit + bare.offsets[link[0]], cells % len(ports) + ports.start))
        target.append(row + bare.offsets[link[1]])
    return np.concatenate(source), np.concatenate(target)


def erdos_renyi(
    architecture: Sequence[int], epsilon: float, rng: np.random.Generator, *, dense_output: bool = False
) -> Topology:
    """Neighbouring groups joined at random, each pair by int(epsilon · (n_in + n_out)) connections.

    Exactly so many, all distinct, where the program of Mocanu et al. (2018) draws cells that may coincide.
    dense_output: the last link has all its connections. Raises UserError as `erdos_renyi_counts` does.
    """
    sizes = check_architecture(architecture)
    room = [sizes.possible(link) for link in pairwise(range(len(sizes)))]
    counts = erdos_renyi_counts(sizes, epsilon, links=len(room) - dense_output)
    counts += room[-1:] * dense_output
    nothing = np.empty(0, dtype=np.int64)
    drawn = [_sample_cells(cells, count, nothing, rng) for cells, count in zip(room, counts)]
    return Topology.sorted(sizes, *_ends(sizes, drawn))[0]


def erdos_renyi_counts(sizes: Sequence[int], epsilon: float, links: int | None = None) -> list[int]:
    """int(epsilon · (n_in + n_out)) of each pair of neighbours, or of the first so many.

    Raises UserError for an epsilon by which some pair has no connection, or more than there are.
    """
    counts = []
    shape = architecture_of(sizes)
    for link in list(pairwise(range(len(shape))))[:links]:
        n_in, n_out, room = shape[link[0]], shape[link[1]], shape.possible(link)
        count = math.floor(epsilon * (n_in + n_out) + 1e-9)
        if not 0 < count <= room:
            raise UserError(
                f"epsilon is {epsilon:g}, which asks for {count:,} connections from {n_in} to {n_out} units, but must "
                f"be above 0 and give at most the {room:,} that exist: choose less than "
                f"{room / (n_in + n_out):.3g}"
            )
        counts.append(count)
    return counts


def least_density(architecture: Sequence[int]) -> float:
    """The least density at which `ensure_paths` can reach every unit of neighbouring groups."""
    pairs = list(pairwise(architecture))
    needed = sum(_path_cover(index, n_in, n_out) for index, (n_in, n_out) in enumerate(pairs))
    return needed / possible_connections(architecture)


def random_absent(
    topology: Topology, pair: tuple[int, int], count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of so many absent connections of a link, or of all there are, uniformly at random."""
    n_in, absent, taken = topology.shape_of(pair)[0], topology.absent_of(pair), topology.cells(pair)
    rank = rng.choice(absent, size=min(count, absent), replace=False)
    # The r-th absent cell lies behind all taken ones that have at most r absent cells before them.
    cell = rank + np.searchsorted(taken - np.arange(len(taken)), rank, side="right")
    return cell // n_in, cell % n_in


def random_absent_everywhere(
    topology: Topology, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Source and target of so many absent connections, shared among the links with n_in + n_out of each."""
    pairs = list(topology.links) or [(0, topology.groups - 1)]
    weight = np.array([topology.units_joined(pair) for pair in pairs])
    room = np.array([topology.absent_of(pair) for pair in pairs])
    counts = _share(min(count, int(room.sum())), weight, room * 0, room)
    found = [
        topology.ends(pair, *random_absent(topology, pair, here, rng))
        for pair, here in zip(pairs, counts.tolist())
    ]
    source, target = (np.concatenate(part) for part in zip(*found))
    return source, target


def _path_cover(index: int, n_in: int, n_out: int) -> int:
    return n_out if index == 0 else max(n_in, n_out)


def _cover(sizes: Architecture, link: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Cells, as of `_ends`, that give a connection to every target and every source but inputs, at any port."""
    n_in, n_out = sizes[link[0]], sizes[link[1]]
    length = np.arange(_path_cover(link[0], n_in, n_out))
    joined = rng.permutation(n_out)[length % n_out] * n_in + rng.permutation(n_in)[length % n_in]
    ports = len(sizes.regular_ports(link))
    return joined if ports == 1 else joined * ports + rng.integers(ports, size=len(length))


def _share(total: int, weight: np.ndarray, least: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Whole numbers that add up to total, in proportion to weight, each between least and room."""
    exact = np.clip(_factor(total, weight, least, room) * weight, least, room)
    counts: np.ndarray = np.minimum(np.floor(exact + 1e-9).astype(np.int64), room)
    while (missing := total - int(counts.sum())) > 0:
        open_links = np.flatnonzero(counts < room)
        best = open_links[np.argsort(counts[open_links] - exact[open_links], kind="stable")]
        counts[best[:missing]] += 1
    return counts


def _factor(total: int, weight: np.ndarray, least: np.ndarray, room: np.ndarray) -> float:
    """The least factor that lifts the weights, each between least and room, to this total."""
    from scipy.optimize import brentq

    def surplus(factor: float) -> float:
        return float(np.clip(factor * weight, least, room).sum() - total)

    most = float(total) / float(weight.min()) + 1.0
    if surplus(0.0) >= 0 or surplus(most) <= 0:
        return 0.0 if surplus(0.0) >= 0 else most
    root = brentq(surplus, 0.0, most, xtol=1e-300, rtol=4 * np.finfo(float).eps, maxiter=500)
    # To the last bit, which decides between links whose shares tie.
    near = root + np.spacing(root) / 2 * np.arange(-64, 65)
    sums = np.clip(near[:, None] * weight, least, room).sum(axis=1)
    return float(near[np.argmax(sums >= total)])


def _sample_cells(cells: int, count: int, cover: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """count different cells, all of cover among them, the others uniformly at random."""
    drawn = rng.choice(cells, size=count, replace=False, shuffle=False)
    fresh = drawn[~np.isin(drawn, cover)]
    keep = rng.permutation(len(fresh))[: count - len(cover)]
    return np.concatenate([cover, fresh[keep]]).astype(np.int64)
