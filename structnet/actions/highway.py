"""Highway: a dead unit begins anew, fed from far away and heard far away.

A ReLU unit that fires on none of the images holds parameters and does nothing. They are released - its
connections and its bias - and in its place a unit of the same group gets a fan-in from groups at least two before
its own, or from the input, and a fan-out of value 0 to groups at least two after it, or to the output: a path that
bypasses the groups between. Sources and targets are those of the largest gradient of an absent connection
(structnet.actions.new_units). The output stays as it is on every image on which the unit did not fire, which holds
for all that were diagnosed.
"""

from __future__ import annotations

import numpy as np

from structnet.actions.base import Context, Proposal
from structnet.actions.new_units import connect_units, plan_units, units_of
from structnet.actions.reactivate import is_silent
from structnet.network.edit import Edit, add_units, remove_units
from structnet.network.network import StructNet


def propose(context: Context) -> list[Proposal]:
    """For every hidden group with silent units, at every size: as many of them as fit; none without one.

    A size is what is added beside what they held: that moves.
    """
    proposals: dict[tuple[int, int], Proposal] = {}
    for group in range(1, context.topology.groups - 1):
        silent = _silent(context, group)
        for size in context.sizes if len(silent) else ():
            proposal = _highway(context, group, silent, size)
            if proposal is not None:
                proposals.setdefault((group, proposal.parameters_added), proposal)
    return list(proposals.values())


def apply(network: StructNet, proposal: Proposal) -> Edit:
    plan = proposal.plan
    edit = connect_units(add_units(network, plan["group"], plan["biases"]), plan)
    # The new units come before the old ones go, so that the group is never empty.
    return edit.then(remove_units(edit.network, edit.number_now(plan["dead"])))


def ends(groups: int, group: int) -> tuple[list[int], list[int]]:
    """The groups that a highway through a hidden group starts at, and those it leads to."""
    return list(range(group - 1)) or [0], list(range(group + 2, groups)) or [groups - 1]


def _silent(context: Context, group: int) -> np.ndarray:
    """The units of a group that never fire, those that hold most parameters first."""
    units = context.diagnosis.dead[context.topology.group_of(context.diagnosis.dead) == group]
    units = units[is_silent(context, units)]
    ordered: np.ndarray = units[np.argsort(-_held(context)[units], kind="stable")]
    return ordered


def _held(context: Context) -> np.ndarray:
    """(units,) parameters that each hidden unit holds: its connections and its bias."""
    held: np.ndarray = context.topology.fan_in() + context.topology.fan_out() + 1
    return held


def _highway(context: Context, group: int, silent: np.ndarray, size: int) -> Proposal | None:
    topology = context.topology
    sources, targets = ends(topology.groups, group)
    units = topology.units_of(group)
    usual_in, usual_out = (float(fan[units].mean()) for fan in (topology.fan_in(), topology.fan_out()))
    heard = len(units_of(topology, targets))
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
    )
    if plan is None:
        return None
    dead = silent[: len(plan.biases)]
    held = int(_held(context)[dead].sum())
    if plan.parameters <= held:
        return None
    route = "→".join(",".join(map(str, groups)) for groups in (sources, [group], targets))
    return Proposal(
        "highway",
        f"{len(dead)} dead units of group {group}: {route}",
        plan.parameters - held,
        context.gain(plan.gradient),
        connections_moved=held - len(dead),
        plan={"group": group, "dead": np.sort(dead), **plan.plan()},
    )
