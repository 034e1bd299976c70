"""Ways to a small network without a tournament: what a grown network has to beat.

- `set`: Sparse Evolutionary Training (Mocanu et al. 2018): weak connections go, random ones come;
- `rigl`: the rigged lottery (Evci et al. 2020): they come where the gradient is largest;
- `pruning`: gradual magnitude pruning from the dense network (Zhu & Gupta 2017);
- `static`: a sparse network whose connections stay where they are;
- `dense`: a dense network of about the same number of parameters.

The papers count connections; here a parameter is whatever exists, so a bias counts as well. So that nobody pays
for units that do nothing, each method folds away those without a way in or out, and places connections for what
that frees, by its own rule. A method is a subclass of Method and an entry of structnet.experiments.methods; what it
does at a step depends on nothing but the state and the rng_seed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from typing_extensions import override

from structnet.data.dataset import Split
from structnet.errors import UserError
from structnet.growth.rewiring import prune_step, rigl_step, set_step, with_random, with_strongest
from structnet.measure.diagnosis import Diagnosis, diagnose
from structnet.measure.size import training_multiply_adds
from structnet.network.activations import activation_named
from structnet.network.architecture import (
    check_architecture,
    density_for,
    parameters_dense,
    unit_parameters,
)
from structnet.network.edit import fold
from structnet.network.initial_values import dense_initial_values
from structnet.network.network import StructNet
from structnet.network.pyramid import dense_architecture
from structnet.network.random_topology import least_density
from structnet.network.state import TrainState
from structnet.seeds import stream
from structnet.training.batches import diagnosis_sample, images_for_gradients
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.shrinking import Shrinking

FEWEST_CHANGES = 20  # a short training is changed more often than its paper says
INITIAL_VALUES = EXISTING, FULL = ("existing", "full")
MOVES = SHARED, PUBLISHED = ("shared", "published")


@dataclass(frozen=True)
class Method(ABC):
    """A way to a network of at most so many parameters in so many steps.

    architecture: of the network that is sparse, or becomes so. share: of the connections of a link, moved at the
    first change; None for that of the method's paper. interval: steps between two changes; None for the method's own.
    initial_values: spread by the connections of a unit that exist (structnet.network.initial_values), or as in programs
    with masks by those of a full link. moves: on the schedule that all methods share, or on that of the method's paper.
    images: training images that the gradient of absent connections is taken from. Raises UserError for a number of
    parameters that this shape cannot have, and for values out of range.
    """

    architecture: tuple[int, ...]
    parameters: int
    steps: int
    rng_seed: int = 0
    share: float | None = None
    interval: int | None = None
    allocation: str = "proportional"
    activation: str = "relu"
    initial_values: str = EXISTING
    moves: str = SHARED
    images: int = 1024

    longest_interval: ClassVar[int] = 100
    usual_share: ClassVar[float] = 0.3

    def __post_init__(self) -> None:
        sizes = check_architecture(self.architecture)
        numbers = self.shape_numbers
        least, most = unit_parameters(sizes, numbers) + 1, parameters_dense(sizes, numbers)
        if not least <= self.parameters <= most:
            raise UserError(
                f"parameters is {self.parameters}, but must be {least} to {most} for a network of {sizes}: choose a "
                "number between, or other sizes"
            )
        if not 0 < self.first_share < 1:
            raise UserError(
                f"zeta is {self.first_share:g}, but must be in (0, 1): it is the share that is moved"
            )
        if self.initial_values not in INITIAL_VALUES:
            raise UserError(
                f"initial_values is '{self.initial_values}', but must be one of {', '.join(INITIAL_VALUES)}"
            )
        if self.moves not in MOVES:
            raise UserError(f"moves is '{self.moves}', but must be one of {', '.join(MOVES)}")
        if self.interval is not None and self.interval < 1:
            raise UserError(f"interval is {self.interval}, but must be at least 1: it is a number of steps")

    @property
    def first_share(self) -> float:
        """Of the connections of a link, what is moved at the first change."""
        return self.usual_share if self.share is None else self.share

    @property
    def shape_numbers(self) -> int:
        """Of each hidden unit, that shape its activation."""
        return len(activation_named(self.activation).shape)

    @property
    def every(self) -> int:
        """Steps between two changes; the first is at step 0."""
        return self.interval or min(self.longest_interval, max(1, self.steps // FEWEST_CHANGES))

    def start(self) -> StructNet:
        """The network to begin with: here of exactly so many parameters, connected at random.

        Where there are enough connections, every unit has a way in and one out.
        """
        return self._random(self.parameters)

    def _random(self, parameters: int) -> StructNet:
        density = density_for(self.architecture, parameters, self.shape_numbers)
        network = StructNet(
            self.architecture,
            density,
            rng_seed=self.rng_seed,
            allocation=self.allocation,
            ensure_paths=density >= least_density(self.architecture),
            activation=self.activation,
        )
        return self._begun(network)

    def _full(self, architecture: Sequence[int]) -> StructNet:
        """The network of this shape that has all connections."""
        return self._begun(StructNet(architecture, 1.0, rng_seed=self.rng_seed, activation=self.activation))

    def _begun(self, network: StructNet) -> StructNet:
        if self.initial_values == EXISTING:
            return network
        rng = stream(self.rng_seed, "values")
        return network.with_values(dense_initial_values(network.topology, rng, self.activation))

    @property
    def mean_parameters(self) -> float:
        """The parameter count averaged over all steps, as planned: what a step of the training costs."""
        return self.parameters

    @abstractmethod
    def change(self, state: TrainState, split: Split) -> TrainState:
        """The state to go on from at step `state.step`, a multiple of `every`; split: the training images."""


class Dense(Method):
    """A dense network of about so many parameters, by `dense_architecture`; nothing changes."""

    @property
    def _sizes(self) -> tuple[int, ...]:
        return dense_architecture(self.architecture, self.parameters, self.shape_numbers)

    @property
    @override
    def mean_parameters(self) -> float:
        return parameters_dense(self._sizes, self.shape_numbers)

    @override
    def start(self) -> StructNet:
        return self._full(self._sizes)

    @override
    def change(self, state: TrainState, split: Split) -> TrainState:
        return state


class Full(Dense):
    """The architecture itself with all its connections, however many parameters are asked for; nothing changes."""

    @property
    @override
    def _sizes(self) -> tuple[int, ...]:
        return self.architecture


class Static(Method):
    """A sparse network that stays as it is, but for idle units, which are replaced before the training."""

    @override
    def change(self, state: TrainState, split: Split) -> TrainState:
        if state.step:
            return state
        state = state.edited(fold(state.network))
        rng = stream(self.rng_seed, "rewiring", 0)
        return with_random(state, self.parameters - state.network.parameter_count, rng)


class Moving(Method):
    """Connections move until 75 % of the training, a share of them that falls along half a cosine.

    The schedule of Evci et al. (2020), who compare both ways to move on it. Where a paper moves the same share to the
    end (`is_constant`), that is its published one. A unit that has lost its last way in or out would get no gradient
    any more, so it is folded away at once.
    """

    moved_until: ClassVar[float] = 0.75
    is_constant: ClassVar[bool] = False

    def size_at(self, step: int) -> int:
        """Parameters from this step on."""
        return self.parameters

    @override
    def change(self, state: TrainState, split: Split) -> TrainState:
        share = self._share(state.step)
        if not share:
            return state
        if state.step:
            state = self.moved(state, split, share)
        state = state.edited(fold(state.network))
        missing = self.size_at(state.step) - state.network.parameter_count
        return self.placed(state, split, missing) if missing else state

    def _share(self, step: int) -> float:
        if self.moves == PUBLISHED and self.is_constant:
            return self.first_share
        progress = min(1.0, step / (self.moved_until * self.steps))
        return self.first_share / 2 * (1 + math.cos(math.pi * progress))

    @abstractmethod
    def moved(self, state: TrainState, split: Split, share: float) -> TrainState:
        """The state after this share of each link has moved."""

    @abstractmethod
    def placed(self, state: TrainState, split: Split, count: int) -> TrainState:
        """The state with so many connections more, or as many as there is room for."""


class Set(Moving):
    """SET (Mocanu et al. 2018): weak connections of either sign go, random ones come.

    The paper moves once an epoch, a constant share, and does not say with which values; its authors' programs use
    small random ones or 0. With 0 and on this schedule it is the stronger rival (MNIST, 4,000 parameters of
    [784,300,100,10], 10 epochs, validation, one rng_seed): 96.3 %, and 96.0 % if idle units stay, 95.3 % once an
    epoch, 94.4 % with 0.3 times the spread of initial values, 87.9 % with all of it.
    """

    new_values: ClassVar[float] = 0.0
    is_constant: ClassVar[bool] = True

    @override
    def moved(self, state: TrainState, split: Split, share: float) -> TrainState:
        return set_step(state, share, stream(self.rng_seed, "rewiring", state.step), scale=self.new_values)

    @override
    def placed(self, state: TrainState, split: Split, count: int) -> TrainState:
        rng = stream(self.rng_seed, "placing", state.step)
        return with_random(state, count, rng, scale=self.new_values if state.step else 1.0)


class Rigl(Moving):
    """RigL (Evci et al. 2020): weak connections go, those of the largest gradient come, with value 0.

    The gradient is that of `images` training images where the paper takes those of the step: it ranks better and
    costs as much as a few steps.
    """

    @override
    def moved(self, state: TrainState, split: Split, share: float) -> TrainState:
        return rigl_step(state, share, self._diagnosis(state, split))

    @override
    def placed(self, state: TrainState, split: Split, count: int) -> TrainState:
        return with_strongest(state, count, self._diagnosis(state, split))

    def _diagnosis(self, state: TrainState, split: Split) -> Diagnosis:
        images = images_for_gradients(state.network.topology.architecture, self.images)
        sample = diagnosis_sample(split, self.rng_seed, state.step, images)
        return diagnose(state.network, sample.images, sample.labels)


class Pruning(Method):
    """Gradual magnitude pruning (Zhu & Gupta 2017) of the dense network, on the cubic schedule until 70 %.

    Of all links together, and with the units that have nothing to do any more: nothing brings them back.
    """

    longest_interval: ClassVar[int] = 50

    @property
    @override
    def mean_parameters(self) -> float:
        schedule = self._schedule
        return float(np.mean([schedule.target(step) for step in range(0, self.steps, self.every)]))

    @override
    def start(self) -> StructNet:
        return self._full(self.architecture)

    @override
    def change(self, state: TrainState, split: Split) -> TrainState:
        return prune_step(state, self._schedule.target(state.step))

    @property
    def _schedule(self) -> Shrinking:
        size = parameters_dense(self.architecture, self.shape_numbers)
        return Shrinking(0, self.steps, size, size, self.parameters, interval=self.every)


class Cost(NamedTuple):
    """What training has cost: parameters, and multiply-adds of its images, summed over the steps."""

    parameter_steps: int
    multiply_adds: int


def evolve_steps(
    state: TrainState,
    method: Method,
    split: Split,
    recipe: Recipe,
    steps: int,
    learning_rate: Callable[[int], float],
) -> tuple[TrainState, torch.Tensor, Cost]:
    """Trains for so many steps, with the method's changes on the way.

    Returns the new state, the losses, (steps,), and the cost. The given state is used up. Changes fall on fixed
    steps, so cutting a training into several calls changes nothing. Raises Diverged if training does.
    """
    losses, spent, batch = [], Cost(0, 0), min(recipe.batch_size, len(split))
    end = state.step + steps
    while state.step < end:
        since = state.step % method.every
        if since == 0:
            state = method.change(state, split)
        here = min(end - state.step, method.every - since)
        losses.append(train_steps(state, split, recipe, here, learning_rate))
        network = state.network
        spent = Cost(
            spent.parameter_steps + here * network.parameter_count,
            spent.multiply_adds + here * batch * training_multiply_adds(network.topology),
        )
    return state, torch.cat(losses) if losses else state.network.values.new_empty(0), spent
