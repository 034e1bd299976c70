"""Clone: a saturated unit is copied - same fan-in, the fan-out split in two halves (Chen et al. 2016, Net2Net).

Symmetric copies would never part, so each of the two gets one connection of value 0 of its own, from another
source. Where no unit of a group is saturated, those that contribute most are copied.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from structnet.actions.base import (
    Context,
    Proposal,
    assigned,
    feeding,
    flat_gradient,
    flat_values,
    index_now,
    strongest_absent,
)
from structnet.network.edit import Edit, add_units, connect
from structnet.network.network import StructNet

UNITS_PER_GROUP = 5


def propose(context: Context) -> list[Proposal]:
    """Per hidden group: each of up to five units alone, and as many of them together as the largest size holds."""
    proposals = []
    for group in range(1, context.topology.groups - 1):
        kind, units = units_to_copy(context, group)
        single = [plan for unit in units.tolist() if (plan := _copy(context, group, unit)) is not None]
        proposals += [
            _proposal(context, f"{kind} unit {plan.unit} of group {group}", [plan]) for plan in single
        ]
        together = np.cumsum([plan.parameters for plan in single])
        fitting = int(np.searchsorted(together, context.sizes[-1], side="right"))
        if fitting > 1:
            site = f"{kind} units ({fitting}) of group {group}"
            proposals.append(_proposal(context, site, single[:fitting]))
    return proposals


def apply(network: StructNet, proposal: Proposal) -> Edit:
    plan, before = proposal.plan, network.topology
    units, values = plan["units"], flat_values(network)
    statistics = (
        None
        if network.statistics is None
        else network.statistics.cpu().numpy()[:, units - before.hidden.start]
    )
    grown = add_units(network, plan["group"], values[before.bias_of(units)], statistics)
    copies = grown.new_units
    copy_of = np.full(before.units, -1, dtype=np.int64)
    copy_of[units] = copies
    arriving = np.flatnonzero(copy_of[before.target] >= 0)
    leaving = np.flatnonzero(copy_of[before.source_unit] >= 0)
    owner = plan["own_unit"]
    own_target = np.where(plan["own_by_copy"], copies[owner], grown.number_now(units)[owner])
    code = before.code_of_port(before.source[leaving])
    from_copies = grown.network.topology.port_of(copy_of[before.source_unit[leaving]], code)
    source = [grown.port_now(before, before.source[arriving]), from_copies]
    target = [copy_of[before.target[arriving]], grown.number_now(before.target[leaving])]
    edit = grown.then(
        connect(
            grown.network,
            np.concatenate([*source, grown.port_now(before, plan["own_source"])]),
            np.concatenate([*target, own_target]),
            np.concatenate([values[arriving], values[leaving] / 2, np.zeros(len(owner))]),
        )
    )
    return assigned(edit, index_now(edit, leaving), values[leaving] / 2)


def units_to_copy(context: Context, group: int) -> tuple[str, np.ndarray]:
    """What kind of units to copy and which, the most promising first: they fire, and something hears them.

    The saturated ones of the group; where none is, those that contribute most.
    """
    topology, diagnosis = context.topology, context.diagnosis
    units = np.arange(topology.units)[topology.units_of(group)]
    weight = np.abs(topology.split(flat_values(context.state.network))[0])
    heard = np.bincount(topology.source_unit, weights=weight, minlength=topology.units)
    contribution = (heard * np.abs(diagnosis.mean_activation))[units]
    saturated = np.isin(units, diagnosis.saturated)
    kind = "saturated" if saturated.any() else "strongest"
    eligible = (diagnosis.firing_rate[units] > 0) & (topology.fan_out()[units] > 0)
    eligible &= saturated if saturated.any() else True
    order = np.argsort(-contribution, kind="stable")
    return kind, units[order[eligible[order]]][:UNITS_PER_GROUP]


@dataclass(frozen=True)
class _Copy:
    """A unit to copy.

    own_source: one source for the copy, and one for the unit itself if there is a second.
    gradient: of all that is new.
    """

    unit: int
    own_source: np.ndarray
    gradient: np.ndarray

    @property
    def parameters(self) -> int:
        return len(self.gradient)


def _copy(context: Context, group: int, unit: int) -> _Copy | None:
    """None if no other source could make the two copies part."""
    topology, gradient = context.topology, flat_gradient(context)
    pairs = [(source, group) for source in feeding(topology, group)]
    own_source, _, own = strongest_absent(context.diagnosis, pairs, 2, targets=np.array([unit]))
    if not len(own_source):
        return None
    # Half the fan-out passes half the error back; what leaves the copy sees the whole activation.
    connections, _ = topology.split(gradient)
    bias = gradient[topology.bias_of(np.array([unit]))]
    halved = np.concatenate([connections[topology.target == unit], bias, own]) / 2
    return _Copy(unit, own_source, np.concatenate([halved, connections[topology.source_unit == unit]]))


def _proposal(context: Context, site: str, copies: list[_Copy]) -> Proposal:
    sources = [copy.own_source for copy in copies]
    return Proposal(
        "clone",
        site,
        sum(copy.parameters for copy in copies),
        context.gain(*(copy.gradient for copy in copies)),
        plan={
            "group": int(context.topology.group_of(copies[0].unit)),
            "units": np.array([copy.unit for copy in copies]),
            "own_source": np.concatenate(sources),
            "own_unit": np.repeat(np.arange(len(copies)), [len(source) for source in sources]),
            "own_by_copy": np.concatenate([np.arange(len(source)) == 0 for source in sources]),
        },
    )
