"""Where a link would grow by the shape of the network alone: Cannistraci-Hebb theory, and one step of its training.

An absent connection (u, v) of two groups is the more likely the more paths of length 3 join its ends, and the more the
units on these paths keep to themselves. CH2-L3n (Zhang et al. 2025, CHTs; Muscoloni & Cannistraci 2018 for the theory)
adds (i + 1) ÷ (e + 1) over these units, with i connections to others of them and e to any other unit but the ends.
No value and no gradient has a say in it.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from structnet.growth.rewiring import rounded_down
from structnet.network.edit import connect, disconnect
from structnet.network.state import TrainState
from structnet.network.topology import Topology

Pair = tuple[int, int]


def ch2_l3n(topology: Topology, pair: Pair) -> np.ndarray:
    """(n_out, n_in) float64 scores of the absent connections of a link, 0 for those that exist."""
    row, column = topology.positions(pair)
    n_in, n_out = topology.shape_of(pair)
    links = sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=(n_out, n_in))
    # Over the sources that the path goes through, which are seen from the target, and the other way round.
    scores: np.ndarray = _over_one_side(links.T.tocsr()).T + _over_one_side(links)
    scores[row, column] = 0.0
    return scores


def _over_one_side(links: sparse.csr_matrix) -> np.ndarray:
    """(units, others): for a unit u of the one side and v of the other, the sum over the neighbours of u.

    links: (units, others). A neighbour b of u is on a path if it shares c > 0 neighbours with v; these are within, and
    all its others, but for u itself, are not.
    """
    shared = (links.T @ links).toarray()
    degree = np.asarray(links.sum(axis=0)).ravel()[:, None]
    # Of what exists already, which is not asked for, the difference may be 0.
    ratio = np.where(shared > 0, (shared + 1) / np.maximum(degree - shared, 1), 0.0)
    summed: np.ndarray = links @ ratio
    return summed


def cannistraci_hebb_step(
    state: TrainState, share: float, rng: np.random.Generator, *, power: float | None = None
) -> TrainState:
    """One step of Cannistraci-Hebb training, which leaves every link as many connections.

    Of each link the share, rounded down, that matters least goes - by |w| relative to all that its source has and all
    that its target has - and as many come where the score is largest, with value 0. power: softly, as the authors'
    later rule: what stays is drawn in proportion to its importance to this power, what comes in proportion to its
    score. Where too few absent connections have a score, the rest comes at random.
    """
    network = state.network
    topology = network.topology
    leaving, moved = [], {}
    for pair, span in topology.links.items():
        count = min(rounded_down(share * (span.stop - span.start)), topology.absent_of(pair))
        values = network.folded().values.detach()[span].cpu().numpy()
        gone = _least_important(topology, pair, values, count, rng, power)
        leaving.append(span.start + gone)
        moved[pair] = len(gone)
    without = state.edited(disconnect(network, np.concatenate(leaving)))
    core = without.network.topology
    found = [
        core.ends(pair, *_placed(core, topology, pair, count, rng, soft=power is not None))
        for pair, count in moved.items()
    ]
    source, target = (np.concatenate(part) for part in zip(*found))
    return without.edited(connect(without.network, source, target))


def importance(topology: Topology, pair: Pair, values: np.ndarray) -> np.ndarray:
    """(connections,) |w| relative to the sum over those of its source, and to that over those of its target, added."""
    row, column = topology.positions(pair)
    size = np.abs(values.astype(np.float64))
    of_source, of_target = np.bincount(column, size), np.bincount(row, size)
    tiny = np.finfo(np.float64).tiny
    found: np.ndarray = size / np.maximum(of_source[column], tiny) + size / np.maximum(of_target[row], tiny)
    return found


def _least_important(
    topology: Topology,
    pair: Pair,
    values: np.ndarray,
    count: int,
    rng: np.random.Generator,
    power: float | None,
) -> np.ndarray:
    """Positions in a link of so many that go."""
    if count == 0:
        return np.empty(0, dtype=np.int64)
    worth = importance(topology, pair, values)
    if power is None:
        return np.argsort(worth, kind="stable")[:count]
    kept = _drawn(worth**power, len(values) - count, rng)
    return np.setdiff1d(np.arange(len(values)), kept)


def _placed(
    core: Topology, before: Topology, pair: Pair, count: int, rng: np.random.Generator, *, soft: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of so many connections that come: not where one has just gone."""
    if count == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    scores = ch2_l3n(core, pair)
    row, column = before.positions(pair)
    scores[row, column] = -1.0
    absent = np.flatnonzero(scores.ravel() >= 0)
    weight = scores.ravel()[absent]
    chosen = _drawn(weight, count, rng) if soft else _largest(weight, count, rng)
    return np.divmod(absent[chosen], before.shape_of(pair)[0])


def _largest(weight: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of so many of the largest; chance decides among those that are as large as the least of them."""
    bound = np.partition(weight, len(weight) - count)[len(weight) - count]
    above, alike = np.flatnonzero(weight > bound), np.flatnonzero(weight == bound)
    return np.concatenate([above, rng.permutation(alike)[: count - len(above)]])


def _drawn(weight: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """So many positions without putting back, in proportion to their weights; those of weight 0 come last.

    By the order of exponential clocks (Efraimidis & Spirakis 2006), which is one pass over all.
    """
    likely = np.flatnonzero(weight > 0)
    waits = rng.exponential(size=len(likely)) / weight[likely]
    if count < len(likely):
        return likely[np.argpartition(waits, count)[:count]]
    return np.concatenate([likely, rng.permutation(np.flatnonzero(weight <= 0))[: count - len(likely)]])
