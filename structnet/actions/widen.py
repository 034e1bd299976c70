"""Widen: new units in a hidden group.

Their fan-in is sparse, by one of three rules (structnet.actions.new_units): at random, by gradient, or such that
the gradient of the fan-out is as large as it can be. The fan-out has value 0 at the targets where it gets the
largest gradient, so the output stays as it is.
"""

from __future__ import annotations

import numpy as np

from structnet.actions.base import Context, Proposal, fed_by, feeding
from structnet.actions.new_units import RULES, connect_units, plan_units
from structnet.network.edit import Edit, add_units
from structnet.network.network import StructNet


def propose(context: Context) -> list[Proposal]:
    """For every hidden group, rule and size: as many units as fit, connected like those that are there."""
    proposals: dict[tuple[int, str, int], Proposal] = {}
    for group in range(1, context.topology.groups - 1):
        for rule in RULES:
            for size in context.sizes:
                proposal = _widened(context, group, rule, size)
                if proposal is not None:
                    proposals.setdefault((group, rule, proposal.parameters_added), proposal)
    return list(proposals.values())


def apply(network: StructNet, proposal: Proposal) -> Edit:
    plan = proposal.plan
    grown = add_units(network, plan["group"], plan["biases"], plan.get("statistics"))
    return connect_units(grown, network.topology, plan)


def unit_shape(fan_in: np.ndarray, fan_out: np.ndarray, size: int) -> tuple[int, int, int] | None:
    """Units, fan-in and fan-out that fit a size, connected like the units of these fans; None below 3."""
    if size < 3:
        return None
    each_in, each_out = max(2, round(float(fan_in.mean()))), max(1, round(float(fan_out.mean())))
    each_out = min(each_out, max(1, (size - 1) // 2))
    each_in = min(each_in, size - 1 - each_out)
    return size // (each_in + each_out + 1), each_in, each_out


def _widened(context: Context, group: int, rule: str, size: int) -> Proposal | None:
    topology = context.topology
    units = topology.units_of(group)
    shape = unit_shape(topology.fan_in()[units], topology.fan_out()[units], size)
    if shape is None:
        return None
    count, fan_in, fan_out = shape
    plan = plan_units(
        context,
        feeding(topology, group),
        fed_by(topology, group),
        count=count,
        fan_in=fan_in,
        fan_out=fan_out,
        rule=rule,
        group=group,
    )
    if plan is None:
        return None
    return Proposal(
        "widen",
        f"group {group}: {len(plan.biases)} units by {rule} fan-in",
        plan.parameters,
        context.gain(plan.gradient),
        plan={"group": group, **plan.plan()},
    )
