"""Residual block: F(x) + x around the units of a hidden group, with the last link of F at 0 (He et al. 2016).

The network stays an ordered list of groups. Two are inserted behind the group x: the inner units h of
F(x) = W·relu(V·x + c), and the sums relu(x + F(x)). So [.., x, y, ..] becomes [.., x, h, x + F(x), y, ..], with the
links x→h (V, sparse and not 0), x→sum (the identity) and h→sum (W, at 0). The sums take over the outgoing
connections of the units they stand for, so whatever heard x hears x + F(x). Only units that F writes to get a sum;
the others keep their connections, which then skip the block. After ReLU relu(x) = x, so the output stays as it is;
for other activations there is no such block.
"""

from __future__ import annotations

import numpy as np

from structnet.actions.base import Context, Proposal
from structnet.actions.identity import at_identity, gradients_at, handed_on, passed_on
from structnet.actions.new_units import plan_units
from structnet.network.activations import activation_named
from structnet.network.edit import Edit, add_group, connect
from structnet.network.network import StructNet

RULE = "gradmax"


def propose(context: Context) -> list[Proposal]:
    """For every hidden group and size: as many inner units as fit."""
    if not activation_named(context.state.network.activation).idempotent:
        return []
    proposals: dict[tuple[int, int], Proposal] = {}
    for group in range(1, context.topology.groups - 1):
        handing_on = at_identity(context, group)
        for size in context.sizes:
            proposal = _block(handing_on, group, size)
            if proposal is not None:
                proposals.setdefault((group, proposal.parameters_added), proposal)
    return list(proposals.values())


def apply(network: StructNet, proposal: Proposal) -> Edit:
    plan, before = proposal.plan, network.topology
    after, shape = plan["after"], before.architecture
    edit = passed_on(network, after + 1, plan["units"], plan.get("passed"))
    edit = edit.then(
        add_group(
            edit.network,
            after + 1,
            plan["biases"],
            shape.sides[after],
            flat=after in shape.flat,
            statistics=plan.get("statistics"),
        )
    )
    inner, sums = np.split(edit.new_units, [len(plan["biases"])])
    leaving = edit.network.topology.port_of(inner[plan["target_unit"]], plan["code"])
    source = np.concatenate([edit.port_now(before, plan["source"]), leaving])
    target = np.concatenate(
        [inner[plan["source_unit"]], sums[np.searchsorted(plan["units"], plan["target"])]]
    )
    value = np.concatenate([plan["value"], np.zeros(len(plan["target"]))])
    return edit.then(connect(edit.network, source, target, value))


def _block(context: Context, group: int, size: int) -> Proposal | None:
    """context: that of structnet.actions.identity.at_identity, as a sum hands on its unit."""
    shape = _shape(context, group, size)
    if shape is None:
        return None
    count, fan_in, fan_out = shape
    plan = plan_units(
        context, [group], [group], count=count, fan_in=fan_in, fan_out=fan_out, rule=RULE, group=group
    )
    if plan is None:
        return None
    units = np.unique(plan.target)
    statistics = handed_on(context, units)
    return Proposal(
        "residual_block",
        f"around {len(units)} units of group {group}: {len(plan.biases)} inner units",
        plan.parameters + 2 * len(units),
        context.gain(plan.gradient, *gradients_at(context, units, statistics)),
        plan={
            "after": group,
            "units": units,
            **plan.plan(),
            **({} if statistics is None else {"passed": statistics}),
        },
    )


def _shape(context: Context, group: int, size: int) -> tuple[int, int, int] | None:
    """Inner units, their fan-in and fan-out, connected as is usual around the group; None if none fits.

    An inner unit costs its fan-in, its bias, and for each target a connection and, at most, a sum's identity and
    bias.
    """
    topology = context.topology
    usual_in = max(2, round(float(topology.fan_in()[topology.units_of(group + 1)].mean())))
    usual_out = max(1, round(float(topology.fan_out()[topology.units_of(group)].mean())))
    fan_out = min(usual_out, max(1, (size - 1 - usual_in) // 3))
    fan_in = min(usual_in, size - 1 - 3 * fan_out)
    return None if fan_in < 1 else (size // (fan_in + 1 + 3 * fan_out), fan_in, fan_out)
