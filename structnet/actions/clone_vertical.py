"""Vertical clone: a saturated unit is copied into the next hidden group, which the unit itself feeds.

After ReLU the copy is exact: one connection of value 1 from the unit, bias 0 (Chen et al. 2016, Net2Net). It lies
on a path parallel to the old one: what it says of the unit goes on to the groups after its own, through
connections of value 0 where their gradient is largest, so the output stays as it is. The unit keeps all it had.
From the first steps on the copy has a scale, a threshold and targets of its own, so the two part. Where no unit of
a group is saturated, those that contribute most are copied.
"""

from __future__ import annotations

import numpy as np

from structnet.actions.base import Context, Proposal, fed_by
from structnet.actions.clone import units_to_copy
from structnet.actions.new_units import UnitPlan, connect_units, units_of
from structnet.network.activations import activation_named
from structnet.network.edit import Edit, add_units
from structnet.network.network import StructNet


def propose(context: Context) -> list[Proposal]:
    """For every hidden group with a hidden one after it, at every size: as many copies as fit."""
    if not activation_named(context.state.network.activation).idempotent:
        return []
    proposals: dict[tuple[int, int], Proposal] = {}
    for group in range(1, context.topology.groups - 2):
        kind, units = units_to_copy(context, group)
        for size in context.sizes if len(units) else ():
            proposal = _copied(context, group, kind, units, size)
            if proposal is not None:
                proposals.setdefault((group, proposal.parameters_added), proposal)
    return list(proposals.values())


def apply(network: StructNet, proposal: Proposal) -> Edit:
    grown = add_units(network, proposal.plan["group"], proposal.plan["biases"])
    return connect_units(grown, proposal.plan)


def _copied(context: Context, group: int, kind: str, units: np.ndarray, size: int) -> Proposal | None:
    """As many copies as fit with the fan-out that is usual in their new group, or fewer with a larger one."""
    topology = context.topology
    usual = max(1, round(float(topology.fan_out()[topology.units_of(group + 1)].mean())))
    count = min(len(units), max(1, size // (usual + 2)))
    fan_out = size // count - 2
    if fan_out < 1:
        return None
    plan = _plan(context, group, units[:count], fan_out)
    if plan is None:
        return None
    return Proposal(
        "clone_vertical",
        f"{kind} units ({len(plan.biases)}) of group {group}, copied into group {group + 1}",
        plan.parameters,
        context.gain(plan.gradient),
        plan={"group": group + 1, **plan.plan()},
    )


def _plan(context: Context, group: int, units: np.ndarray, fan_out: int) -> UnitPlan | None:
    """None if what the units say makes no difference to any later group."""
    topology, diagnosis = context.topology, context.diagnosis
    later = fed_by(topology, group + 1)
    column = topology.position_in(group, units)
    gradient = np.concatenate(
        [diagnosis.outer(group, target).double().cpu().numpy()[:, column] for target in later]
    ).T
    best = np.argsort(-np.abs(gradient), axis=1, kind="stable")[:, :fan_out]
    gradient = np.take_along_axis(gradient, best, axis=1)
    heard = np.flatnonzero(gradient.any(axis=1))
    if not len(heard):
        return None
    unit, place = np.nonzero(gradient[heard])
    return UnitPlan(
        biases=np.zeros(len(heard)),
        source=units[heard],
        source_unit=np.arange(len(heard)),
        value=np.ones(len(heard)),
        target=units_of(topology, later)[best[heard][unit, place]],
        target_unit=unit,
        gradient=gradient[heard][unit, place],
    )
