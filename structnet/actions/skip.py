"""Skip: a link between groups that none joins yet, passing over the groups between.

Its connections have value 0, so the output stays as it is, and lie where the gradient of an absent connection is
largest (Evci et al. 2020, RigL). A link that is there already is the business of `patch`.
"""

from __future__ import annotations

import numpy as np

from structnet.actions.base import Context, Proposal, strongest_absent, unlinked_pairs
from structnet.network.edit import Edit, connect
from structnet.network.network import StructNet


def propose(context: Context) -> list[Proposal]:
    """For every missing link, and over all of them together, at every size; none where all groups are joined."""
    pairs = unlinked_pairs(context.topology)
    proposals = []
    for pair in pairs:
        proposals += _at_sizes(context, f"new link {pair[0]}→{pair[1]}", [pair])
    if len(pairs) > 1:
        proposals += _at_sizes(context, "all new links", pairs)
    return proposals


def apply(network: StructNet, proposal: Proposal) -> Edit:
    return connect(network, proposal.plan["source"], proposal.plan["target"])


def _at_sizes(context: Context, site: str, pairs: list[tuple[int, int]]) -> list[Proposal]:
    source, target, gradient = strongest_absent(context.diagnosis, pairs, context.sizes[-1])
    return [
        Proposal(
            "skip",
            f"{site}: {size} by gradient",
            size,
            context.gain(gradient[:size]),
            plan={"source": source[:size], "target": target[:size]},
        )
        for size in np.unique(np.minimum(context.sizes, len(source))).tolist()
        if size > 0
    ]
