"""Prune: the connections of least worth go, and with them the units that lose their way in or out.

The one action that gives parameters back. Worth is w²·√v, v being Adam's second moment - a free diagonal of
the Fisher information -, the magnitude, or what the exact optimal brain surgeon says, who also moves what stays to
make up for what goes (structnet.actions.brain_surgeon; not in networks with maps, where images share the statistics).
All are proposed, and before them the growth that has become the most redundant, as a whole. Of maps, kernels and whole
maps of least worth are proposed as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from structnet.actions.base import Context, Proposal, assigned, flat_gradient, flat_values
from structnet.actions.brain_surgeon import MOST_PARAMETERS, Surgeon, surgeon
from structnet.actions.kernels import kernels_there, maps_there
from structnet.network.constant_units import constant_units, feeding_maps
from structnet.network.edit import Edit, disconnect, fold, unchanged
from structnet.network.network import StructNet
from structnet.network.topology import Topology
from structnet.training.shrinking import worth

NEWBORN_STEPS = 200  # a connection grown less than so many steps ago has not had its chance yet
RULES = ("w²·√v", "magnitude")
SURGEON = "brain surgeon"


def propose(context: Context) -> list[Proposal]:
    """The most redundant growth; and at every size, by every rule, as many of the least worth as free no more."""
    topology, network = context.topology, context.state.network
    nothing = np.empty(0, dtype=np.int64)
    idle = freed_by(topology, nothing, constant_units(network))
    proposals = []
    if idle:
        proposals.append(_proposal(context, "units without a way in or out", nothing, idle))
    operates = context.state.optimizer.step > 0 and topology.parameters <= MOST_PARAMETERS
    operates &= not topology.architecture.has_maps
    expert = surgeon(network, context.diagnosis) if operates else None
    if growth := _most_redundant(context, expert):
        proposals.append(growth)
    for rule in (*RULES, SURGEON) if expert else RULES:
        of_rule = expert if rule == SURGEON else None
        order = weakest(context, rule, of_rule)[: topology.connections // 2]
        alone = np.arange(1, len(order) + 1)
        proposals += _at_sizes(context, order, alone, f"all links: {{}} connections by {rule}", of_rule)
    for kind, together in (("kernels", kernels_there(topology)), ("maps", maps_there(topology))):
        order, stop = weakest_together(context, together)
        stop = stop[stop <= topology.connections // 2]
        proposals += _at_sizes(context, order, stop, f"all links: {{}} {kind} by {RULES[0]}")
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
    each, constant = expert.worth() if expert else worth(state), constant_units(state.network)
    rated = []
    for step in np.unique(born[(born > 0) & ~_newborn(context)]):
        grown = np.flatnonzero(born == step)
        freed = freed_by(topology, grown, constant)
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
    # What maps are scaled by in training says nothing.
    magnitude = np.abs(context.topology.split(flat_values(state.network.folded()))[0])
    score = expert.worth() if expert else worth(state) if rule == RULES[0] else magnitude
    order = np.lexsort((magnitude, score))
    judged: np.ndarray = order[~_newborn(context)[order]]
    return judged


def weakest_together(context: Context, together: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Connections that go together, those first that are worth least on average, and where each of these ends.

    together: connections by their indices. None that has a newborn is among them.
    """
    each, newborn = worth(context.state), _newborn(context)
    judged = [connections for connections in together if not newborn[connections].any()]
    order = np.argsort([each[connections].mean() for connections in judged], kind="stable")
    ordered = [np.empty(0, dtype=np.int64), *(judged[place] for place in order.tolist())]
    stop = np.cumsum([len(connections) for connections in ordered])[1:]
    every = np.concatenate(ordered)
    # A connection between two maps goes with the first of them.
    first = np.sort(np.unique(every, return_index=True)[1])
    return every[first], np.searchsorted(first, stop)


def lost_gain(context: Context, connections: np.ndarray) -> float:
    """Bits gained by setting connections to 0, to first order: usually negative."""
    values = flat_values(context.state.network)[connections]
    return float((values * flat_gradient(context)[connections]).sum() / np.log(2))


def freed_by(topology: Topology, connections: np.ndarray, constant: np.ndarray | None = None) -> int:
    """Parameters freed when these connections go and units without a way in or out are folded away.

    constant: those of structnet.network.edit.constant_units, where some group has maps.
    """
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
        heard[topology.source_unit[stays]] = True
        if constant is not None:
            reached |= constant & feeding_maps(topology, stays)
        leaving = hidden & ~gone & ~(reached & heard)
        if not leaving.any():
            return int(topology.connections - stays.sum() + gone.sum())
        gone |= leaving
        stays &= ~(gone[topology.source_unit] | gone[topology.target])


def _at_sizes(
    context: Context, order: np.ndarray, stop: np.ndarray, site: str, expert: Surgeon | None = None
) -> list[Proposal]:
    """At every size as many as free no more of what goes together; stop: where in the order each of these ends."""
    constant, proposals, taken = constant_units(context.state.network), [], set()
    for size in context.sizes:
        count, freed = _count_for(context.topology, order, stop, size, constant)
        if count and freed not in taken:
            taken.add(freed)
            gone = order[: stop[count - 1]]
            proposals.append(_proposal(context, site.format(count), gone, freed, expert))
    return proposals


def _count_for(
    topology: Topology, order: np.ndarray, stop: np.ndarray, size: int, constant: np.ndarray | None
) -> tuple[int, int]:
    """How many of the first can go for at most `size` freed parameters, and what that frees; stop: where each ends."""
    fits, freed, too_many = 0, 0, min(size, len(stop)) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        here = freed_by(topology, order[: stop[middle - 1]], constant)
        if here <= size:
            fits, freed = middle, here
        else:
            too_many = middle
    return fits, freed


def _proposal(
    context: Context, site: str, connections: np.ndarray, freed: int, expert: Surgeon | None = None
) -> Proposal:
    gone = np.sort(connections)
    if expert is None:
        return Proposal("prune", site, -freed, lost_gain(context, connections), plan={"connections": gone})
    plan = {"connections": gone, "values": expert.without(gone)}
    return Proposal("prune", site, -freed, -expert.loss_without(gone) / np.log(2), plan=plan)
