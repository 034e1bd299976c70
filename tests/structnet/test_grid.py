"""A grid and its blocks: every network in exactly one, the same blocks wherever the hunt runs."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from structnet.errors import UserError
from structnet.trials.grid import UNIT_COST, Block, Member, blocks_of, grid

# Costs and names, by hand


def test_cost_of_a_member() -> None:
    assert UNIT_COST == 8
    assert Member((784, 64, 10), 0.02, 0).cost == pytest.approx(0.02 * (784 * 64 + 64 * 10) + 8 * 74)
    assert Member((4, 2), 0.5, 0).cost == 0.5 * 8 + 8 * 2


def test_a_key_tells_what_the_member_is_made_from() -> None:
    assert Member((784, 64, 10), 0.02, 3).key == "784-64-10_d0.02_s3"
    assert Member((784, 10), 0.001, 0, "uniform").key == "784-10_d0.001_uniform_s0"


def test_cost_of_a_block_is_that_of_its_members() -> None:
    one, other = Member((4, 2), 0.5, 0), Member((4, 3), 0.5, 0)
    assert Block("block-0000", (one, other)).cost == one.cost + other.cost == 20 + 30


def test_blocks_of_a_small_grid_by_hand() -> None:
    """Costs are 20 for 4-2 and 30 for 4-3, so a block of 100 holds the four of two rng_seeds and no more."""
    members = grid([(4, 2), (4, 3)], [0.5], [0, 1, 2], limit=10)
    found = blocks_of(members, block_cost=100)
    assert [block.name for block in found] == ["block-0000", "block-0001"]
    assert [[member.key for member in block.members] for block in found] == [
        ["4-2_d0.5_s0", "4-3_d0.5_s0", "4-2_d0.5_s1", "4-3_d0.5_s1"],
        ["4-2_d0.5_s2", "4-3_d0.5_s2"],
    ]


def test_one_network_that_costs_more_than_a_block_is_one() -> None:
    members = grid([(4, 2), (4, 300)], [0.5], [0], limit=10)
    found = blocks_of(members, block_cost=100)
    assert [[member.architecture for member in block.members] for block in found] == [[(4, 300)], [(4, 2)]]


def test_every_block_is_filled_before_the_next_one_begins() -> None:
    members = grid([(4, 2)], [0.5], range(11), limit=11)
    found = blocks_of(members, block_cost=3 * members[0].cost)
    assert [[member.rng_seed for member in block.members] for block in found] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
        [9, 10],
    ]


# Properties

shapes = st.lists(
    st.lists(st.integers(1, 40), min_size=2, max_size=4).map(tuple), min_size=1, max_size=5, unique=True
)
densities = st.lists(st.sampled_from([0.01, 0.05, 0.2, 0.5, 1.0]), min_size=1, max_size=3, unique=True)
seeds = st.lists(st.integers(0, 50), min_size=1, max_size=4, unique=True)
shares = st.sampled_from([("proportional",), ("uniform",), ("proportional", "uniform")])
grids = st.builds(grid, shapes, densities, seeds, shares, limit=st.just(1000))
costs = st.floats(10, 5000)


def family(member: Member) -> tuple[int, float, str]:
    return len(member.architecture), member.density, member.allocation


@given(grids, costs)
def test_every_network_is_in_exactly_one_block(members: list[Member], cost: float) -> None:
    found = [member for block in blocks_of(members, cost) for member in block.members]
    assert len(found) == len(members)
    assert set(found) == set(members)


@given(grids, costs)
def test_a_block_is_of_one_family_and_within_its_cost(members: list[Member], cost: float) -> None:
    for block in blocks_of(members, cost):
        assert len({family(member) for member in block.members}) == 1
        assert block.cost <= cost or len(block.members) == 1


@given(grids, costs)
def test_the_dearest_block_comes_first(members: list[Member], cost: float) -> None:
    found = blocks_of(members, cost)
    assert [block.name for block in found] == [f"block-{number:04d}" for number in range(len(found))]
    assert all(one.cost >= other.cost for one, other in pairwise(found))


@given(grids, costs)
def test_an_rng_seed_stays_together_where_it_fits(members: list[Member], cost: float) -> None:
    places: dict[Any, set[str]] = defaultdict(set)
    together: dict[Any, float] = defaultdict(float)
    for block in blocks_of(members, cost):
        for member in block.members:
            places[family(member), member.rng_seed].add(block.name)
            together[family(member), member.rng_seed] += member.cost
    for kind, found in places.items():
        assert len(found) == 1 or together[kind] > cost * (1 - 1e-9)


@given(shapes, densities, seeds, costs, st.randoms(use_true_random=False))
def test_the_order_of_densities_and_rng_seeds_does_not_matter(
    architectures: list[tuple[int, ...]],
    some: list[float],
    rng_seeds: list[int],
    cost: float,
    order: random.Random,
) -> None:
    before = blocks_of(grid(architectures, some, rng_seeds, limit=1000), cost)
    order.shuffle(some)
    order.shuffle(rng_seeds)
    assert blocks_of(grid(architectures, some, rng_seeds, limit=1000), cost) == before


@given(grids, costs)
def test_a_block_is_plain_values_and_back(members: list[Member], cost: float) -> None:
    for block in blocks_of(members, cost):
        assert Block.from_config(json.loads(json.dumps(block.to_config()))) == block


def test_more_may_stand_in_a_config() -> None:
    block = Block("block-0000", (Member((4, 2), 0.5, 0),))
    assert Block.from_config({**block.to_config(), "options": {"epochs": 3}}) == block


@given(shapes, densities, seeds, shares)
def test_a_grid_is_every_combination_once(
    architectures: list[tuple[int, ...]],
    some: list[float],
    rng_seeds: list[int],
    allocations: tuple[str, ...],
) -> None:
    members = grid(architectures, some, rng_seeds, allocations, limit=1000)
    wanted = {
        (architecture, density, rng_seed, allocation)
        for architecture in architectures
        for density in some
        for rng_seed in rng_seeds
        for allocation in allocations
    }
    found = [(m.architecture, m.density, m.rng_seed, m.allocation) for m in members]
    assert len(found) == len(wanted) and set(found) == wanted
    assert len({member.key for member in members}) == len(members)


# Mistakes


@pytest.mark.parametrize(
    ("architectures", "some", "rng_seeds", "missing"),
    [([], [0.1], [0], "architectures"), ([(4, 2)], [], [0], "densities"), ([(4, 2)], [0.1], [], "rng_seeds")],
)
def test_an_empty_grid_is_refused(
    architectures: list[tuple[int, ...]], some: list[float], rng_seeds: list[int], missing: str
) -> None:
    with pytest.raises(UserError, match=f"the grid is empty, as there are no {missing}"):
        grid(architectures, some, rng_seeds, limit=10)


def test_a_grid_over_the_limit_is_refused_with_its_number() -> None:
    assert len(grid([(4, 2), (4, 3)], [0.1, 0.2], range(3), limit=12)) == 12
    with pytest.raises(UserError, match=r"has 12 networks .* but limit is 11: raise --limit"):
        grid([(4, 2), (4, 3)], [0.1, 0.2], range(3), limit=11)


def test_a_grid_far_over_the_limit_is_not_built() -> None:
    with pytest.raises(UserError, match="has 1,000,000,000,000 networks"):
        grid([(4, 2)], [0.1], range(10**12), limit=10_000)


@pytest.mark.parametrize(
    ("architectures", "some"),
    [([(4, 2), (4, 2)], [0.1]), ([(4, 2)], [0.1, 0.1]), ([(4, 2)], [0.1, 0.10])],
)
def test_a_network_that_is_there_twice_is_refused(
    architectures: list[tuple[int, ...]], some: list[float]
) -> None:
    with pytest.raises(UserError, match=r"network 4-2_d0\.1_s0 is twice in the grid"):
        grid(architectures, some, [0], limit=10)


@pytest.mark.parametrize("density", [0.0, -0.1, 1.5, float("nan"), float("inf")])
def test_a_density_out_of_range_is_refused(density: float) -> None:
    with pytest.raises(UserError, match=rf"density is {density}, but must be in \(0, 1\]"):
        grid([(4, 2)], [0.5, density], [0], limit=10)
