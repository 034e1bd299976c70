"""Dead units begin anew: what they held is released, and units in their place get other connections.

A ReLU unit that fires on none of the images holds parameters and does nothing. In its place a unit of the same group
gets a fan-in, and a fan-out of value 0, where the gradient of an absent connection is largest
(structnet.actions.new_units).
The output stays as it is on every image on which the unit did not fire, which holds for all that were diagnosed.
"""

from __future__ import annotations

import numpy as np

from structnet.actions.base import Context, Proposal
from structnet.actions.new_units import connect_units, plan_units
from structnet.actions.reading import room
from structnet.network.edit import Edit, add_units, remove_units
from structnet.network.network import StructNet


def propose_anew(
    context: Context, action: str, group: int, sources: list[int], targets: list[int]
) -> list[Proposal]:
    """For a hidden group, at every size: as many of its silent units as fit; none without one.

    sources, targets: groups that the new fan-in comes from, and that the new fan-out leads to. A size is what is added
    beside what the units held: that moves.
    """
    silent = _silent(context, group)
    proposals: dict[int, Proposal] = {}
    for size in context.sizes if len(silent) else ():
        proposal = _anew(context, action, group, silent, sources, targets, size)
        if proposal is not None:
            proposals.setdefault(proposal.parameters_added, proposal)
    return list(proposals.values())


def apply_anew(network: StructNet, proposal: Proposal) -> Edit:
    """The network with the units of a proposal begun anew."""
    plan = proposal.plan
    grown = add_units(network, plan["group"], plan["biases"], plan.get("statistics"))
    edit = connect_units(grown, network.topology, plan)
    # The new units come before the old ones go, so that the group is never empty.
    return edit.then(remove_units(edit.network, edit.number_now(plan["dead"])))


def _silent(context: Context, group: int) -> np.ndarray:
    """The units of a group that never fire, those that hold most parameters first."""
    units = context.diagnosis.dead[context.topology.group_of(context.diagnosis.dead) == group]
    units = units[context.silent[units]]
    ordered: np.ndarray = units[np.argsort(-_held(context)[units], kind="stable")]
    return ordered


def _held(context: Context) -> np.ndarray:
    """(units,) parameters that each hidden unit holds: its connections and its bias."""
    held: np.ndarray = context.topology.fan_in() + context.topology.fan_out() + 1
    return held


def _anew(
    context: Context,
    action: str,
    group: int,
    silent: np.ndarray,
    sources: list[int],
    targets: list[int],
    size: int,
) -> Proposal | None:
    topology = context.topology
    units = topology.units_of(group)
    usual_in, usual_out = (float(fan[units].mean()) for fan in (topology.fan_in(), topology.fan_out()))
    heard = room(topology, group, targets)
    count = min(len(silent), heard, max(1, round(size / (usual_in + usual_out + 1))))
    connections = (size + int(_held(context)[silent[:count]].sum())) // count - 1
    fan_out = min(
        max(1, round(connections * usual_out / max(1.0, usual_in + usual_out))), connections - 1, heard
    )
    if fan_out < 1:
        return None
    plan = plan_units(
        context,
        sources,
        targets,
        count=count,
        fan_in=connections - fan_out,
        fan_out=fan_out,
        rule="gradient",
        group=group,
    )
    if plan is None:
        return None
    dead = silent[: len(plan.biases)]
    held = int(_held(context)[dead].sum())
    if plan.parameters <= held:
        return None
    route = "→".join(",".join(map(str, groups)) for groups in (sources, [group], targets))
    return Proposal(
        action,
        f"{len(dead)} dead units of group {group}: {route}",
        plan.parameters - held,
        context.gain(plan.gradient),
        connections_moved=held - len(dead),
        plan={"group": group, "dead": np.sort(dead), **plan.plan()},
    )
