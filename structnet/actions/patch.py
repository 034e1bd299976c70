"""Patch: new connections in the links there are.

Three rules say where: the outputs of a saturated unit, the inputs of a dead unit, and wherever the gradient
of an absent connection is largest; of maps, also where that of a whole absent kernel is (structnet.actions.kernels).
New connections have value 0 (Evci et al. 2020, RigL), so the output stays as it is. At a unit that never fires a value
of 0 would get no gradient: it is re-opened instead, with a fan-in that is not 0, a bias that makes it fire, and a
fan-out set to 0. That leaves the output as it is on every image on which the unit did not fire, which holds for all
that were diagnosed. Another rule, `random_twin`, is the control of these: as many connections in the same links, placed
at random.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from structnet.actions.base import (
    Context,
    Proposal,
    assigned,
    fed_by,
    feeding,
    index_now,
    linked_pairs,
    strongest_absent,
)
from structnet.actions.kernels import absent_kernels, kernel_pairs, random_kernels
from structnet.actions.reactivate import plan_reopening
from structnet.actions.reading import room
from structnet.network.edit import Edit, connect, normalised_by
from structnet.network.network import StructNet
from structnet.network.random_topology import random_absent

UNITS_PER_GROUP = 5  # of the source, as are the shares
INPUT_SHARE = 0.20
OUTPUT_SHARE = 0.15
FEW = 4


def propose(context: Context) -> list[Proposal]:
    """By gradient, per link and over all links at every size, connections and kernels; around extreme units."""
    proposals = _by_gradient(context) + _by_kernels(context)
    for group in range(1, context.topology.groups - 1):
        proposals += _saturated(context, group)
        proposals += _dead(context, group)
    return proposals


def apply(network: StructNet, proposal: Proposal) -> Edit:
    plan = proposal.plan
    edit = connect(network, plan["source"], plan["target"], plan.get("value", 0.0))
    if "reopened" not in plan:
        return edit
    topology, reopened = network.topology, plan["reopened"]
    fan_out = np.flatnonzero(np.isin(topology.source_unit, reopened))
    edit = assigned(edit, index_now(edit, fan_out), 0.0)
    edit = assigned(edit, index_now(edit, topology.bias_of(reopened)), plan["biases"])
    return normalised_by(edit, reopened, plan["statistics"]) if "statistics" in plan else edit


def random_twin(context: Context, proposal: Proposal) -> Proposal:
    """The placement control of a patch: as many connections in each link, value 0, at random absent places.

    Those of a patch of kernels are in random kernels.
    """
    topology = context.topology
    source_group = topology.group_of(topology.unit_of_port(proposal.plan["source"]))
    target_group = topology.group_of(proposal.plan["target"])
    pairs, counts = np.unique(np.stack([target_group, source_group]), axis=1, return_counts=True)
    places, gradient = [], []
    for (to, start), count in zip(pairs.T.tolist(), counts.tolist()):
        drawn = random_kernels if "kernels" in proposal.plan else random_absent
        row, column = drawn(topology, (start, to), count, context.rng)
        places.append(topology.ends((start, to), row, column))
        matrix = context.diagnosis.outer(start, to)
        cell = torch.from_numpy(row * matrix.shape[1] + column).to(matrix.device)
        gradient.append(matrix.reshape(-1)[cell].double().cpu().numpy())
    source, target = (np.concatenate(part) for part in zip(*places))
    return Proposal(
        "patch:random",
        f"at random, for {proposal.site}",
        int(counts.sum()),
        context.gain(*gradient),
        plan={"source": source, "target": target},
    )


@dataclass(frozen=True)
class _Absent:
    """Absent connections to add at value 0, with the gradients they would get."""

    source: np.ndarray
    target: np.ndarray
    gradient: np.ndarray

    def proposal(self, context: Context, site: str, size: int) -> Proposal:
        """The first `size` of them."""
        plan = {"source": self.source[:size], "target": self.target[:size]}
        gain = context.gain(self.gradient[:size])
        return Proposal("patch", site, len(plan["source"]), gain, plan=plan)

    def at_sizes(self, context: Context, site: str) -> list[Proposal]:
        sizes = sorted({min(size, len(self.source)) for size in context.sizes} - {0})
        return [self.proposal(context, f"{site}: {size} by gradient", size) for size in sizes]


def _by_gradient(context: Context) -> list[Proposal]:
    pairs = linked_pairs(context.topology)
    proposals = []
    for pair in pairs:
        found = _Absent(*context.diagnosis.absent(*pair, context.sizes[-1]))
        proposals += found.at_sizes(context, f"link {pair[0]}→{pair[1]}")
    if len(pairs) > 1:
        found = _Absent(*strongest_absent(context.diagnosis, pairs, context.sizes[-1]))
        proposals += found.at_sizes(context, "all links")
    return proposals


def _by_kernels(context: Context) -> list[Proposal]:
    """Per link between maps and over all of them, at every size as many whole kernels as fit."""
    pairs = kernel_pairs(context.topology, linked_pairs(context.topology))
    sites = [(f"link {pair[0]}→{pair[1]}", [pair]) for pair in pairs]
    sites += [("all links", pairs)] if len(pairs) > 1 else []
    proposals = []
    for site, here in sites:
        absent = absent_kernels(context.diagnosis, here, context.sizes[-1])
        for count in sorted({absent.fitting(size) for size in context.sizes} - {0}):
            found = _Absent(*absent.taps(int(absent.stop[count - 1])))
            proposal = found.proposal(context, f"{site}: {count} kernels by gradient", len(found.source))
            proposals.append(replace(proposal, plan=proposal.plan | {"kernels": count}))
    return proposals


def _saturated(context: Context, group: int) -> list[Proposal]:
    """The outputs of each saturated unit, and of all of a group together."""
    pairs = [(group, target) for target in fed_by(context.topology, group)]
    possible = room(context.topology, group, [target for _, target in pairs])
    units = _of_group(context, context.diagnosis.saturated, group)
    site = f"of group {group}, outputs"
    return _around(context, units, pairs, OUTPUT_SHARE * possible, f"saturated {{}} {site}", at_source=True)


def _dead(context: Context, group: int) -> list[Proposal]:
    """The inputs of each dead unit, and of all of a group together; those that never fire are re-opened."""
    pairs = [(source, group) for source in feeding(context.topology, group)]
    possible = sum(context.topology.shape_of(pair)[0] for pair in pairs)
    units = _of_group(context, context.diagnosis.dead, group)
    site = f"dead {{}} of group {group}, inputs"
    faint = units[~context.silent[units]]
    proposals = _around(context, faint, pairs, INPUT_SHARE * possible, site, at_source=False)
    most = _few(context, INPUT_SHARE * possible)
    silent = units[context.silent[units]][:UNITS_PER_GROUP].tolist()
    for unit in silent:
        for count in sorted({min(size, most) for size in context.sizes}):
            proposals += _reopening(context, site.format(f"unit {unit}"), [unit], count)
    if len(silent) > 1:
        shares = sorted({min(size // len(silent), most) for size in context.sizes})
        for count in [share for share in shares if share >= FEW]:
            proposals += _reopening(context, site.format(f"units ({len(silent)})"), silent, count)
    return proposals


def _around(
    context: Context,
    units: np.ndarray,
    pairs: list[tuple[int, int]],
    share: float,
    site: str,
    *,
    at_source: bool,
) -> list[Proposal]:
    """Value-0 connections at one end of each of these units, by gradient, and at all of them at every size."""
    proposals = []
    end = "sources" if at_source else "targets"
    for unit in units[:UNITS_PER_GROUP]:
        count = _few(context, share)
        found = _Absent(*strongest_absent(context.diagnosis, pairs, count, **{end: np.array([unit])}))
        if len(found.source):
            here = f"{site.format(f'unit {unit}')}: {len(found.source)} by gradient"
            proposals.append(found.proposal(context, here, count))
    if len(units) > 1:
        found = _Absent(*strongest_absent(context.diagnosis, pairs, context.sizes[-1], **{end: units}))
        proposals += found.at_sizes(context, site.format(f"units ({len(units)})"))
    return proposals


def _few(context: Context, share: float) -> int:
    """A share of the possible connections, but so many that it matters and no more than may be spent."""
    return min(max(FEW, round(share)), context.sizes[-1])


def _of_group(context: Context, units: np.ndarray, group: int) -> np.ndarray:
    """The units of a group, those that stand out most first."""
    here = units[context.topology.group_of(units) == group]
    ordered: np.ndarray = here[np.argsort(-np.abs(context.diagnosis.mean_activation[here]), kind="stable")]
    return ordered


def _reopening(context: Context, site: str, units: list[int], count: int) -> list[Proposal]:
    """At most one proposal: up to `count` connections into each of these units, those that can be re-opened."""
    plans = [plan for unit in units if (plan := plan_reopening(context, unit, count)) is not None]
    if not plans:
        return []
    source = np.concatenate([plan.source for plan in plans])
    kept = [plan.statistics for plan in plans if plan.statistics is not None]
    return [
        Proposal(
            "patch",
            f"{site}: {len(source)} that re-open",
            len(source),
            context.gain(*(plan.gradient for plan in plans)),
            plan={
                "source": source,
                "target": np.concatenate([np.full(len(plan.source), plan.unit) for plan in plans]),
                "value": np.concatenate([plan.value for plan in plans]),
                "reopened": np.array([plan.unit for plan in plans]),
                "biases": np.array([plan.bias for plan in plans]),
                **({"statistics": np.concatenate(kept, axis=1)} if kept else {}),
            },
        )
    ]
