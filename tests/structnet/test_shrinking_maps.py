"""A final phase with a limit on multiply-adds: it holds from the end of pruning on, and what is dear goes first."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from helpers.map_networks import random_images
from hypothesis import example, given
from hypothesis import strategies as st

from structnet import StructNet
from structnet.data.dataset import Split
from structnet.measure.size import multiply_adds
from structnet.network.architecture import sizes_of
from structnet.network.edit import disconnect
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine
from structnet.training.shrinking import Shrinking, _weakest, shrink_steps

torch.set_num_threads(1)

SHAPE = sizes_of("1@6,4@6,5@3,3")
RECIPE = Recipe(batch_size=16, l1=1e-4, rng_seed=4)
SPLIT = random_images(np.random.default_rng(0), SHAPE, 120)


def walk(shrinking: Shrinking, network: StructNet, split: Split = SPLIT) -> Iterator[TrainState]:
    """The state after every step of a phase."""
    state, falling = TrainState.fresh(network), cosine(1e-2, 0, shrinking.stop)
    while state.step < shrinking.stop:
        state, _ = shrink_steps(state, split, RECIPE, 1, falling, shrinking)
        yield state


def macs_of(state: TrainState) -> int:
    return multiply_adds(state.network.topology)


@pytest.mark.parametrize("limit_macs", [600, 1200])
def test_both_limits_hold_from_the_end_of_pruning_on_and_are_made_use_of(limit_macs: int) -> None:
    network = StructNet(SHAPE, 0.4, rng_seed=1, ensure_paths=True)
    size = network.parameter_count
    shrinking = Shrinking(0, 300, size, 180, 90, interval=20, limit_macs=limit_macs)
    states = {
        state.step: (macs_of(state), state.network.parameter_count) for state in walk(shrinking, network)
    }
    assert max(macs for macs, _ in states.values()) > 1.5 * limit_macs
    settled = [found for step, found in states.items() if step > 0.7 * 300 + shrinking.every]
    assert max(macs for macs, _ in settled) <= limit_macs
    assert max(parameters for _, parameters in settled) <= 90
    assert settled[-1][0] > 0.9 * limit_macs or settled[-1][1] == 90


def test_a_limit_that_does_not_bind_changes_nothing() -> None:
    network = StructNet(SHAPE, 0.4, rng_seed=1, ensure_paths=True)
    plain = Shrinking(0, 60, network.parameter_count, 150, 80, interval=10)
    bound = Shrinking(0, 60, network.parameter_count, 150, 80, interval=10, limit_macs=10**9)
    *_, one = walk(plain, network.fork())
    *_, other = walk(bound, network.fork())
    assert np.array_equal(one.network.topology.source, other.network.topology.source)
    assert torch.equal(one.network.values, other.network.values)


def test_where_multiply_adds_bind_dear_taps_go_and_cheap_ones_stay() -> None:
    """With as many parameters at the end or fewer, a network of less work has fewer taps into the large maps."""
    network = StructNet(SHAPE, 0.5, rng_seed=1, ensure_paths=True)
    size = network.parameter_count
    ends = []
    for limit in (None, 700):
        *_, state = walk(Shrinking(0, 200, size, size, 110, interval=20, limit_macs=limit), network.fork())
        topology = state.network.topology
        into_large = len(topology.source[topology.span_of((0, 1))]) / topology.connections
        ends.append((macs_of(state), into_large, state.network.parameter_count))
    assert ends[1][0] <= 700 < ends[0][0]
    assert ends[1][1] < ends[0][1]


def test_what_has_just_come_is_pruned_where_its_means_are_too_dear() -> None:
    """Of a network without connections: what comes reads the mean of a map, which is 36 additions."""
    nothing = np.empty(0, dtype=np.int32)
    topology = Topology(SHAPE, nothing, nothing)
    for limit in (20, 50):
        network = StructNet.from_parts(topology, torch.zeros(topology.parameters))
        *_, state = walk(Shrinking(0, 2, 12, 12, 30, interval=1, limit_macs=limit), network)
        assert macs_of(state) <= limit


def test_what_moves_does_not_drive_out_what_stays() -> None:
    """One tap of 144 positions and 480 connections of one: what moves may not all become taps, whatever gradients say.

    Maps without a way in are folded away at the end.
    """
    shape = sizes_of("4@12,6@12,30,10")
    split = random_images(np.random.default_rng(0), shape, 60)
    whole = StructNet(shape, 1.0, rng_seed=0)
    large = whole.topology.span_of((0, 1))
    network = disconnect(whole, np.arange(large.start + 1, large.stop)).network
    size, macs = network.parameter_count, multiply_adds(network.topology)
    plan = Shrinking(0, 2, size, size, size, interval=1, move_share=0.9, limit_macs=macs)
    *_, state = walk(plan, network, split)
    assert macs_of(state) <= macs
    assert state.network.connection_count > 0.5 * network.connection_count


def test_how_many_multiply_adds_there_may_be_follows_the_parameters() -> None:
    shrinking = Shrinking(0, 100, 100, 100, 50, interval=5, limit_macs=1000)
    assert shrinking.macs(0) == 2000
    assert shrinking.macs(100) == 1000
    assert all(shrinking.macs(step) == 20 * shrinking.target(step) for step in range(100))
    growing = Shrinking(0, 100, 100, 200, 50, interval=5, limit_macs=1000)
    assert growing.macs(0) is None
    assert growing.macs(20) == 20 * growing.target(20)
    assert Shrinking(0, 100, 100, 100, 50).macs(50) is None


def test_what_is_worth_least_for_its_work_goes_after_what_is_worth_least() -> None:
    worth = np.array([5.0, 1.0, 4.0, 6.0, 3.0])
    positions = np.array([100, 1, 10, 1, 1])
    assert _weakest(worth, positions, 2, 0).tolist() == [1, 4]
    assert _weakest(worth, positions, 2, 2).tolist() == [1, 4]
    # .05, .4 and 6 a multiply-add are left.
    assert _weakest(worth, positions, 2, 3).tolist() == [1, 4, 0]
    assert _weakest(worth, positions, 2, 102).tolist() == [1, 4, 0]
    assert _weakest(worth, positions, 2, 103).tolist() == [1, 4, 0, 2]
    assert _weakest(worth, positions, 0, 10**6).tolist() == [0, 2, 1, 4, 3]


@example(0, 1, 22, 1, 105)
@given(
    st.integers(0, 10**6), st.integers(1, 20), st.integers(4, 120), st.integers(1, 4000), st.integers(0, 200)
)
def test_any_phase_ends_within_both(seed: int, steps: int, limit: int, limit_macs: int, peak: int) -> None:
    network = StructNet(SHAPE, 0.4, rng_seed=seed)
    size = network.parameter_count
    shrinking = Shrinking(0, steps, size, max(size, peak), limit, interval=4, limit_macs=limit_macs)
    *_, state = walk(shrinking, network)
    assert macs_of(state) <= limit_macs
    assert state.network.parameter_count <= limit
