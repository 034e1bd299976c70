"""Ways to start a network, compared with starting at random: at equal parameters, steps and batches.

The controls tell apart what a start brings and what only goes with it. Coarse to fine holds more parameters on
its way than it ends with, and a network that starts from a small one has had that one's training as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import numpy as np
import torch

from structnet.data.dataset import Dataset, Split
from structnet.errors import UserError
from structnet.growth.hierarchy import hierarchical_network
from structnet.growth.placement import Placement
from structnet.growth.scales import pooled_split, refine_input
from structnet.network.architecture import bias_count, check_architecture, density_for, parameters_dense
from structnet.network.edit import connect
from structnet.network.initial_values import initial_values
from structnet.network.network import StructNet
from structnet.network.random_topology import least_density, random_absent_everywhere, random_topology
from structnet.network.state import TrainState
from structnet.seeds import stream
from structnet.training.batches import steps_per_epoch
from structnet.training.evaluation import evaluate
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine
from structnet.training.shrinking import Shrinking, shrink_steps

Rate = Callable[[int], float]


@dataclass(frozen=True, eq=False)
class Arm:
    """A trained network of a comparison. accuracy, loss: on validation data, a share and nats.

    steps, parameter_steps: of its own training; the latter is the parameter count summed over the steps.
    """

    network: StructNet
    accuracy: float
    loss: float
    steps: int
    parameter_steps: int


@dataclass(frozen=True, eq=False)
class ScalesComparison:
    """Three ways to a network of one size, in as many steps on the same batches.

    coarse_to_fine: through the scales. regrown: on the finest images all the time; at each change of scale it
    gets as many random connections of value 0, which are pruned on the same schedule. fixed: on the finest
    images, of the final size and shape all the time, so of fewer parameter-steps.
    """

    coarse_to_fine: Arm
    regrown: Arm
    fixed: Arm


@dataclass(frozen=True, eq=False)
class HierarchyComparison:
    """Five networks of one shape and one number of parameters, trained alike.

    hierarchical: from the small network, by what is known of it. untrained: the same from the small network
    with initial values, so without what it has learned. nested: from the small network, but all that is new
    at random. random: from nothing. random_longer: from nothing, with so many more steps that it costs as
    many parameter-steps as `hierarchical` and the small network together.
    """

    hierarchical: Arm
    untrained: Arm
    nested: Arm
    random: Arm
    random_longer: Arm


def random_network(
    architecture: Sequence[int], parameters: int, *, rng_seed: int = 0, activation: str = "relu"
) -> StructNet:
    """A network of this shape with exactly so many parameters, connected at random, with initial values.

    Links share the connections in proportion to n_in + n_out. Where there are enough of them, every unit has
    a way in and one out. Raises UserError for a number that this shape cannot have.
    """
    sizes = check_architecture(architecture)
    least, most = bias_count(sizes) + 1, parameters_dense(sizes)
    if not least <= parameters <= most:
        raise UserError(
            f"parameters is {parameters}, but must be {least} to {most} for a network of "
            f"{','.join(map(str, sizes))}: choose a number between, or other sizes"
        )
    density = density_for(sizes, parameters)
    rng = stream(rng_seed, "seed")
    topology = random_topology(sizes, density, rng, ensure_paths=density >= least_density(sizes))
    values = torch.from_numpy(initial_values(topology, rng, activation).astype(np.float32))
    return StructNet.from_parts(topology, values, activation=activation)


def compare_coarse_to_fine(
    data: Dataset,
    architecture: Sequence[int],
    parameters: int,
    *,
    epochs: Sequence[int] = (1, 1, 1),
    factor: int = 2,
    learning_rate: float = 2e-3,
    recipe: Recipe | None = None,
    rng_seed: int = 0,
) -> ScalesComparison:
    """Trains coarse to fine, and its two controls, to the same number of parameters in as many steps.

    architecture: of the finest network. parameters: what is left at the end of every scale, at most; the
    coarsest network starts with as many, or dense. epochs: at each scale, coarsest first; every scale is
    `factor` times as fine as the one before, and what a refinement adds is pruned in the epochs that follow it
    (structnet.training.shrinking, without moves). One cosine leads through all scales. A recipe's shift is in pixels
    of the finest images and shrinks with them, rounded down. Raises UserError where images cannot be pooled
    so often or sizes do not fit, Diverged if training does.
    """
    sizes = check_architecture(architecture)
    if sizes[0] != data.input_units:
        raise UserError(
            f"the architecture has {sizes[0]} inputs, but {data.name} has {data.input_units}: start with these"
        )
    if not epochs or min(epochs) < 1:
        raise UserError(f"epochs is {list(epochs)}, but must be one or more numbers of at least 1, by scale")
    recipe = replace(recipe or Recipe(), rng_seed=rng_seed)
    steps = [count * steps_per_epoch(len(data.train), recipe.batch_size) for count in epochs]
    rate = cosine(learning_rate, 0, sum(steps))
    zooms = [factor**scale for scale in reversed(range(len(steps)))]
    splits = [pooled_split(data.train, zoom) for zoom in zooms]

    coarse = (prod(splits[0].shape), *sizes[1:])
    size = min(parameters, parameters_dense(coarse))
    added = [0]

    def refined(state: TrainState, scale: int) -> TrainState:
        channels, height, width = splits[scale - 1].shape
        edit = refine_input(state.network, channels, height, width, factor)
        added.append(edit.added)
        return state.edited(edit)

    def regrown_at_random(state: TrainState, scale: int) -> TrainState:
        rng = stream(rng_seed, "regrown", scale)
        ends = random_absent_everywhere(state.network.topology, added[scale], rng)
        return state.edited(connect(state.network, *ends))

    locally = [replace(recipe, shift=recipe.shift // zoom) for zoom in zooms]
    scales = [_Scale(*scale) for scale in zip(splits, locally, steps)]
    start = random_network(coarse, size, rng_seed=rng_seed)
    through = _trained_through(scales, start, refined, rate, parameters, data)
    scales = [_Scale(data.train, recipe, count) for count in steps]
    start = random_network(sizes, size, rng_seed=rng_seed)
    regrown = _trained_through(scales, start, regrown_at_random, rate, parameters, data)
    network = random_network(through.network.architecture, through.network.parameter_count, rng_seed=rng_seed)
    return ScalesComparison(through, regrown, train_arm(network, data, recipe, sum(steps), learning_rate))


def compare_hierarchical(
    small: TrainState,
    data: Dataset,
    architecture: Sequence[int],
    parameters: int,
    *,
    epochs: int = 3,
    learning_rate: float = 2e-3,
    recipe: Recipe | None = None,
    placement: Placement | None = None,
    rng_seed: int = 0,
) -> HierarchyComparison:
    """Trains the larger network from the small one, and its four controls, at exactly equal parameters.

    All start with a fresh optimizer and go along a cosine over the same batches. The small network is taken
    to have had its present size for all the steps of its line. Raises UserError where the larger network or
    the number does not fit (structnet.growth.hierarchy), Diverged if training does.
    """
    recipe = replace(recipe or Recipe(), rng_seed=rng_seed)
    placement = placement or Placement()
    steps = epochs * steps_per_epoch(len(data.train), recipe.batch_size)
    longer = steps + round(small.step * small.network.parameter_count / parameters)

    def trained(network: StructNet, steps: int) -> Arm:
        return train_arm(network, data, recipe, steps, learning_rate)

    def grown(start: TrainState, placement: Placement) -> StructNet:
        return hierarchical_network(
            start, architecture, parameters, data.train, placement=placement, rng_seed=rng_seed
        )

    def from_nothing() -> StructNet:
        activation = small.network.activation
        return random_network(architecture, parameters, rng_seed=rng_seed, activation=activation)

    return HierarchyComparison(
        hierarchical=trained(grown(small, placement), steps),
        untrained=trained(grown(_untrained(small.network, rng_seed), placement), steps),
        nested=trained(grown(small, replace(placement, at_random=True)), steps),
        random=trained(from_nothing(), steps),
        random_longer=trained(from_nothing(), longer),
    )


def train_arm(network: StructNet, data: Dataset, recipe: Recipe, steps: int, learning_rate: float) -> Arm:
    """Trains a network of fixed size in place, from a fresh optimizer, along one cosine, and measures it."""
    state = TrainState.fresh(network)
    train_steps(state, data.train, recipe, steps, cosine(learning_rate, 0, steps))
    return _measured(state, data, steps * network.parameter_count)


def _untrained(network: StructNet, rng_seed: int) -> TrainState:
    """A network of the same topology with initial values."""
    values = initial_values(network.topology, stream(rng_seed, "untrained"), network.activation)
    return TrainState.fresh(network.with_values(values))


def _measured(state: TrainState, data: Dataset, parameter_steps: int) -> Arm:
    measured = evaluate(state.network, data.validation)
    return Arm(state.network, measured.accuracy, measured.loss, state.step, parameter_steps)


class _Scale(NamedTuple):
    """What is trained on at a scale, and for how many steps."""

    split: Split
    recipe: Recipe
    steps: int


def _trained_through(
    scales: Sequence[_Scale],
    network: StructNet,
    grown: Callable[[TrainState, int], TrainState],
    rate: Rate,
    parameters: int,
    data: Dataset,
) -> Arm:
    """Trains at one scale after the other; grown: what a state becomes as it enters scale 1, 2, …."""
    state, spent = TrainState.fresh(network), 0
    for number, (split, recipe, steps) in enumerate(scales):
        state = grown(state, number) if number else state
        state, cost = _prune_while_training(state, split, recipe, steps, rate, parameters)
        spent += cost
    return _measured(state, data, spent)


def _prune_while_training(
    state: TrainState, split: Split, recipe: Recipe, steps: int, rate: Rate, parameters: int
) -> tuple[TrainState, int]:
    """So many steps, in which what is above the limit is pruned; returns the parameter-steps as well."""
    size = state.network.parameter_count
    plan = Shrinking(state.step, state.step + steps, size, size, parameters, move_share=0.0)
    spent = 0
    for start in range(0, steps, plan.every):
        here = min(plan.every, steps - start)
        # Changes fall on the first step of each part, so the size holds for the rest of it.
        state, _ = shrink_steps(state, split, recipe, here, rate, plan)
        spent += here * state.network.parameter_count
    return state, spent
