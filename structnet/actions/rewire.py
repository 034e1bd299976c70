"""Rewire: the weakest connections move to where the gradient of an absent one is largest, at value 0.

As many go as come (Evci et al. 2020, RigL), so it is free, and what growth has to beat: the second control.
No unit loses its last way in or out, so none has to be folded away and the count is exact.
"""

from __future__ import annotations

import numpy as np

from structnet.actions.base import Action, Context, Proposal, linked_pairs, strongest_absent
from structnet.actions.prune import lost_gain, weakest
from structnet.edit import Edit, connect, disconnect
from structnet.network import StructNet
from structnet.topology import Topology

SHARES = (0.10, 0.05, 0.20)  # of the connections; the first is the control's


def propose(context: Context) -> list[Proposal]:
    """One proposal per share, the control first; none where nothing can move."""
    connections = context.topology.connections
    proposals = [moved(context, "rewire", round(share * connections), 0) for share in SHARES]
    return [proposal for proposal in proposals if proposal is not None]


def apply(network: StructNet, proposal: Proposal) -> Edit:
    plan = proposal.plan
    edit = disconnect(network, plan["connections"])
    return edit.then(connect(edit.network, plan["source"], plan["target"]))


ACTION = Action("rewire", propose, apply, preserves_output=False)


def moved(context: Context, action: str, count: int, added: int) -> Proposal | None:
    """Moves the `count` weakest connections and adds `added` more; fewer are moved if there is no room.

    None if nothing can be moved, or not all can be added.
    """
    pairs = linked_pairs(context.topology)
    source, target, gradient = strongest_absent(context.diagnosis, pairs, max(1, count) + added)
    expendable = weakest(context)
    expendable = expendable[~_last_ways(context.topology, expendable)[expendable]]
    count = min(max(1, count), len(source) - added, len(expendable))
    if count < 1:
        return None
    wanted, leaving = slice(0, count + added), expendable[:count]
    site = f"all links: {count} moved" + (f", {added} added" if added else "")
    return Proposal(
        action,
        site,
        added,
        context.gain(gradient[wanted]) + lost_gain(context, leaving),
        connections_moved=count,
        plan={"connections": np.sort(leaving), "source": source[wanted], "target": target[wanted]},
    )


def _last_ways(topology: Topology, expendable: np.ndarray) -> np.ndarray:
    """(connections,) booleans: a way in for every unit and one out for every hidden unit, to be kept.

    For each unit it is the connection of greatest worth, or a newborn, which stays anyway.
    """
    rank = np.full(topology.connections, topology.connections)
    rank[expendable] = np.arange(len(expendable))
    kept = np.zeros(topology.connections, dtype=bool)
    for ends in (topology.target, topology.source):
        best = np.lexsort((rank, ends))
        last = np.flatnonzero(np.diff(ends[best], append=-1))
        kept[best[last]] = True
    return kept
