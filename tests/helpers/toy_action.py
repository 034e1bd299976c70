"""A growth action of one's own: this file, and a line of the registry that a test adds.

Connections of value 0 from the inputs to the first group, the same ones every time.
"""

from __future__ import annotations

import numpy as np

from structnet.actions import Action
from structnet.actions.base import Context, Proposal
from structnet.network.edit import Edit, connect
from structnet.network.network import StructNet
from structnet.network.random_topology import random_absent


def propose(context: Context) -> list[Proposal]:
    found = [_from_inputs(context, "toy", size, np.random.default_rng(0)) for size in context.sizes]
    return [proposal for proposal in found if proposal.parameters_added]


def apply(network: StructNet, proposal: Proposal) -> Edit:
    return connect(network, proposal.plan["source"], proposal.plan["target"])


def random_twin(context: Context, proposal: Proposal) -> Proposal:
    return _from_inputs(context, "toy:random", proposal.parameters_added, context.rng)


def _from_inputs(context: Context, name: str, count: int, rng: np.random.Generator) -> Proposal:
    row, column = random_absent(context.topology, (0, 1), count, rng)
    source, target = column, row + context.topology.offsets[1]
    gradient = context.diagnosis.outer(0, 1)[row, column].double().cpu().numpy()
    gain = context.gain(gradient)
    return Proposal(
        name, f"{len(row)} from the inputs", len(row), gain, plan={"source": source, "target": target}
    )


TOY = Action("toy", module=__name__)
