"""Insert layer: a new group after a hidden one, with its sides, without changing the output.

After ReLU, some units are passed on by the identity (structnet.actions.identity) - one connection, of maps the tap in
the middle, so that a layer of maps is depthwise at first - and hand their outgoing connections over to it (Chen et al.
2016, Net2Net); new connections of value 0 between the two groups are what the layer can learn with. Units that are not
passed on keep their connections, which then skip the new group, so a layer may cost as little as there is to spend. For
any activation, the new group can instead lie on a path beside the old links that ends in zeros.

A group of which a large share is saturated or dead is a bottleneck (structnet.measure.diagnosis): a layer is proposed
there first.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from structnet.actions.base import Context, Proposal, fed_by
from structnet.actions.identity import at_identity, gradients_at, handed_on, passed_on, straight_columns
from structnet.actions.new_units import connect_units, plan_units
from structnet.actions.widen import unit_shape
from structnet.measure.diagnosis import bottlenecks, largest
from structnet.network.activations import activation_named
from structnet.network.edit import Edit, add_group, connect
from structnet.network.network import StructNet

RULES = ("random", "gradient")  # of the fan-in


def propose(context: Context) -> list[Proposal]:
    """For every hidden group and size: a path beside it by each rule, and the identity where that is possible.

    Groups that are bottlenecks come first: the others have to wait until a layer can be added at none of them.
    Without a hidden group, a path beside the link from input to output.
    """
    groups = list(range(1, context.topology.groups - 1)) or [0]
    crowded = bottlenecks(context.diagnosis)
    at_bottlenecks = [
        replace(proposal, site=f"bottleneck, {proposal.site}") for proposal in _after(context, crowded)
    ]
    return at_bottlenecks or _after(context, [group for group in groups if group not in crowded])


def apply(network: StructNet, proposal: Proposal) -> Edit:
    plan = proposal.plan
    position, shape = plan["after"] + 1, network.topology.architecture
    if "units" not in plan:
        side, flat = shape.sides[plan["after"]], plan["after"] in shape.flat
        grown = add_group(
            network, position, plan["biases"], side, flat=flat, statistics=plan.get("statistics")
        )
        return connect_units(grown, network.topology, plan)
    edit = passed_on(network, position, plan["units"], plan.get("passed"))
    source, target = edit.port_now(network.topology, plan["source"]), edit.new_units[plan["source_unit"]]
    return edit.then(connect(edit.network, source, target))


def _after(context: Context, groups: list[int]) -> list[Proposal]:
    idempotent = activation_named(context.state.network.activation).idempotent
    proposals: dict[tuple[str, int], Proposal] = {}
    for group in groups:
        handing_on = at_identity(context, group) if idempotent and group > 0 else context
        for size in context.sizes:
            found = [_path(context, group, rule, size) for rule in RULES]
            if idempotent and group > 0:
                found.append(_identity(handing_on, group, size))
            for proposal in found:
                if proposal is not None:
                    proposals.setdefault((proposal.site, proposal.parameters_added), proposal)
    return list(proposals.values())


def _path(context: Context, group: int, rule: str, size: int) -> Proposal | None:
    topology = context.topology
    targets = fed_by(topology, group)
    fan_in = topology.fan_in()[topology.units_of(group + 1)]
    fan_out = topology.fan_out()[topology.units_of(group)]
    shape = unit_shape(fan_in, fan_out, size)
    if shape is None:
        return None
    count, each_in, each_out = shape
    plan = plan_units(
        context, [group], targets, count=count, fan_in=each_in, fan_out=each_out, rule=rule, group=group
    )
    if plan is None:
        return None
    return Proposal(
        "insert_layer",
        f"after group {group}: {len(plan.biases)} units beside its links, by {rule} fan-in",
        plan.parameters,
        context.gain(plan.gradient),
        plan={"after": group, **plan.plan()},
    )


def _identity(context: Context, group: int, size: int) -> Proposal | None:
    """A quarter of the size in identity units, those with most to gain, and the rest in connections at 0.

    context: that of `at_identity`.
    """
    topology, diagnosis = context.topology, context.diagnosis
    if diagnosis.errors[group] is None:
        return None
    units = np.arange(topology.units)[topology.units_of(group)]
    gradient = diagnosis.outer(group, group).clone()
    gradient[np.arange(len(units)), straight_columns(topology, group)] = 0.0
    promise = gradient.norm(dim=1).double().cpu().numpy()
    promise[topology.fan_out()[units] == 0] = 0.0
    count = min(int(np.count_nonzero(promise)), max(1, size // 4))
    if count == 0 or size < 3:
        return None
    chosen = np.sort(np.argsort(-promise, kind="stable")[:count])
    rows = gradient[torch.from_numpy(chosen).to(gradient.device)]
    copy, column, new = largest(rows, size - 2 * count)
    statistics = handed_on(context, units[chosen])
    return Proposal(
        "insert_layer",
        f"after group {group}: identity of {count} units, {len(new)} connections",
        2 * count + len(new),
        context.gain(new, *gradients_at(context, units[chosen], statistics)),
        plan={
            "after": group,
            "units": units[chosen],
            "source": topology.ends((group, group), copy, column)[0],
            "source_unit": copy,
            **({} if statistics is None else {"passed": statistics}),
        },
    )
