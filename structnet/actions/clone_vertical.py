"""Vertical clone: a saturated unit is copied into the next hidden group, which the unit itself feeds.

After ReLU the copy is exact: one connection of value 1 from the unit (structnet.actions.identity) - of maps as far as
the sides of the next group let it see them: at a stride, or as their mean. It lies on a path parallel to the old one:
what it says of the unit goes on to the groups after its own, through connections of value 0 where their gradient is
largest, so the output stays as it is. The unit keeps all it had. From the first steps on the copy has a scale, a
threshold and targets of its own, so the two part. Where no unit of a group is saturated, those that contribute most are
copied.
"""

from __future__ import annotations

import numpy as np
import torch

from structnet.actions.base import Context, Proposal, fed_by
from structnet.actions.clone import units_to_copy
from structnet.actions.firing import deviations, moments
from structnet.actions.identity import biases_of, straight
from structnet.actions.new_units import UnitPlan, connect_units
from structnet.actions.reading import Saying
from structnet.compiled.normalise import LEAST_VARIANCE
from structnet.measure.ports import seen_at
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
    plan = proposal.plan
    grown = add_units(network, plan["group"], plan["biases"], plan.get("statistics"))
    return connect_units(grown, network.topology, plan)


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
    later = [target for target in fed_by(topology, group + 1) if diagnosis.errors[target] is not None]
    if not later:
        return None
    saying = Saying(diagnosis, later, group + 1)
    source = straight(topology, units, group + 1)
    gradient, statistics = _heard(context, source, saying)
    best = np.argsort(-np.abs(gradient), axis=1, kind="stable")[:, :fan_out]
    gradient = np.take_along_axis(gradient, best, axis=1)
    heard = np.flatnonzero(gradient.any(axis=1))
    if not len(heard):
        return None
    kept = None if statistics is None else statistics[:, heard]
    unit, place = np.nonzero(gradient[heard])
    target, code = (ends[best[heard][unit, place]] for ends in saying.ends)
    return UnitPlan(
        biases=biases_of(context.state.network, len(heard), kept),
        source=source[heard],
        source_unit=np.arange(len(heard)),
        value=np.ones(len(heard)),
        target=target,
        target_unit=unit,
        gradient=gradient[heard][unit, place],
        code=code,
        statistics=kept,
    )


def _heard(context: Context, source: np.ndarray, saying: Saying) -> tuple[np.ndarray, np.ndarray | None]:
    """The gradient of all that copies of these ports can say, (copies, connections), and the copies' statistics."""
    topology, diagnosis = context.topology, context.diagnosis
    unit, into = topology.unit_of_port(source), saying.group
    group, shape = int(topology.group_of(unit[0])), topology.architecture
    place = topology.position_in(group, unit)
    if not shape.has_maps:
        every = [diagnosis.outer(group, target).double().cpu().numpy()[:, place] for target in saying.targets]
        return np.concatenate(every).T, None
    copied = diagnosis.activations[group]
    copied = copied[torch.from_numpy(place).to(copied.device)]
    copied = seen_at(shape, (group, into), int(topology.code_of_port(source)[0]), copied)
    statistics = None
    if context.normalises(into):
        statistics = moments(copied)
        copied = copied / torch.from_numpy(deviations(statistics)[:, None]).to(copied)
    gradient = saying.gradient(copied).double().cpu().numpy()
    if statistics is not None:
        # What is constant says nothing, and is divided by next to nothing.
        gradient[statistics[1] <= LEAST_VARIANCE] = 0.0
    return gradient, statistics
