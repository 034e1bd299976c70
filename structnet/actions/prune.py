"""Prune: the connections of least worth go, and with them the units that lose their way in or out.

The one action that gives parameters back. Worth is w²·√v, v being Adam's second moment - a free diagonal of
the Fisher information -, the magnitude, or what the exact optimal brain surgeon says, who also moves what stays to
make up for what goes (structnet.actions.brain_surgeon). All are proposed, and before them the growth that has become
the most redundant, as a whole.
"""

from __future__ import annotations

import numpy as np

from structnet.actions.base import Context, Proposal, assigned, flat_gradient, flat_values
from structnet.actions.brain_surgeon import MOST_PARAMETERS, Surgeon, surgeon
from structnet.network.edit import Edit, disconnect, fold, unchanged
from structnet.network.network import StructNet
from structnet.network.topology import Topology
from structnet.training.shrinking import worth

NEWBORN_STEPS = 200  # a connection grown less than so many steps ago has not had its chance yet
RULES = ("w²·√v", "magnitude")
SURGEON = "brain surgeon"


def propose(context: Context) -> list[Proposal]:
    """The most redundant growth; and at every size, by every rule, as many of the least worth as free no more."""
    topology = context.topology
    idle = freed_by(topology, np.empty(0, dtype=np.int64))
    proposals = []
    if idle:
        proposals.append(
            _proposal(context, "units without a way in or out", np.empty(0, dtype=np.int64), idle)
        )
    operates = context.state.optimizer.step > 0 and topology.parameters <= MOST_PARAMETERS
    expert = surgeon(context.state.network, context.diagnosis) if operates else None
    if growth := _most_redundant(context, expert):
        proposals.append(growth)
    for rule in (*RULES, SURGEON) if expert else RULES:
        of_rule = expert if rule == SURGEON else None
        order = weakest(context, rule, of_rule)[: topology.connections // 2]
        taken = set()
        for size in context.sizes:
            count, freed = _count_for(topology, order, size)
            if count and freed not in taken:
                taken.add(freed)
                site = f"all links: {count} connections by {rule}"
                proposals.append(_proposal(context, site, order[:count], freed, of_rule))
    return proposals


def apply(network: StructNet, proposal: Proposal) -> Edit:
    edit = unchanged(network)
    if "values" in proposal.plan:
        edit = assigned(edit, np.arange(network.parameter_count), proposal.plan["values"])
    edit = edit.then(disconnect(edit.network, proposal.plan["connections"]))
    return edit.then(fold(edit.network))


def _most_redundant(context: Context, expert: Surgeon | None) -> Proposal | None:
    """Of the growths that fit a size, the one whose connections are worth least per parameter that they free.

    A growth is what was born at one step, as in structnet.growth.utilisation. None where nothing has grown.
    """
    state, topology = context.state, context.topology
    born, _ = topology.split(state.born)
    each = expert.worth() if expert else worth(state)
    rated = []
    for step in np.unique(born[(born > 0) & ~_newborn(context)]):
        grown = np.flatnonzero(born == step)
        freed = freed_by(topology, grown)
        if freed <= max(context.sizes, default=0):
            site = f"what grew at step {step}: {len(grown)} connections"
            rated.append((float(each[grown].sum()) / freed, site, grown, freed))
    if not rated:
        return None
    _, site, grown, freed = min(rated, key=lambda growth: growth[0])
    return _proposal(context, site, grown, freed, expert)


def _newborn(context: Context) -> np.ndarray:
    """(connections,) whether a connection has grown too lately to be judged; those of the seed never have."""
    born, _ = context.topology.split(context.state.born)
    return (born > 0) & (context.state.step - born < NEWBORN_STEPS)


def weakest(context: Context, rule: str = RULES[0], expert: Surgeon | None = None) -> np.ndarray:
    """Connections by their index, those of least worth first; newborns are left out. expert: for its own rule.

    The magnitude decides among equals, so before the first optimizer step, when w²·√v is 0 everywhere, it decides
    alone.
    """
    state = context.state
    magnitude = np.abs(context.topology.split(flat_values(state.network))[0])
    score = expert.worth() if expert else worth(state) if rule == RULES[0] else magnitude
    order = np.lexsort((magnitude, score))
    judged: np.ndarray = order[~_newborn(context)[order]]
    return judged


def lost_gain(context: Context, connections: np.ndarray) -> float:
    """Bits gained by setting connections to 0, to first order: usually negative."""
    values = flat_values(context.state.network)[connections]
    return float((values * flat_gradient(context)[connections]).sum() / np.log(2))


def freed_by(topology: Topology, connections: np.ndarray) -> int:
    """Parameters freed when these connections go and units without a way in or out are folded away."""
    stays = np.ones(topology.connections, dtype=bool)
    stays[connections] = False
    units = topology.units
    hidden = np.zeros(units, dtype=bool)
    hidden[topology.hidden] = True
    gone = np.zeros(units, dtype=bool)
    while True:
        reached = np.zeros(units, dtype=bool)
        reached[topology.target[stays]] = True
        heard = np.zeros(units, dtype=bool)
        heard[topology.source[stays]] = True
        leaving = hidden & ~gone & ~(reached & heard)
        if not leaving.any():
            return int(topology.connections - stays.sum() + gone.sum())
        gone |= leaving
        stays &= ~(gone[topology.source] | gone[topology.target])


def _count_for(topology: Topology, order: np.ndarray, size: int) -> tuple[int, int]:
    """How many of the first in this order can go for at most `size` freed parameters, and what that frees."""
    fits, too_many = 0, min(size, len(order)) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if freed_by(topology, order[:middle]) <= size:
            fits = middle
        else:
            too_many = middle
    return fits, freed_by(topology, order[:fits])


def _proposal(
    context: Context, site: str, connections: np.ndarray, freed: int, expert: Surgeon | None = None
) -> Proposal:
    gone = np.sort(connections)
    if expert is None:
        return Proposal("prune", site, -freed, lost_gain(context, connections), plan={"connections": gone})
    plan = {"connections": gone, "values": expert.without(gone)}
    return Proposal("prune", site, -freed, -expert.loss_without(gone) / np.log(2), plan=plan)
