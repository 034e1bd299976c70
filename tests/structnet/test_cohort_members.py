"""What fits into a cohort, how topologies are joined, and what a member takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.cohort_cases import FACTOR, member
from helpers.training_cases import arrays_in, memory, skip_network

from structnet import StructNet
from structnet.data.dataset import Split
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training.cohort import Cohort, cohort_bytes
from structnet.training.recipe import Recipe
from structnet.training.tile import join


def other_optimizer(state: TrainState, **changes: float) -> TrainState:
    return TrainState(state.network, replace(state.optimizer, **changes), state.step, state.born)


def with_step(state: TrainState, step: int) -> TrainState:
    return TrainState(state.network, state.optimizer, step, state.born)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: member([15, 4, 3], 0.5, 1, step=0), "the same inputs, but have 16 and 15"),
        (lambda: member([16, 4, 4], 0.5, 1), "the same classes, but have 3 and 4"),
        (
            lambda: member([16, 4, 3], 0.5, 1, activation="tanh"),
            "the same activation, but have relu and tanh",
        ),
        (
            lambda: member([16, 4, 3], 0.5, 1, kernel="sparse_rows"),
            "the same kernel, but have auto and sparse_rows",
        ),
        (lambda: member([16, 4, 3], 0.5, 1, dtype=torch.float64), "the same number type"),
        (lambda: with_step(member([16, 4, 3], 0.5, 1), 4), "the same step, but have 3 and 4"),
        (lambda: other_optimizer(member([16, 4, 3], 0.5, 1), step=4), "the same optimizer"),
        (lambda: other_optimizer(member([16, 4, 3], 0.5, 1), beta1=0.8), "the same optimizer"),
        (lambda: other_optimizer(member([16, 4, 3], 0.5, 1), beta2=0.99), "the same optimizer"),
        (lambda: other_optimizer(member([16, 4, 3], 0.5, 1), epsilon=1e-6), "the same optimizer"),
    ],
)
def test_members_that_do_not_fit(other: Callable[[], TrainState], message: str) -> None:
    first = member([16, 4, 3], 0.5, 0)
    with pytest.raises(ValueError, match=f"members of a cohort must have {message}"):
        Cohort([first, first, other()], [1e-2] * 3)


@pytest.mark.parametrize("kernel", ["sparse_rows", "masked_dense"])
def test_members_that_are_joined_have_the_same_depth(kernel: str) -> None:
    """Compiled ones need not (test_cohort): they are not joined."""
    first = member([16, 4, 3], 0.5, 0, kernel=kernel)
    for shape, groups in (([16, 4, 4, 3], 4), ([16, 3], 2)):
        other = member(shape, 0.5, 1, kernel=kernel)
        with pytest.raises(ValueError, match=f"must have the same groups, but have 3 and {groups}"):
            Cohort([first, other], [1e-2] * 2)
    with pytest.raises(ValueError, match=f"the same kernel, but have {kernel} and auto"):
        Cohort([first, member([16, 4, 3], 0.5, 1)], [1e-2] * 2)


def test_one_rate_for_each_and_at_least_one() -> None:
    first = member([16, 4, 3], 0.5, 0)
    with pytest.raises(ValueError, match="2 networks and 1 learning rates, but one each is needed"):
        Cohort([first, first], [1e-2])
    with pytest.raises(ValueError, match="0 networks and 0 learning rates"):
        Cohort([], [])
    with pytest.raises(ValueError, match="0 networks"):
        Cohort([first], [1e-2]).keep([])


def test_join_by_hand() -> None:
    """Inputs 0 and 1 are shared; hidden units are 2 | 3 4, outputs 5 | 6."""
    one = Topology.sorted([2, 1, 1], np.array([0, 2]), np.array([2, 3]))[0]
    two = Topology.sorted([2, 2, 1], np.array([1, 0, 0, 3]), np.array([2, 3, 4, 4]))[0]
    joint, places = join([one, two])
    assert joint.architecture == (2, 3, 2)
    # Into the hidden group, then into the output from the input (the skip), then from the hidden group.
    assert joint.source.tolist() == [0, 1, 0, 0, 2, 4]
    assert joint.target.tolist() == [2, 3, 4, 6, 5, 6]
    # Behind six connections the biases of 2 3 4 5 6.
    assert places[0].tolist() == [0, 4, 6, 9]
    assert places[1].tolist() == [1, 2, 3, 5, 7, 8, 10]


def test_join_of_one_is_itself() -> None:
    topology = skip_network().topology
    joint, (place,) = join([topology])
    assert np.array_equal(joint.source, topology.source) and np.array_equal(joint.target, topology.target)
    assert place.tolist() == list(range(topology.parameters))


@pytest.mark.parametrize("shape", [[3, 1, 1], [2, 1, 1, 1]])
def test_join_of_what_does_not_fit(shape: list[int]) -> None:
    empty = np.empty(0, dtype=np.int32)
    one, two = Topology((2, 1, 1), empty, empty), Topology(tuple(shape), empty, empty)
    with pytest.raises(ValueError, match="must have the same depth and inputs"):
        join([one, two])


@pytest.mark.parametrize("architecture", [[784, 64, 10], [784, 256, 10], [16, 8, 8, 3]])
def test_bytes_of_a_member_as_estimated(architecture: list[int]) -> None:
    """Everything that a cohort holds between two steps, shared memory counted once."""
    states = [TrainState.fresh(StructNet(architecture, 0.05, rng_seed=rng_seed)) for rng_seed in range(30)]
    random = torch.Generator().manual_seed(0)
    split = Split(torch.rand(20, architecture[0], generator=random), torch.arange(20) % 3)
    together = Cohort(states, [1e-2] * 30)
    together.train(split, Recipe(4), 1, FACTOR)
    held = dict(memory(thing) for thing in arrays_in(together))
    estimate = sum(cohort_bytes(architecture, state.network.connection_count) for state in states)
    assert 0.5 * sum(held.values()) < estimate < 2 * sum(held.values())
