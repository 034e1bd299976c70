"""SET, RigL and pruning: one step by hand, and what a move keeps."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from helpers.training_cases import check_survivors, image_split, known, skip_network
from hypothesis import given
from hypothesis import strategies as st

from structnet import StructNet
from structnet.data.dataset import Split
from structnet.growth.rewiring import prune_step, rigl_step, set_step, with_random, with_strongest
from structnet.measure.diagnosis import diagnose
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine

torch.set_num_threads(1)

SHAPE = (16, 12, 8, 3)
RECIPE = Recipe(batch_size=16, l1=1e-4, input_dropout=0.1, rng_seed=3)
SPLIT = image_split(120)


def by_hand(sizes: list[int], cells: list[tuple[int, int]], values: list[float]) -> TrainState:
    """A trained-looking state: connections (source, target), their values, biases 0; moments all different."""
    source, target = np.array(cells).T
    topology, order = Topology.sorted(sizes, source, target)
    flat = np.concatenate([np.array(values)[order], np.zeros(topology.bias_count)])
    state = TrainState.fresh(StructNet.from_parts(topology, torch.from_numpy(flat)))
    state.optimizer.first = torch.arange(1.0, len(flat) + 1, dtype=torch.float64)
    state.optimizer.second = 100 + torch.arange(1.0, len(flat) + 1, dtype=torch.float64)
    state.optimizer.step = state.step = 7
    return state


def trained(network: StructNet, split: Split = SPLIT, steps: int = 5) -> TrainState:
    state = TrainState.fresh(network)
    train_steps(state, split, RECIPE, steps, cosine(1e-2, 0, 100))
    return state


def per_link(state: TrainState) -> dict[tuple[int, int], int]:
    return {pair: span.stop - span.start for pair, span in state.network.topology.links.items()}


# --- SET

FIVE_TO_TWO = [(0, 5), (1, 5), (2, 5), (3, 5), (0, 6), (1, 6)]


def test_set_takes_the_weakest_of_either_sign() -> None:
    """Half of four that are positive and half of two that are negative; four cells are free."""
    state = by_hand([5, 2], FIVE_TO_TWO, [0.1, 0.9, 0.2, 0.3, -0.5, -0.1])
    after = set_step(state, 0.5, np.random.default_rng(0))
    gone, came = check_survivors(state, after)
    assert gone == {(0, 5), (2, 5), (1, 6)}
    assert len(came) == 3
    assert came <= {(4, 5), (2, 6), (3, 6), (4, 6)}
    assert {after.born[i] for i in range(6)} == {0, 7}


def test_set_counts_the_signs_apart_and_rounds_down() -> None:
    """0.3 of five is one and of one is none, though 0.3 of six would be the two weakest; 0 is positive."""
    state = by_hand([5, 2], FIVE_TO_TWO, [0.4, 0.9, 0.0, 0.3, 0.5, -0.1])
    gone, _ = check_survivors(state, set_step(state, 0.3, np.random.default_rng(0)))
    assert gone == {(2, 5)}


def test_a_share_that_is_a_whole_number_is_not_rounded_to_one_less() -> None:
    """0.29 × 100 is 28.999999999999996 in floating point."""
    cells = [(source, 20 + target) for source in range(20) for target in range(5)]
    state = by_hand([20, 10], cells, [1.0 + index for index in range(100)])
    gone, _ = check_survivors(state, set_step(state, 0.29, np.random.default_rng(0)))
    assert len(gone) == 29


@given(st.integers(0, 10**6), st.floats(0.05, 0.9))
def test_set_keeps_the_count_of_every_link(rng_seed: int, zeta: float) -> None:
    state = trained(skip_network(rng_seed), image_split(40, dtype=torch.float64), steps=2)
    after = set_step(state, zeta, np.random.default_rng(rng_seed))
    gone, came = check_survivors(state, after)
    assert per_link(after) == per_link(state)
    assert len(gone) == len(came)
    assert after.network.architecture == state.network.architecture
    back = set_step(state, zeta, np.random.default_rng(rng_seed), may_return=True)
    assert per_link(back) == per_link(state)


def test_what_has_just_gone_comes_back_only_if_it_may() -> None:
    """Nine of ten cells are full: without return only one can move, with it most that go come back."""
    cells = [(source, 5 + target) for target in range(2) for source in range(5)][:9]
    state = by_hand([5, 2], cells, [0.1 * (index + 1) for index in range(9)])
    gone, came = check_survivors(state, set_step(state, 0.7, np.random.default_rng(0)))
    assert (gone, came) == ({(0, 5)}, {(4, 6)})
    after = set_step(state, 0.7, np.random.default_rng(0), may_return=True)
    assert sum(known(after).get(cell) == value for cell, value in known(state).items()) == 3


def test_new_values_are_spread_like_initial_ones() -> None:
    """About two thousand new connections: variance 2 ÷ fan-in at a hidden unit, 1 ÷ fan-in at the output."""
    state = TrainState.fresh(StructNet([400, 100, 40], 0.25))
    after = set_step(state, 0.3, np.random.default_rng(0))
    topology, values = after.network.topology, after.network.values.detach().numpy()
    old = known(state)
    is_new = [cell not in old for cell in zip(topology.source.tolist(), topology.target.tolist())]
    into = topology.target[is_new]
    unit = values[: topology.connections][is_new] * np.sqrt(topology.fan_in()[into])
    hidden = into < 500
    assert unit[hidden].std() == pytest.approx(math.sqrt(2), rel=0.05)
    assert unit[~hidden].std() == pytest.approx(1, rel=0.1)
    still = known(set_step(state, 0.3, np.random.default_rng(0), scale=0.0))
    assert {still[cell][0] for cell in still.keys() - old.keys()} == {0.0}


# --- RigL


def gradients(state: TrainState, split: Split) -> dict[tuple[int, int], float]:
    """By every connection of a network with one link that exists or not, from torch's autograd."""
    n_in, n_out = state.network.architecture
    link, values = state.network.links[(0, 1)], state.network.values.detach()
    matrix = link.dense(values[link.span]).requires_grad_()
    logits = split.images.flatten(1).double() @ matrix.t() + values[link.span.stop :]
    torch.nn.functional.cross_entropy(logits, split.labels).backward()
    assert matrix.grad is not None
    return {(i, n_in + j): float(matrix.grad[j, i]) for i in range(n_in) for j in range(n_out)}


def test_rigl_moves_the_weakest_to_the_largest_gradients() -> None:
    """Of 24 connections 12 go; the 12 largest gradients of all but the 12 others come, some of those that went."""
    split = image_split(80, dtype=torch.float64)
    rng = np.random.default_rng(5)
    cells = [(int(cell) % 16, 16 + int(cell) // 16) for cell in rng.permutation(48)[:24]]
    state = by_hand([16, 3], cells, rng.standard_normal(24).tolist())
    after = rigl_step(state, 0.5, diagnose(state.network, split.images, split.labels))
    gone, came = check_survivors(state, after)
    by_size = sorted(known(state), key=lambda cell: abs(known(state)[cell][0]))
    weakest, stay = set(by_size[:12]), set(by_size[12:])
    found = gradients(state, split)
    wanted = set(sorted(found.keys() - stay, key=lambda cell: -abs(found[cell]))[:12])
    assert gone == weakest - wanted
    assert came == wanted - weakest
    assert 0 < len(came) < 12
    assert {known(after)[cell][0] for cell in came} == {0.0}


@given(st.integers(0, 10**6), st.floats(0.05, 0.9))
def test_rigl_keeps_the_count_of_every_link(rng_seed: int, share: float) -> None:
    split = image_split(40, dtype=torch.float64)
    state = trained(skip_network(rng_seed), split, steps=2)
    after = rigl_step(state, share, diagnose(state.network, split.images, split.labels))
    gone, came = check_survivors(state, after)
    assert per_link(after) == per_link(state)
    assert len(gone) == len(came)


def test_without_gradients_nothing_moves() -> None:
    """Blank images: no connection from the input has a gradient."""
    state = by_hand([5, 2], FIVE_TO_TWO, [0.1, 0.9, 0.2, 0.3, -0.5, -0.1])
    diagnosis = diagnose(state.network, torch.zeros(4, 5, dtype=torch.float64), torch.tensor([0, 1, 0, 1]))
    assert known(rigl_step(state, 0.5, diagnosis)) == known(state)


# --- adding and pruning


def test_so_many_more_come_at_random_or_where_the_gradient_is_largest() -> None:
    state = trained(StructNet(SHAPE, 0.2, rng_seed=1))
    _, came = check_survivors(state, with_random(state, 17, np.random.default_rng(0)))
    assert len(came) == 17
    diagnosis = diagnose(state.network, SPLIT.images, SPLIT.labels)
    after = with_strongest(state, 17, diagnosis)
    _, came = check_survivors(state, after)
    assert len(came) == 17
    assert {known(after)[cell][0] for cell in came} == {0.0}
    least = min(abs(_gradient(diagnosis, state, cell)) for cell in came)
    others = _absent(state) - came
    assert least >= max(abs(_gradient(diagnosis, state, cell)) for cell in others)


def _absent(state: TrainState) -> set[tuple[int, int]]:
    offsets = state.network.topology.offsets
    spans = [range(offsets[group], offsets[group + 1]) for group in range(len(SHAPE))]
    return {
        (i, j)
        for first, second in pairwise(spans)
        for i in first
        for j in second
        if (i, j) not in known(state)
    }


def _gradient(diagnosis: Any, state: TrainState, cell: tuple[int, int]) -> float:
    offsets = state.network.topology.offsets
    source, target = (int(np.searchsorted(offsets, unit, side="right")) - 1 for unit in cell)
    return float(diagnosis.outer(source, target)[cell[1] - offsets[target], cell[0] - offsets[source]])


def test_pruning_takes_the_smallest_of_all_links() -> None:
    """3-2-2 with seven connections: the three smallest go, of both links, and every unit still has its ways."""
    cells = [(0, 3), (1, 3), (2, 3), (0, 4), (1, 4), (3, 5), (4, 5), (4, 6)]
    state = by_hand([3, 2, 2], cells, [0.5, -0.1, 0.9, -0.6, 0.2, 0.8, 0.3, -0.7])
    after = prune_step(state, 12 - 3)
    gone, came = check_survivors(state, after)
    assert gone == {(1, 3), (1, 4), (4, 5)}
    assert not came
    assert after.network.parameter_count == 9
    assert prune_step(after, 9) is after


def test_pruning_counts_the_units_that_go_with_the_connections() -> None:
    """Without its only way out, 4 loses its two ways in and its bias: four parameters for one connection."""
    cells = [(0, 3), (1, 3), (2, 3), (0, 4), (1, 4), (3, 5), (4, 5)]
    state = by_hand([3, 2, 1], cells, [0.5, -0.4, 0.9, -0.6, 0.2, 0.8, 0.1])
    for parameters in (9, 8, 7, 6):
        after = prune_step(state, parameters)
        assert after.network.architecture == [3, 1, 1]
        assert after.network.parameter_count == 6


@given(st.integers(0, 10**6), st.integers(4, 150))
def test_pruning_takes_no_more_than_it_must(rng_seed: int, parameters: int) -> None:
    """One connection less would leave too many parameters: pruned to one more than is left, nothing changes."""
    state = TrainState.fresh(skip_network(rng_seed))
    after = prune_step(state, parameters)
    size = after.network.parameter_count
    assert size <= parameters
    if size < parameters:
        assert prune_step(state, size).network.parameter_count == size
        assert prune_step(state, parameters - 1).network.parameter_count <= size
