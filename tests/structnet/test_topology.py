"""Topologies: exact counts, how links share them, and the order that everything else relies on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structnet.errors import UserError
from structnet.network.architecture import (
    bias_count,
    density_for,
    hidden_units,
    parameters_dense,
    possible_connections,
)
from structnet.network.random_topology import random_topology
from structnet.network.topology import ALLOCATIONS, Topology

architectures = st.lists(st.integers(1, 12), min_size=2, max_size=4)
densities = st.floats(0.001, 1.0)


def drawn(
    architecture: list[int],
    density: float,
    rng_seed: int = 0,
    *,
    allocation: str = "proportional",
    ensure_paths: bool = False,
) -> Topology:
    rng = np.random.default_rng(rng_seed)
    return random_topology(architecture, density, rng, allocation=allocation, ensure_paths=ensure_paths)


def counts(topology: Topology) -> list[int]:
    """Connections of each pair of neighbouring groups."""
    pairs = [(group, group + 1) for group in range(topology.groups - 1)]
    spans = [topology.links.get(pair, slice(0, 0)) for pair in pairs]
    return [span.stop - span.start for span in spans]


def assert_in_order(topology: Topology) -> None:
    """Sorted by (target group, source group, target, source), nothing twice, nothing backwards."""
    source_group, target_group = topology.group_of(topology.source), topology.group_of(topology.target)
    keys = list(zip(target_group, source_group, topology.target, topology.source))
    assert keys == sorted(set(keys))
    assert np.all(source_group < target_group)


# --- random topologies


@given(architectures, densities, st.sampled_from(["proportional", "uniform"]), st.integers(0, 99))
def test_density_fixes_the_number_of_connections(
    architecture: list[int], density: float, allocation: str, rng_seed: int
) -> None:
    topology = drawn(architecture, density, rng_seed, allocation=allocation)
    possible = sum(a * b for a, b in pairwise(architecture))
    assert topology.connections == max(1, round(density * possible))
    assert topology.possible() == possible
    assert topology.density == topology.connections / possible
    assert topology.source.dtype == topology.target.dtype == np.int32
    assert_in_order(topology)


@given(architectures, densities, st.sampled_from(ALLOCATIONS))
def test_ensure_paths_reaches_every_unit_or_says_what_it_takes(
    architecture: list[int], density: float, allocation: str
) -> None:
    pairs = list(pairwise(architecture))
    covers = [pairs[0][1], *(max(pair) for pair in pairs[1:])]
    if allocation == "dense_output":
        covers[-1] = pairs[-1][0] * pairs[-1][1]
    needed = sum(covers)
    total = max(1, round(density * sum(a * b for a, b in pairs)))
    if total < needed:
        with pytest.raises(UserError, match=rf"gives {total} connections, but {needed} are needed"):
            drawn(architecture, density, allocation=allocation, ensure_paths=True)
        return
    topology = drawn(architecture, density, allocation=allocation, ensure_paths=True)
    assert topology.connections == total
    first, last = architecture[0], sum(architecture[:-1])
    assert np.all(topology.fan_in()[first:] > 0)
    assert np.all(topology.fan_out()[first:last] > 0)
    assert_in_order(topology)


def test_a_dense_output_is_full_and_all_else_alike() -> None:
    topology = drawn([30, 20, 10, 5], 0.3, allocation="dense_output")
    counts = [len(topology.cells(pair)) for pair in ((0, 1), (1, 2), (2, 3))]
    assert sum(counts) == round(0.3 * 850)
    assert counts[2] == 50
    assert counts[0] / 600 == pytest.approx(counts[1] / 200, abs=0.01)
    with pytest.raises(UserError, match=r"42 connections, but 50 are needed .* with a full output"):
        drawn([30, 20, 10, 5], 0.05, allocation="dense_output")


def test_the_density_that_ensure_paths_proposes_is_enough() -> None:
    """8,192 + 8,192 of 97 · 8,192 + 8,192 · 83: 0.011111, which must not be rounded down."""
    with pytest.raises(UserError, match=r"raise the density to 0\.0112 ") as refused:
        drawn([97, 8192, 83], 0.001, ensure_paths=True)
    assert "\n" not in str(refused.value)
    assert np.all(drawn([97, 8192, 83], 0.0112, ensure_paths=True).fan_in()[97:] > 0)


def test_proportional_gives_small_links_the_larger_density() -> None:
    """10 % of 784·100 + 100·10 are 7,940 connections; in the ratio 884 : 110 the second would get 879."""
    topology = drawn([784, 100, 10], 0.1)
    assert counts(topology) == [7061, 879]


def test_784_100_10_at_one_percent() -> None:
    """round(794.0) connections + 110 biases; shares 884 : 110, so 706.1 and 87.9."""
    topology = drawn([784, 100, 10], 0.01)
    assert (topology.connections, topology.bias_count, topology.parameters) == (794, 110, 904)
    assert counts(topology) == [706, 88]
    assert counts(drawn([784, 100, 10], 0.01, allocation="uniform")) == [784, 10]


def test_a_full_link_passes_its_share_on() -> None:
    """Shares are 102 : 3 of 152, but the second link has room for 2 only, so the first takes 150."""
    assert counts(drawn([100, 2, 1], 152 / 202)) == [150, 2]


def test_density_one_is_dense() -> None:
    topology = drawn([5, 4, 3], 1.0, ensure_paths=True)
    assert topology.parameters == parameters_dense([5, 4, 3]) == 5 * 4 + 4 + 4 * 3 + 3


def test_every_cell_is_as_likely_as_any_other() -> None:
    """2,000 draws of 3 of 12 cells: each is drawn 500 ± 19 times (one standard deviation)."""
    hits = np.zeros(12)
    for rng_seed in range(2000):
        topology = drawn([4, 3], 0.25, rng_seed)
        hits[(topology.target - 4) * 4 + topology.source] += 1
    assert hits.sum() == 6000
    assert np.all(np.abs(hits - 500) < 5 * 19.4)


def test_the_same_seed_gives_the_same_topology() -> None:
    first, again, other = drawn([20, 10, 5], 0.2, 3), drawn([20, 10, 5], 0.2, 3), drawn([20, 10, 5], 0.2, 4)
    assert np.array_equal(first.source, again.source)
    assert np.array_equal(first.target, again.target)
    assert not np.array_equal(first.source, other.source)


@pytest.mark.parametrize("density", [0.0, -0.1, 1.5, float("nan")])
def test_density_out_of_range(density: float) -> None:
    with pytest.raises(UserError, match=rf"density is {density}, but must be in \(0, 1\]"):
        drawn([4, 3], density)


@pytest.mark.parametrize("architecture", [[], [4], [4, 0, 2], [4, -1]])
def test_architecture_that_is_none(architecture: list[int]) -> None:
    with pytest.raises(UserError, match="two or more sizes"):
        drawn(architecture, 0.5)


def test_unknown_allocation() -> None:
    with pytest.raises(
        UserError, match="allocation is 'fair', but must be one of proportional, uniform, dense_output"
    ):
        drawn([4, 3], 0.5, allocation="fair")


# --- the order and what is read from it


def test_sorted_by_hand() -> None:
    """Groups {0, 1}, {2, 3}, {4}; the skip 1→4 comes before 2→4, because its source group does."""
    topology, order = Topology.sorted([2, 2, 1], np.array([2, 1, 1, 0]), np.array([4, 4, 2, 3]))
    assert order.tolist() == [2, 3, 1, 0]
    assert (topology.source.tolist(), topology.target.tolist()) == ([1, 0, 1, 2], [2, 3, 4, 4])
    assert topology.links == {(0, 1): slice(0, 2), (0, 2): slice(2, 3), (1, 2): slice(3, 4)}
    assert topology.fan_in().tolist() == [0, 0, 1, 1, 2]
    assert topology.fan_out().tolist() == [1, 2, 1, 0, 0]
    assert topology.has(np.array([1, 0, 2]), np.array([4, 4, 4])).tolist() == [True, False, True]
    assert topology.possible() == 4 + 2 + 2
    assert topology.parameters == 4 + 3


def test_where_things_lie_by_hand() -> None:
    """The same network: its flat vector has 4 connections and the biases of units 2, 3 and 4."""
    topology, _ = Topology.sorted([2, 2, 1], np.array([2, 1, 1, 0]), np.array([4, 4, 2, 3]))
    assert (topology.units, topology.bias_count, topology.hidden) == (5, 3, slice(2, 4))
    assert topology.bias_spans == [slice(0, 0), slice(4, 6), slice(6, 7)]
    assert topology.bias_of(np.array([2, 4])).tolist() == [4, 6]
    assert [part.tolist() for part in topology.split(np.arange(7))] == [[0, 1, 2, 3], [4, 5, 6]]
    assert topology.shape_of((0, 2)) == (2, 1)
    assert [topology.possible_of(pair) for pair in ((0, 1), (0, 2), (1, 2))] == [4, 2, 2]
    assert [topology.absent_of(pair) for pair in ((0, 1), (0, 2), (1, 2))] == [2, 1, 1]
    assert [part.tolist() for part in topology.positions((0, 1))] == [[0, 1], [1, 0]]
    assert topology.cells((0, 1)).tolist() == [1, 2]
    assert [part.tolist() for part in topology.ends((0, 1), *topology.positions((0, 1)))] == [[1, 0], [2, 3]]
    assert topology.position_in(1, np.array([2, 3])).tolist() == [0, 1]


def test_groups_that_are_not_linked_have_room() -> None:
    topology, _ = Topology.sorted([2, 3, 1], np.array([0]), np.array([2]))
    assert topology.span_of((1, 2)) == slice(0, 0)
    assert (topology.absent_of((1, 2)), len(topology.cells((1, 2)))) == (3, 0)


def test_what_a_shape_has() -> None:
    assert (bias_count([4, 3, 2]), hidden_units([4, 3, 2]), possible_connections([4, 3, 2])) == (5, 3, 18)
    assert parameters_dense([4, 3, 2]) == 23
    assert density_for([4, 3, 2], 5 + 9) == 0.5


@given(architectures, st.floats(0.05, 1.0), st.integers(0, 3))
def test_links_hold_all_connections_and_cells_are_their_places(
    architecture: list[int], density: float, rng_seed: int
) -> None:
    topology = drawn(architecture, density, rng_seed)
    for pair, span in topology.links.items():
        row, column = np.divmod(topology.cells(pair), architecture[pair[0]])
        source, target = topology.ends(pair, row, column)
        assert np.array_equal(source, topology.source[span]) and np.array_equal(target, topology.target[span])
    absent = sum(topology.absent_of((group, group + 1)) for group in range(topology.groups - 1))
    assert topology.connections + absent == possible_connections(architecture)


def test_without_connections() -> None:
    empty = np.empty(0, dtype=np.int32)
    topology, _ = Topology.sorted([3, 2, 2], empty, empty)
    assert topology.links == {}
    assert (topology.density, topology.parameters) == (0.0, 4)
    assert topology.fan_in().tolist() == [0] * 7


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ([0, 0], [2, 2], "given twice"),
        ([2], [0], "to a later one"),
        ([2], [3], "to a later one"),
        ([0], [5], "outside 0 … 4"),
        ([-1], [2], "outside 0 … 4"),
    ],
)
def test_connections_that_cannot_be(source: list[int], target: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Topology.sorted([2, 2, 1], np.array(source), np.array(target))
