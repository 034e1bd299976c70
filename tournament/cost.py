"""What a tournament or a block of networks will cost, before it runs: optimizer and parameter-steps, a rough time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from structnet.measure.size import training_share
from structnet.network.architecture import parameters_dense
from structnet.network.network import StructNet
from structnet.training.batches import DIAGNOSIS_IMAGES, steps_per_epoch
from structnet.training.shrinking import Shrinking
from structnet.trials.grid import Block
from tournament.allowance import DECIDING
from tournament.descent import START_SHARE
from tournament.final_phase import OVERSHOOT_ALONE
from tournament.heats import steps_of_round
from tournament.rules.score import policy_named
from tournament.rules.shapes import reference
from tournament.settings import Settings

# One core, measured on digits and MNIST within a factor of about two: a step of a network that trains alone,
# its share of evaluating and sending included, or of one in a cohort; and a connection of either, in a batch of 128.
STEP_SECONDS = 8e-4
COHORT_STEP_SECONDS = 1e-4
CONNECTION_SECONDS = 14e-9
# Of feature maps: a step, and a multiply-add. MNIST, 1,000 and 5,000 parameters, within a factor of two.
MAP_STEP_SECONDS, MULTIPLY_ADD_SECONDS = 2e-3, 5e-11
# Paths on MNIST, digits and the teacher took 1.4 to 4 times what as many steps at their first size do.
PATH = 2.0
MOST_EPOCHS = 2**16
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


def tournament_cost(settings: Settings, seed: StructNet, images: int) -> Cost:
    """Of a tournament over so many training images, if growth takes all its rounds.

    The size is taken to be that of the seed and a quarter of what its credits can buy at most: it is reached late,
    and sold again. Forks take no more than they are priced to.
    """
    batch_size, economy = settings.recipe.batch_size, settings.economy
    line = settings.epochs * steps_per_epoch(images, batch_size)
    if policy_named(settings.policy).contests:
        return _cost_of_shapes(settings, seed, line)
    forks = 0
    if policy_named(settings.policy).grows:
        steps_of = steps_of_round(
            settings.candidates,
            settings.heat_steps,
            audits=settings.audits,
            audit_factor=settings.audit_factor,
        )
        forks = sum(steps_of)
    survey = min(DIAGNOSIS_IMAGES, images) // batch_size
    longest = int(settings.growth_share * line) // (settings.round_steps + settings.heat_steps)
    rounds = min(settings.rounds, max(1, longest))
    dense = seed.parameters_dense
    opening = seed.parameter_count if economy.opening_credits is None else economy.opening_credits
    bought = min(dense, opening + economy.income * dense * settings.growth_share * line / 1000)
    parameters = seed.parameter_count + bought / 4
    deciding: float = rounds * (forks + survey)
    if economy.fork_price is None:
        deciding = min(deciding, DECIDING / (1 - DECIDING) * line)
    steps = line + deciding
    seconds = _seconds_alone(seed, parameters, batch_size)
    return Cost(steps, steps * parameters, steps * seconds)


def _cost_of_shapes(settings: Settings, seed: StructNet, steps: int) -> Cost:
    """Of a run that costs the same whatever competes in it: all its steps on the way up and down to the size.

    With a job, of the path: so many times what its first size would take alone.
    """
    dense = parameters_dense(reference(seed.topology.architecture))
    if settings.has_job:
        parameters = PATH * max(seed.parameter_count, START_SHARE * dense, *settings.front)
    else:
        limit = settings.max_parameters or seed.parameter_count
        peak = max(limit, min(settings.overshoot or OVERSHOOT_ALONE * limit, dense))
        parameters = Shrinking(0, steps, seed.parameter_count, peak, limit).mean_parameters
    seconds = _seconds_alone(seed, parameters, settings.recipe.batch_size)
    return Cost(steps, steps * parameters, steps * seconds)


def _seconds_alone(seed: StructNet, parameters: float, batch_size: int) -> float:
    """Of a step of a network of the shape of the seed."""
    shape = seed.topology.architecture
    if shape.has_maps:
        return MAP_STEP_SECONDS + MULTIPLY_ADD_SECONDS * training_share(shape) * parameters * batch_size
    return step_seconds(STEP_SECONDS, parameters, seed.topology.bias_count, batch_size)


def epochs_within(
    cost_of: Callable[[int], Cost], parameter_steps: float | None, seconds: float | None
) -> int:
    """The most epochs whose cost is within either limit; 0 where not even one is. cost_of: rises with its epochs."""

    def fits(epochs: int) -> bool:
        cost = cost_of(epochs)
        cheap = parameter_steps is None or cost.parameter_steps <= parameter_steps
        return cheap and (seconds is None or cost.seconds <= seconds)

    most = 1
    while fits(most) and most < MOST_EPOCHS:
        most *= 2
    return bisect_left(range(1, most + 1), True, key=lambda epochs: not fits(epochs))


def block_cost(block: Block, epochs: int, batch_size: int, images: int) -> Cost:
    """Of a block of a grid over so many training images."""
    steps = epochs * steps_per_epoch(images, batch_size)
    parameters = units = 0.0
    for member in block.members:
        parameters += member.density * member.possible + member.units
        units += member.units
    networks = len(block.members)
    seconds = step_seconds(networks * COHORT_STEP_SECONDS, parameters, units, batch_size)
    return Cost(networks * steps, steps * parameters, steps * seconds)


def step_seconds(fixed: float, parameters: float, units: float, batch_size: int) -> float:
    """Of one step on one core, of which so many seconds do not depend on the size."""
    return fixed + CONNECTION_SECONDS * (parameters + UNIT_COST * units) * batch_size / 128
