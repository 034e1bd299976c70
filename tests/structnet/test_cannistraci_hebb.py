"""Cannistraci-Hebb training: scores by hand and by their definition, what goes, what comes, and how it is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from structnet import StructNet
from structnet.growth.cannistraci_hebb import _drawn, cannistraci_hebb_step, ch2_l3n, importance
from structnet.network.random_topology import random_topology
from structnet.network.state import TrainState
from structnet.network.topology import Topology

LINK = (0, 1)


def link(n_in: int, n_out: int, cells: list[tuple[int, int]]) -> Topology:
    """Cells are (source, target)."""
    source, target = np.array(cells).T
    return Topology.sorted((n_in, n_out), source, target + n_in)[0]


def by_definition(topology: Topology) -> np.ndarray:
    """Over the units on all paths of length 3, one absent connection after the other."""
    n_in, n_out = topology.shape_of(LINK)
    row, column = topology.positions(LINK)
    edges = {*zip(column.tolist(), (row + n_in).tolist())}
    near = {
        unit: {b for a, b in edges if a == unit} | {a for a, b in edges if b == unit}
        for unit in range(n_in + n_out)
    }
    scores = np.zeros((n_out, n_in))
    for u in range(n_in):
        for v in range(n_in, n_in + n_out):
            if (u, v) in edges:
                continue
            paths = [(b, a) for b in near[u] for a in near[v] if (a, b) in edges]
            community = {unit for path in paths for unit in path}
            for unit in community:
                inside = len(near[unit] & community)
                outside = len(near[unit] - community - {u, v})
                scores[v - n_in, u] += (inside + 1) / (outside + 1)
    return scores


def test_scores_by_hand() -> None:
    """0–a, 1–a, 1–b: the one path from 0 to b goes over a and 1, which have no other connection."""
    topology = link(3, 2, [(0, 0), (1, 0), (1, 1)])
    assert ch2_l3n(topology, LINK)[1, 0] == 2 + 2
    # With 2–a the unit a has one connection outside of the path from 0 to b.
    topology = link(3, 2, [(0, 0), (1, 0), (1, 1), (2, 0)])
    scores = ch2_l3n(topology, LINK)
    assert scores[1, 0] == scores[1, 2] == 2 + 1
    assert np.count_nonzero(scores) == 2  # nothing else is absent


@given(st.integers(2, 8), st.integers(2, 8), st.floats(0.1, 0.9), st.integers(0, 1000))
def test_scores_are_those_of_the_definition(n_in: int, n_out: int, density: float, rng_seed: int) -> None:
    topology = random_topology((n_in, n_out), density, np.random.default_rng(rng_seed))
    np.testing.assert_allclose(ch2_l3n(topology, LINK), by_definition(topology), rtol=1e-12)


def test_importance_is_relative_to_both_ends() -> None:
    topology = link(2, 2, [(0, 0), (1, 0), (1, 1)])
    found = importance(topology, LINK, np.array([1.0, -3.0, 1.0]))  # 0–a, 1–a, 1–b
    assert found == pytest.approx([1 + 1 / 4, 3 / 4 + 3 / 4, 1 / 4 + 1])


def state_of(rng_seed: int = 0) -> TrainState:
    network = StructNet([12, 10, 6], 0.3, rng_seed=rng_seed)
    state = TrainState.fresh(network)
    state.optimizer.first += torch.arange(network.parameter_count) + 1.0
    return state


def cells(state: TrainState, pair: tuple[int, int] = LINK) -> dict[int, tuple[float, float]]:
    """Cell -> value and first moment."""
    span, values = state.network.topology.links[pair], state.network.values.detach()
    both = zip(values[span].tolist(), state.optimizer.first[span].tolist())
    return dict(zip(state.network.topology.cells(pair).tolist(), both))


@pytest.mark.parametrize("power", [None, 1.0, 3.0])
@given(rng_seed=st.integers(0, 1000), share=st.sampled_from([0.1, 0.3, 0.6]))
def test_a_step_keeps_the_number_and_what_survives(power: float | None, rng_seed: int, share: float) -> None:
    state = state_of(rng_seed)
    after = cannistraci_hebb_step(state, share, np.random.default_rng(rng_seed), power=power)
    for pair in state.network.topology.links:
        old, new = cells(state, pair), cells(after, pair)
        assert len(new) == len(old)
        stayed = set(old) & set(new)
        assert {cell: new[cell] for cell in stayed} == {cell: old[cell] for cell in stayed}
        assert {new[cell] for cell in set(new) - stayed} <= {(0.0, 0.0)}
        going = int(share * len(old) + 1e-9)
        absent = state.network.topology.absent_of(pair)
        # What goes does not come back, so as many have moved.
        assert len(set(new) - stayed) == min(going, absent)


def test_the_hard_rule_takes_the_least_and_places_the_largest() -> None:
    state = state_of()
    topology = state.network.topology
    values = state.network.values.detach()[topology.links[LINK]].numpy()
    after = cannistraci_hebb_step(state, 0.3, np.random.default_rng(0))
    old, new = set(topology.cells(LINK).tolist()), set(after.network.topology.cells(LINK).tolist())
    worth = dict(zip(topology.cells(LINK).tolist(), importance(topology, LINK, values)))
    gone, come = old - new, new - old
    assert max(worth[cell] for cell in gone) <= min(worth[cell] for cell in old & new)
    row, column = np.divmod(np.array(sorted(old - gone)), 12)
    core = link(12, 10, list(zip(column.tolist(), row.tolist())))
    scores = ch2_l3n(core, LINK).ravel()
    others = set(range(120)) - old - come
    assert min(scores[list(come)]) >= max(scores[list(others)])


def test_draws_follow_their_weights_and_what_has_none_comes_last() -> None:
    weight, counts = np.array([4.0, 2.0, 1.0, 1.0, 0.0]), np.zeros(5)
    rng = np.random.default_rng(0)
    for _ in range(4000):
        counts[_drawn(weight, 1, rng)] += 1
    np.testing.assert_allclose(counts / 4000, weight / 8, atol=0.02)
    assert all(set(_drawn(weight, 4, rng).tolist()) == {0, 1, 2, 3} for _ in range(50))
    assert sorted(_drawn(weight, 5, rng).tolist()) == [0, 1, 2, 3, 4]
    assert {int(_drawn(np.zeros(3), 1, rng)[0]) for _ in range(50)} == {0, 1, 2}
