"""Networks of all sorts for the tests of cohorts, alone and together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import numpy as np
import pytest
import torch
from helpers.training_cases import image_split

from structnet import StructNet
from structnet.data.dataset import Split
from structnet.network.activations import activation_named
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training.cohort import Cohort
from structnet.training.evaluation import Evaluation, evaluate
from structnet.training.loop import train_steps
from structnet.training.rates import AgeRates
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine

STEPS = 7
FACTOR = cosine(1.0, 0, 20)
AGES = AgeRates(matures_after=4, freezes_after=9)
# Name -> groups, activation, number type, recipe. Batches of 37 and 5 fill no vector of any width. The groups are those
# of members that torch joins to a tile: compiled ones differ in depth too.
CASES = {
    "plain": (3, "relu", torch.float32, Recipe(16)),
    "no hidden group": (2, "relu", torch.float32, Recipe(37, l1=1e-3)),
    "l1": (4, "relu", torch.float32, Recipe(37, l1=1e-3, rng_seed=1)),
    "dropout and shift": (3, "tanh", torch.float32, Recipe(16, input_dropout=0.3, shift=1, rng_seed=2)),
    "age rates": (4, "sigmoid", torch.float32, Recipe(37, rates=AGES)),
    "weight decay": (3, "relu", torch.float32, Recipe(37, weight_decay=0.7)),
    "everything": (3, "sigmoid", torch.float64, Recipe(5, 1e-3, 0.2, 1, AGES, 3, weight_decay=0.7)),
    "hidden dropout": (4, "tanh", torch.float32, Recipe(16, dropout=0.4, shift=1, flip=True, rng_seed=2)),
    "shaped": (4, "srelu", torch.float32, Recipe(37, dropout=0.2, momentum=0.9)),
    "double": (4, "tanh", torch.float64, Recipe(37)),
    "single image": (3, "relu", torch.float32, Recipe(1)),
}
every_case = pytest.mark.parametrize("case", list(CASES))
# Those whose members have the same bits alone and together: compiled, and in tiles of sparse rows.
every_kernel_of_same_bits = pytest.mark.parametrize("kernel", ["auto", "sparse_rows"])
MEMBERS = 9


def member(
    architecture: Sequence[int],
    share: float,
    rng_seed: int,
    *,
    activation: str = "relu",
    dtype: torch.dtype = torch.float32,
    kernel: str = "auto",
    recipe: Recipe | None = None,
    step: int = 3,
) -> TrainState:
    """A network with a share of all connections, skips included, that has been in training for some steps."""
    rng = np.random.default_rng(rng_seed)
    group = np.repeat(np.arange(len(architecture)), architecture)
    source, target = np.nonzero(group[:, None] < group[None, :])
    some = rng.permutation(len(source))[: round(share * len(source))]
    numbers = len(activation_named(activation).shape)
    topology, _ = Topology.sorted(architecture, source[some], target[some], numbers)
    values = torch.from_numpy(rng.standard_normal(topology.parameters) / 2).to(dtype)
    state = TrainState.fresh(StructNet.from_parts(topology, values, activation=activation, kernel=kernel))
    if step:
        train_steps(state, train_split(dtype), recipe or Recipe(8, rng_seed=rng_seed), step, lambda _: 1e-2)
    state.born = rng.integers(0, step + 1, topology.parameters)
    return state


@cache
def train_split(dtype: torch.dtype) -> Split:
    return image_split(60, dtype=dtype)


@cache
def judged_split(dtype: torch.dtype) -> Split:
    """Several blocks of compiled loops and of a tile, and one of torch for a network alone."""
    return image_split(1100, 5, dtype)


@cache
def pool(case: str, kernel: str = "auto") -> tuple[tuple[TrainState, ...], np.ndarray]:
    """Networks of all sorts that fit each other, and their learning rates; some of the rates are equal.

    One network has no connection, one has all, and the widths go down to a single unit. Compiled ones have from no
    hidden group to three.
    """
    groups, activation, dtype, _ = CASES[case]
    rng = np.random.default_rng(groups)
    shares = [0.0, 1.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8]
    widths = rng.integers(1, 20, (MEMBERS, 3)).tolist()
    hidden = [(groups + index) % 4 if kernel == "auto" else groups - 2 for index in range(MEMBERS)]
    states = tuple(
        member(
            [16, *widths[index][: hidden[index]], 3],
            share,
            index,
            activation=activation,
            dtype=dtype,
            kernel=kernel,
        )
        for index, share in enumerate(shares)
    )
    return states, np.array([1e-2, 1e-2, 3e-3, 0.1, 1e-3, 1e-2, 3e-2, 3e-2, 1e-4])


def alone(state: TrainState, rate: float, recipe: Recipe, steps: int) -> tuple[TrainState, torch.Tensor]:
    own = state.copy()
    split = train_split(own.network.values.dtype)
    return own, train_steps(own, split, recipe, steps, lambda step: rate * FACTOR(step))


@cache
def expected(case: str, kernel: str = "auto") -> list[tuple[TrainState, torch.Tensor, Evaluation]]:
    """Every network of the pool, trained and judged alone."""
    states, rates = pool(case, kernel)
    found = []
    for state, rate in zip(states, rates):
        own, losses = alone(state, rate, CASES[case][3], STEPS)
        found.append((own, losses, evaluate(own.network, judged_split(own.network.values.dtype))))
    return found


def assert_same(one: TrainState, other: TrainState) -> None:
    """To the bit, but for the sign of a zero."""
    assert torch.equal(one.network.values, other.network.values)
    assert torch.equal(one.optimizer.first, other.optimizer.first)
    assert torch.equal(one.optimizer.second, other.optimizer.second)
    assert np.array_equal(one.born, other.born)
    assert (one.step, one.optimizer.step) == (other.step, other.optimizer.step)
    assert one.network.architecture == other.network.architecture
    assert np.array_equal(one.network.topology.source, other.network.topology.source)
    assert np.array_equal(one.network.topology.target, other.network.topology.target)
    assert (one.network.activation, one.network.kernel) == (other.network.activation, other.network.kernel)


def assert_close(one: TrainState, other: TrainState, tolerance: float) -> None:
    close = partial(torch.testing.assert_close, rtol=tolerance, atol=tolerance)
    close(one.network.values.detach(), other.network.values.detach())
    close(one.optimizer.first, other.optimizer.first)
    close(one.optimizer.second, other.optimizer.second)


def tolerance(case: str) -> float:
    return 1e-5 if CASES[case][2] == torch.float32 else 1e-12


def trained(
    states: Sequence[TrainState], rates: Sequence[float] | np.ndarray, case: str, steps: int = STEPS
) -> tuple[Cohort, torch.Tensor]:
    """The cohort after so many steps, and its losses."""
    dtype, recipe = CASES[case][2:]
    together = Cohort(states, rates)
    return together, together.train(train_split(dtype), recipe, steps, FACTOR)
