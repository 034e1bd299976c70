"""What a sweep will cost, before it runs: optimizer steps, parameter-steps and a rough time."""

from __future__ import annotations

from dataclasses import dataclass

from search.commands.grow.command import GrowOptions
from search.grid.blocks import Block
from search.grid.options import GridOptions
from structnet.network.network import StructNet
from structnet.training.loop import DIAGNOSIS_IMAGES, steps_per_epoch
from tournament.heats import plan_heats
from tournament.rules.score import policy_named
from tournament.settings import Settings

# One core, measured on digits and MNIST within a factor of about two: a step of a network that trains alone,
# its share of evaluating and sending included, or of one in a cohort; and a connection of either, in a batch of 128.
STEP_SECONDS = 8e-4
COHORT_STEP_SECONDS = 1e-4
CONNECTION_SECONDS = 14e-9
UNIT_COST = 8  # connections that a unit counts for in time
SPEED = (
    f"{1e3 * STEP_SECONDS:g} ms a step, {1e3 * COHORT_STEP_SECONDS:g} ms in a cohort, and "
    f"{1e9 * CONNECTION_SECONDS:g} ns a connection in a batch of 128"
)


@dataclass(frozen=True)
class Cost:
    """steps: of the optimizer, over all networks. seconds: of one core."""

    steps: float = 0.0
    parameter_steps: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.steps + other.steps,
            self.parameter_steps + other.parameter_steps,
            self.seconds + other.seconds,
        )


def tournament_cost(options: GrowOptions, seed: StructNet, images: int) -> Cost:
    """Of a tournament over so many training images, if growth takes all its rounds.

    options: fitted to the data. The size is taken to be that of the seed and a quarter of what its credits can
    buy at most: it is reached late, and sold again.
    """
    assert options.batch_size and options.round_steps and options.heat_steps
    per_epoch = steps_per_epoch(images, options.batch_size)
    line = options.epochs * per_epoch
    forks = 0
    if policy_named(options.policy).grows:
        heats = plan_heats(options.candidates, options.heat_steps)
        entering = [options.candidates, *(heat.survivors for heat in heats)]
        # With every heat run both controls and the random twin.
        forks = sum(heat.steps * (3 + entrants) for heat, entrants in zip(heats, entering))
        if options.audits:
            # Both controls run on with the audited, which make up for the heats that they missed.
            forks += round(options.audit_factor * options.heat_steps) * (2 + options.audits)
            forks += options.audits * sum(heat.steps for heat in heats[1:])
    survey = min(DIAGNOSIS_IMAGES, images) // options.batch_size
    longest = int(Settings.growth_share * line) // (options.round_steps + options.heat_steps)
    rounds = min(options.rounds, max(1, longest))
    dense = seed.parameters_dense
    opening = seed.parameter_count if options.opening_credits is None else options.opening_credits
    bought = min(dense, opening + options.income * dense * Settings.growth_share * line / 1000)
    parameters = seed.parameter_count + bought / 4
    steps = line + rounds * (forks + survey)
    units = seed.topology.bias_count
    return Cost(
        steps,
        steps * parameters,
        steps * step_seconds(STEP_SECONDS, parameters, units, options.batch_size),
    )


def block_cost(options: GridOptions, block: Block, images: int) -> Cost:
    """Of a block of a hunt over so many training images. options: fitted to the data."""
    assert options.batch_size
    steps = options.epochs * steps_per_epoch(images, options.batch_size)
    parameters = units = 0.0
    for member in block.members:
        parameters += member.density * member.possible + member.units
        units += member.units
    networks = len(block.members)
    seconds = step_seconds(networks * COHORT_STEP_SECONDS, parameters, units, options.batch_size)
    return Cost(networks * steps, steps * parameters, steps * seconds)


def step_seconds(fixed: float, parameters: float, units: float, batch_size: int) -> float:
    """Of one step on one core, of which so many seconds do not depend on the size."""
    return fixed + CONNECTION_SECONDS * (parameters + UNIT_COST * units) * batch_size / 128
