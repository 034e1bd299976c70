"""Restart: a dead unit begins anew where it is (structnet.actions.dead_units).

Its new connections run between the groups that its own is linked to.
"""

from __future__ import annotations

from structnet.actions.base import Context, Proposal, fed_by, feeding
from structnet.actions.dead_units import apply_anew as apply
from structnet.actions.dead_units import propose_anew

__all__ = ["apply", "propose"]


def propose(context: Context) -> list[Proposal]:
    """For every hidden group with silent units, at every size."""
    topology = context.topology
    return [
        proposal
        for group in range(1, topology.groups - 1)
        for proposal in propose_anew(
            context, "restart", group, feeding(topology, group), fed_by(topology, group)
        )
    ]
