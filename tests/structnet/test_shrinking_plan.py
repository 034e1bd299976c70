"""The plan of the final phase: what its size is to be at every step, how much moves, and at which pace it trains."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from structnet import StructNet
from structnet.data.dataset import Split
from structnet.network.state import TrainState
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant
from structnet.training.shrinking import Shrinking, shrink_steps

torch.set_num_threads(1)

RECIPE = Recipe(batch_size=16, input_dropout=0.1, l1=1e-4, rng_seed=4)


def columns(classes: int = 3, images: int = 120, dtype: torch.dtype = torch.float32) -> Split:
    """8 inputs; the label is the class of the nearest of a few random points."""
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(images, 8, generator=random, dtype=dtype)
    points = torch.randn(classes, 8, generator=random, dtype=dtype)
    return Split(inputs, torch.cdist(inputs, points).argmin(dim=1))


def phase(network: StructNet, steps: int, limit: int, **options: float) -> Shrinking:
    """From step 0, without growing unless a peak is given."""
    size = network.parameter_count
    return Shrinking(0, steps, size, int(options.pop("peak", size)), limit, **options)  # type: ignore[arg-type]


def test_the_target_by_hand() -> None:
    """1,000 steps: buys 400 in the first 150, sells 500 until step 700, half-way after 425."""
    plan = Shrinking(start=2000, stop=3000, size=600, peak=1000, limit=500)
    assert [plan.target(step) for step in (0, 2000, 2075, 2150)] == [600, 600, 800, 1000]
    assert plan.target(2425) == 500 + round(500 / 8)
    assert [plan.target(step) for step in (2700, 2999, 3000, 9999)] == [500] * 4


def test_without_a_peak_selling_starts_at_once() -> None:
    for peak in (0, 600):
        plan = Shrinking(start=0, stop=1000, size=600, peak=peak, limit=100)
        assert [plan.target(step) for step in (0, 350, 700, 1000)] == [600, 100 + round(500 / 8), 100, 100]


def test_a_limit_above_everything_changes_nothing() -> None:
    plan = Shrinking(start=0, stop=1000, size=600, peak=600, limit=5000)
    assert {plan.target(step) for step in range(0, 1001, 50)} == {600}
    plan = Shrinking(start=0, stop=1000, size=600, peak=1000, limit=5000)
    assert [plan.target(step) for step in (0, 150, 400, 1000)] == [600, 1000, 1000, 1000]


def test_moves_by_hand() -> None:
    plan = Shrinking(start=100, stop=1100, size=600, peak=600, limit=100)
    assert plan.moves(100) == pytest.approx(0.3)
    assert plan.moves(100 + 350) == pytest.approx(0.15)
    assert plan.moves(100 + 175) == pytest.approx(0.3 * (2 + math.sqrt(2)) / 4)
    assert [plan.moves(step) for step in (800, 1000, 1100)] == pytest.approx([0, 0, 0])
    growing = Shrinking(start=100, stop=1100, size=600, peak=700, limit=100)
    assert [growing.moves(step) for step in (100, 249)] == [0.0, 0.0]
    assert growing.moves(250) == plan.moves(250) > 0


def test_the_pace_by_hand() -> None:
    """1 while 300 grow, then the root of how many times fewer there are than at the peak of 900."""
    plan = Shrinking(start=0, stop=1000, size=600, peak=900, limit=100)
    assert [plan.pace(step) for step in (0, 149, 150)] == [1, 1, 1]
    assert plan.pace(400) == plan.pace(449) == pytest.approx(math.sqrt(900 / plan.target(400)))
    assert [plan.pace(step) for step in (700, 1000)] == [3, 3]
    assert Shrinking(start=0, stop=1000, size=600, peak=600, limit=5000).pace(900) == 1


def test_a_network_that_has_been_sold_trains_at_its_pace() -> None:
    """From the end of selling on nothing changes: a quarter of the peak takes steps of twice the learning rate."""
    network, split = StructNet([8, 12, 3], 0.5, rng_seed=1), columns()
    plan = Shrinking(0, 100, network.parameter_count, network.parameter_count, network.parameter_count // 4)
    state, _ = shrink_steps(TrainState.fresh(network), split, RECIPE, 75, constant(1e-2), plan)
    twin = TrainState.from_arrays(state.to_arrays())
    state, _ = shrink_steps(state, split, RECIPE, 5, constant(1e-2), plan)
    pace = math.sqrt(plan.size / plan.limit)
    train_steps(twin, split, RECIPE, 5, constant(pace * 1e-2))
    assert torch.equal(state.network.values, twin.network.values)


def test_a_short_phase_is_changed_more_often_and_moves_as_much() -> None:
    short = Shrinking(start=0, stop=200, size=600, peak=600, limit=100)
    long = Shrinking(start=0, stop=5000, size=600, peak=600, limit=100)
    assert (short.every, long.every) == (10, 50)
    assert short.moves(0) * 5 == pytest.approx(long.moves(0))
    assert [Shrinking(7, 7 + steps, 9, 9, 5).every for steps in (0, 1, 19, 39, 40)] == [1, 1, 1, 1, 2]


sizes = st.integers(1, 5000)


@given(st.integers(0, 10**6), st.integers(1, 3000), sizes, sizes, sizes, st.integers(1, 200))
def test_the_target_rises_to_the_peak_then_falls_to_the_limit(
    start: int, steps: int, size: int, peak: int, limit: int, interval: int
) -> None:
    plan = Shrinking(start, start + steps, size, peak, limit, interval=interval)
    targets = [plan.target(start + step) for step in range(steps + 2)]
    top = max(size, peak)
    assert min(limit, size) <= min(targets)
    assert max(targets) <= top
    turn = math.ceil(0.15 * steps) + 1 if peak > size else 0
    falling = targets[turn:]
    assert all(later <= earlier for earlier, later in pairwise(falling))
    last_change = (steps - 1) // plan.every * plan.every
    assert targets[last_change] == min(limit, top)
    rising = targets[: max(0, min(turn - 1, last_change))]
    assert all(later >= earlier for earlier, later in pairwise(rising))
