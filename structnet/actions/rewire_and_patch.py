"""Rewire and patch: some connections move and some are added, all to where the gradient is largest."""

from __future__ import annotations

from structnet.actions import rewire
from structnet.actions.base import Context, Proposal
from structnet.actions.rewire import SHARES, movable, moved
from structnet.network.edit import Edit
from structnet.network.network import StructNet


def propose(context: Context) -> list[Proposal]:
    """At every size, with a tenth of the connections moved, and with as many moved as are added."""
    expendable = movable(context)
    proposals: dict[tuple[int, int], Proposal] = {}
    for size in context.sizes:
        for count in (round(SHARES[0] * context.topology.connections), size):
            proposal = moved(context, "rewire_and_patch", expendable, count, size)
            if proposal is not None:
                proposals.setdefault((proposal.connections_moved, size), proposal)
    return list(proposals.values())


def apply(network: StructNet, proposal: Proposal) -> Edit:
    return rewire.apply(network, proposal)
