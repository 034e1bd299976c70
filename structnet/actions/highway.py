"""Highway: a dead unit begins anew, fed from far away and heard far away (structnet.actions.dead_units).

Its fan-in comes from groups at least two before its own, or from the input, and its fan-out leads to groups at least
two after it, or to the output: a path that bypasses the groups between. So there has to be one, beside its own.
"""

from __future__ import annotations

from structnet.actions.base import Context, Proposal
from structnet.actions.dead_units import apply_anew as apply
from structnet.actions.dead_units import propose_anew

__all__ = ["apply", "ends", "propose"]


def propose(context: Context) -> list[Proposal]:
    """For every hidden group with silent units, at every size; none where there is no other group to bypass."""
    groups = context.topology.groups
    return [
        proposal
        for group in range(1, groups - 1)
        if groups > 3
        for proposal in propose_anew(context, "highway", group, *ends(groups, group))
    ]


def ends(groups: int, group: int) -> tuple[list[int], list[int]]:
    """The groups that a highway through a hidden group starts at, and those it leads to."""
    return list(range(group - 1)) or [0], list(range(group + 2, groups)) or [groups - 1]
