"""Hierarchical initialisation: a small trained network, and what it has learned, start a larger one.

The small network's units and connections are inside the larger one, with their values, and at first nothing
else reaches the output, so both compute the same. New connections go where the small network's decisive
features are - sources of large |weight| × spread over the training images - and where it fails: the largest
gradient of absent connections (Evci et al. 2020, RigL) over the images it gets wrong, at its saturated and dead
units first.

A new unit has a fan-in that is not 0, a bias that makes it fire, and a fan-out of value 0 to old units
(structnet.actions.new_units): its fan-out gets a gradient in the first step and its fan-in from the second on. The
other way round would keep the function as well, but then the first step, not the placement, would choose what
the unit looks at. A new connection between old units has value 0 and gets a gradient in the first step.

MNIST, [784, 16, 10] of 500 parameters to [784, 64, 10], 3 epochs each at 6e-3, validation, 3 rng_seeds: 90.8 %
at 1,500 parameters and 94.8 % at 4,000; at random 88.1 and 93.8; with the small network inside but all that is
new placed at random 87.4 and 93.8; from a small network that was never trained 90.7 and 94.8. So it is placement
by data that helps; what the small network has learned adds next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from structnet.actions.base import Context, fed_by, feeding, linked_pairs
from structnet.actions.new_units import UnitPlan, connect_units, plan_units, units_of
from structnet.data.dataset import Split
from structnet.errors import UserError
from structnet.growth.placement import Evidence, Placement, decisive_units, new_connections, scores
from structnet.measure.diagnosis import Diagnosis, diagnose
from structnet.network.activations import gain_of
from structnet.network.architecture import bias_count, check_architecture, hidden_units
from structnet.network.edit import Edit, add_units, connect, unchanged
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.seeds import stream

LEAST_PER_UNIT = 3  # parameters: a bias, one connection in and one out


def hierarchical_network(
    small: TrainState,
    architecture: Sequence[int],
    parameters: int,
    train: Split,
    *,
    placement: Placement | None = None,
    rng_seed: int = 0,
) -> StructNet:
    """A larger network that computes what the trained small one does; see `hierarchical_edit`."""
    return hierarchical_edit(
        small.network, architecture, parameters, train, placement=placement, rng_seed=rng_seed
    ).network


def hierarchical_edit(
    small: StructNet,
    architecture: Sequence[int],
    parameters: int,
    train: Split,
    *,
    placement: Placement | None = None,
    rng_seed: int = 0,
) -> Edit:
    """The small network grown to this architecture and exactly so many parameters, computing the same.

    architecture: as many groups as the small network has, the same inputs and outputs, every hidden group at
    least as wide. New connections are shared evenly among all hidden units, old and new. Raises UserError for
    another architecture, and for fewer parameters than the small network and 3 for each new unit, or more than
    there is room for.
    """
    sizes = _checked(small, architecture, parameters)
    placement, rng = placement or Placement(), stream(rng_seed, "hierarchy")
    evidence = None if placement.at_random else Evidence.of(small, train, placement, rng)
    connections = parameters - small.parameter_count - sum(sizes) + small.topology.units
    each = max(LEAST_PER_UNIT - 1, connections // max(1, hidden_units(sizes)))
    edit = unchanged(small)
    for group in range(1, len(sizes) - 1):
        count = sizes[group] - small.architecture[group]
        if count:
            plan = _new_units(
                edit, _Site(edit.network, group, *_fans(sizes, group, each)), count, evidence, rng
            )
            grown = add_units(edit.network, group, plan.biases)
            edit = edit.then(connect_units(grown, edit.network.topology, plan.plan()))
    missing = parameters - edit.network.parameter_count
    return edit.then(connect(edit.network, *new_connections(edit, missing, evidence, rng)))


@dataclass(frozen=True)
class _Site:
    """A hidden group that gets new units, and the fan-in and fan-out of each."""

    network: StructNet
    group: int
    fan_in: int
    fan_out: int

    @property
    def before(self) -> list[int]:
        return feeding(self.network.topology, self.group)

    @property
    def after(self) -> list[int]:
        return fed_by(self.network.topology, self.group)

    def plan(self, count: int, rule: str, diagnosis: Diagnosis, rng: np.random.Generator) -> list[UnitPlan]:
        """One plan of up to so many units; none where no unit would get a gradient."""
        if not count:
            return []
        context = Context(TrainState.fresh(self.network), diagnosis, (), 0.0, rng)
        fans = {"fan_in": self.fan_in, "fan_out": self.fan_out}
        plan = plan_units(context, self.before, self.after, count=count, rule=rule, **fans)
        return [plan] if plan is not None else []

    def plan_at_random(self, count: int, rng: np.random.Generator) -> UnitPlan:
        """A random fan-in, normal of variance gain ÷ fan-in, bias 0, and a fan-out of value 0."""
        topology = self.network.topology
        sources, targets = units_of(topology, self.before), units_of(topology, self.after)
        fan_in, fan_out = min(self.fan_in, len(sources)), min(self.fan_out, len(targets))
        spread = np.sqrt(gain_of(self.network.activation) / fan_in)
        return UnitPlan(
            biases=np.zeros(count),
            source=sources[rng.random((count, len(sources))).argsort(axis=1)[:, :fan_in]].reshape(-1),
            source_unit=np.repeat(np.arange(count), fan_in),
            value=rng.standard_normal(count * fan_in) * spread,
            target=targets[rng.random((count, len(targets))).argsort(axis=1)[:, :fan_out]].reshape(-1),
            target_unit=np.repeat(np.arange(count), fan_out),
            gradient=np.zeros(count * fan_out),
        )


def _fans(sizes: Sequence[int], group: int, each: int) -> tuple[int, int]:
    """Fan-in and fan-out of a unit with so many connections, in proportion to n_in + n_out of the two links."""
    before, after = sizes[group - 1] + sizes[group], sizes[group] + sizes[group + 1]
    fan_out = min(max(1, round(each * after / (before + after))), each - 1)
    return each - fan_out, fan_out


def _new_units(
    edit: Edit, site: _Site, count: int, evidence: Evidence | None, rng: np.random.Generator
) -> UnitPlan:
    """Exactly so many units: by the images it fails on, then by decisive features, then at random.

    What one rule does not find is left to the next: there are only so many directions of the gradient.
    """
    plans: list[UnitPlan] = []
    if evidence is not None:
        plans = _failing_units(site, round(evidence.share * count), evidence.wrong, rng)
        everything = diagnose(site.network, evidence.seen.images, evidence.seen.labels)
        best = decisive_units(edit, everything, evidence.decisive)
        # `plan_units` draws sources by their spread: here, by how decisive they are.
        score = np.zeros_like(everything.spread)
        score[best] = scores(edit, everything)[best]
        rest = count - sum(len(plan.biases) for plan in plans)
        scored = replace(everything)
        scored.spread = score
        plans += site.plan(rest, "random", scored, rng)
    rest = count - sum(len(plan.biases) for plan in plans)
    return _joined([*plans, site.plan_at_random(rest, rng)])


def _failing_units(site: _Site, count: int, wrong: Split, rng: np.random.Generator) -> list[UnitPlan]:
    """Up to so many units whose fan-in makes their gradient largest over images that come out wrong.

    There are fewer such directions than targets, so the images are dealt out into portions.
    """
    targets = sum(site.network.architecture[group] for group in site.after)
    portions = min(len(wrong), -(-count // max(1, targets - 1)))
    plans: list[UnitPlan] = []
    for portion in range(portions):
        part = slice(portion, None, portions)
        diagnosis = diagnose(site.network, wrong.images[part], wrong.labels[part])
        here = count * (portion + 1) // portions - count * portion // portions
        plans += site.plan(here, "gradient", diagnosis, rng)
    return plans


def _joined(plans: list[UnitPlan]) -> UnitPlan:
    """Several plans as one; units are numbered through in their order."""
    first = np.cumsum([0] + [len(plan.biases) for plan in plans])[:-1]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(plan, name) for plan in plans])

    def renumbered(name: str) -> np.ndarray:
        return np.concatenate([getattr(plan, name) + shift for plan, shift in zip(plans, first)])

    return UnitPlan(
        biases=joined("biases"),
        source=joined("source"),
        source_unit=renumbered("source_unit"),
        value=joined("value"),
        target=joined("target"),
        target_unit=renumbered("target_unit"),
        gradient=joined("gradient"),
    )


def _checked(small: StructNet, architecture: Sequence[int], parameters: int) -> tuple[int, ...]:
    """The architecture, if the small network and so many parameters fit into it; raises UserError if not."""
    sizes, old = check_architecture(architecture), small.topology.architecture
    shown, shown_old = ",".join(map(str, sizes)), ",".join(map(str, old))
    if sizes.has_maps or old.has_maps:
        raise UserError(
            f"architecture is {sizes}, after {old}, but hierarchical initialisation is for networks without feature "
            "maps: give plain sizes, such as 784,64,10"
        )
    if len(sizes) != len(old):
        raise UserError(
            f"architecture is {shown}, but must have {len(old)} groups like the small network, {shown_old}"
        )
    if (sizes[0], sizes[-1]) != (old[0], old[-1]) or any(a < b for a, b in zip(sizes, old)):
        raise UserError(
            f"architecture is {shown}, but must have the inputs and outputs of the small network, {shown_old}, "
            "and hidden groups at least as wide"
        )
    new = sum(sizes) - sum(old)
    least = small.parameter_count + new * LEAST_PER_UNIT
    most = bias_count(sizes) + sum(sizes[a] * sizes[b] for a, b in linked_pairs(small.topology))
    if not least <= parameters <= most:
        raise UserError(
            f"parameters is {parameters}, but must be {least} to {most}: {small.parameter_count} of the small "
            f"network and {LEAST_PER_UNIT} for each of {new} new units, up to all that {shown} has room for"
        )
    return sizes
