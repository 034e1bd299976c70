"""Rewire: the weakest connections move to where the gradient of an absent one is largest, at value 0.

As many go as come (Evci et al. 2020, RigL), so it is free, and what growth has to beat: the second control.
No output loses its last way in and no hidden unit its last way out. A hidden unit of little worth may lose its last
way in, or nothing could move where most units have only one: it is then a constant, and folded away later, unless
a connection moves there.
"""

from __future__ import annotations

import numpy as np

from structnet.actions.base import Context, Proposal, linked_pairs, strongest_absent
from structnet.actions.kernels import absent_kernels, kernel_pairs, kernels_there
from structnet.actions.prune import lost_gain, weakest, weakest_together
from structnet.network.edit import Edit, connect, disconnect
from structnet.network.network import StructNet
from structnet.training.shrinking import worth

SHARES = (0.10, 0.05, 0.20)  # of the connections; the first is the control's
WEAK_SHARE = 0.2  # of the hidden units, which may lose their last way in


def propose(context: Context) -> list[Proposal]:
    """One proposal per share, the control first; of maps also whole kernels. None where nothing can move."""
    connections, expendable = context.topology.connections, movable(context)
    counts = [round(share * connections) for share in SHARES]
    proposals = [moved(context, "rewire", expendable, count, 0) for count in counts]
    proposals.append(_kernels_moved(context, expendable, counts[0]))
    return [proposal for proposal in proposals if proposal is not None]


def apply(network: StructNet, proposal: Proposal) -> Edit:
    plan = proposal.plan
    edit = disconnect(network, plan["connections"])
    return edit.then(connect(edit.network, plan["source"], plan["target"]))


def moved(context: Context, action: str, expendable: np.ndarray, count: int, added: int) -> Proposal | None:
    """Moves the first `count` of the expendable connections and adds `added` more; fewer are moved without room.

    None if nothing can be moved, or not all can be added.
    """
    pairs = linked_pairs(context.topology)
    source, target, gradient = strongest_absent(context.diagnosis, pairs, max(1, count) + added)
    count = min(max(1, count), len(source) - added, len(expendable))
    if count < 1:
        return None
    wanted = slice(0, count + added)
    site = f"all links: {count} moved" + (f", {added} added" if added else "")
    arriving = source[wanted], target[wanted], gradient[wanted]
    return _proposal(context, action, site, expendable[:count], arriving)


def _kernels_moved(context: Context, expendable: np.ndarray, count: int) -> Proposal | None:
    """Of the expendable kernels as many as hold this many taps move, or one, to where kernels are wanted most."""
    topology = context.topology
    whole = [taps for taps in kernels_there(topology) if np.isin(taps, expendable).all()]
    order, stop = weakest_together(context, whole)
    if not len(stop):
        return None
    kernels = max(1, int(np.searchsorted(stop, count, side="right")))
    leaving = order[: stop[kernels - 1]]
    pairs = kernel_pairs(topology, linked_pairs(topology))
    arriving = absent_kernels(context.diagnosis, pairs, len(leaving)).taps(len(leaving))
    if len(arriving[0]) < len(leaving):
        return None
    return _proposal(context, "rewire", f"all links: {kernels} kernels moved", leaving, arriving)


def _proposal(
    context: Context,
    action: str,
    site: str,
    leaving: np.ndarray,
    arriving: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> Proposal:
    """leaving: connections by their indices. arriving: sources, targets and gradients, as many or more."""
    source, target, gradient = arriving
    return Proposal(
        action,
        site,
        len(source) - len(leaving),
        context.gain(gradient) + lost_gain(context, leaving),
        connections_moved=len(leaving),
        plan={"connections": np.sort(leaving), "source": source, "target": target},
    )


def movable(context: Context) -> np.ndarray:
    """The connections that may go, those of least worth first."""
    order = weakest(context)
    free: np.ndarray = order[~_last_ways(context, order)[order]]
    return free


def weak_units(context: Context) -> np.ndarray:
    """(units,) booleans: the hidden units that are worth least, which is what the connections out of them are."""
    topology = context.topology
    units = topology.units
    of_connections = worth(context.state).astype(np.float64)
    score = np.bincount(topology.source_unit, weights=of_connections, minlength=units)
    hidden = np.arange(topology.hidden.start, topology.hidden.stop)
    weakest_first = hidden[np.argsort(score[hidden], kind="stable")]
    weak = np.zeros(units, dtype=bool)
    weak[weakest_first[: round(WEAK_SHARE * len(hidden))]] = True
    return weak


def _last_ways(context: Context, order: np.ndarray) -> np.ndarray:
    """(connections,) booleans: a way in for every unit that is not weak, and one out for every hidden unit.

    For each it is the connection of greatest worth, or one that is not in the order, which stays anyway.
    """
    topology = context.topology
    rank = np.full(topology.connections, topology.connections)
    rank[order] = np.arange(len(order))
    kept = np.zeros(topology.connections, dtype=bool)
    inputs = np.arange(topology.units) < topology.hidden.start
    for ends, excepted in ((topology.target, weak_units(context)), (topology.source_unit, inputs)):
        best = np.lexsort((rank, ends))
        last = best[np.flatnonzero(np.diff(ends[best], append=-1))]
        kept[last[~excepted[ends[last]]]] = True
    return kept
