"""Proportional growth with forward skips: every group may feed every later one, each pair by its share.

Connections of value 0 are added to all links, and to the forward skips that are not links yet, in proportion to
n_in + n_out of the two groups (Mocanu et al. 2018), each where the gradient of an absent connection is largest.
At growing density as many are added as there are to spend. At constant density as many as the new links call for:
the share of possible connections that exist stays what it was while more become possible.
"""

from __future__ import annotations

import numpy as np

from structnet.actions.base import Context, Proposal, linked_pairs, unlinked_pairs
from structnet.network.edit import Edit, connect
from structnet.network.network import StructNet

Pairs = list[tuple[int, int]]


def propose(context: Context) -> list[Proposal]:
    """At growing density every size; at constant density one, if the largest size holds a new link at all."""
    topology = context.topology
    linked, unlinked = linked_pairs(topology), unlinked_pairs(topology)
    proposals: dict[int, Proposal] = {}
    skips, count = _affordable_skips(context, unlinked)
    for pairs, total, how in [
        (linked + skips, count, "constant"),
        *((linked + unlinked, size, "growing") for size in context.sizes),
    ]:
        proposal = _grown(context, pairs, total, how)
        if proposal is not None:
            proposals.setdefault(proposal.parameters_added, proposal)
    return list(proposals.values())


def apply(network: StructNet, proposal: Proposal) -> Edit:
    return connect(network, proposal.plan["source"], proposal.plan["target"])


def shares(total: int, weight: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Whole numbers in proportion to weight, none above its room; they add up to total, or to all the room."""
    counts = np.zeros(len(weight), dtype=np.int64)
    while (left := total - int(counts.sum())) > 0 and (counts < room).any():
        part = weight * (counts < room)
        edges = np.round(left * np.cumsum(part) / part.sum()).astype(np.int64)
        counts = np.minimum(counts + np.diff(edges, prepend=0), room)
    return counts


def _affordable_skips(context: Context, unlinked: Pairs) -> tuple[Pairs, int]:
    """As many new links as the largest size holds at the network's density, the smallest first, and its count."""
    topology = context.topology
    ordered = sorted(unlinked, key=topology.possible_of)
    possible = np.cumsum([topology.possible_of(pair) for pair in ordered])
    counts = np.round(topology.density * possible).astype(np.int64)
    fitting = int(np.searchsorted(counts, context.sizes[-1], side="right"))
    return ordered[:fitting], int(counts[fitting - 1]) if fitting else 0


def _grown(context: Context, pairs: Pairs, total: int, how: str) -> Proposal | None:
    topology = context.topology
    weight = np.array([topology.units_joined(pair) for pair in pairs])
    room = np.array([topology.absent_of(pair) for pair in pairs])
    counts = shares(total, weight, room)
    found = [context.diagnosis.absent(*pair, count) for pair, count in zip(pairs, counts.tolist())]
    source, target, gradient = (np.concatenate(part) for part in zip(*found))
    if not len(source):
        return None
    return Proposal(
        "proportional",
        f"{sum(len(part[0]) > 0 for part in found)} links at {how} density: {len(source)} by gradient",
        len(source),
        context.gain(gradient),
        plan={"source": source, "target": target},
    )
