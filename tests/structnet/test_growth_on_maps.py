"""Methods of growth on feature maps: SET, RigL and pruning of taps; what is refused; ports and resolutions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.map_action_cases import MapCase, in_training, make_maps, map_cases
from helpers.map_networks import random_architecture, random_images, random_map_network
from hypothesis import given
from hypothesis import strategies as st

from structnet.errors import UserError
from structnet.growth.cannistraci_hebb import cannistraci_hebb_step
from structnet.growth.evolution import Evolution, evolve, seed_of_evolution
from structnet.growth.hierarchy import hierarchical_network
from structnet.growth.rewiring import prune_step, rigl_step, set_step, with_random, with_strongest
from structnet.growth.scales import pruned, refine_input
from structnet.growth.utilisation import utilisation
from structnet.measure.ports import seen_at, sent_back
from structnet.network.architecture import sizes_of
from structnet.network.network import StructNet
from structnet.network.resolution import with_sides
from structnet.network.state import TrainState

MOVES: dict[str, Callable[[MapCase, np.random.Generator], TrainState]] = {
    "set": lambda case, rng: set_step(case.state, 0.4, rng),
    "rigl": lambda case, rng: rigl_step(case.state, 0.4, case.diagnosis),
    "evolve": lambda case, rng: evolve(case.state, Evolution(0.4), rng).state,
    "cannistraci_hebb": lambda case, rng: cannistraci_hebb_step(case.state, 0.4, rng),
}


def by_ends(network: StructNet, of: torch.Tensor) -> dict[tuple[int, int], float]:
    """Of each connection, by the port and the unit it joins."""
    topology = network.topology
    return dict(zip(zip(topology.source.tolist(), topology.target.tolist()), of.tolist()))


@pytest.mark.parametrize("name", MOVES)
@given(case=map_cases(), seed=st.integers(0, 100))
def test_moves_of_taps_keep_the_count_of_every_link(case: MapCase, seed: int, name: str) -> None:
    state = MOVES[name](case, np.random.default_rng(seed))
    before, after = case.network, state.network
    spans = [network.topology.links for network in (before, after)]
    counts = [{pair: span.stop - span.start for pair, span in links.items()} for links in spans]
    assert counts[0] == counts[1]
    assert after.statistics is before.statistics is None or torch.equal(after.statistics, before.statistics)
    old, new = by_ends(before, before.values.detach()), by_ends(after, after.values.detach())
    was, now = by_ends(before, case.state.optimizer.second), by_ends(after, state.optimizer.second)
    known = set(new) & set(old)
    assert all((new[end], now[end]) == (old[end], was[end]) for end in known)


def test_the_weakest_are_those_of_the_network_in_use() -> None:
    """Taps into a map of deviation 100 count for a hundredth of what they are in training."""
    shape = sizes_of("1@4,2@4,2")
    network = make_maps(0, shape, normalised=True, share=0.6).network
    topology = network.topology
    span = topology.links[0, 1]
    with torch.no_grad():
        network.values[span] = torch.linspace(2, 1, span.stop - span.start).to(network.values)
    assert network.statistics is not None
    network.statistics[1, 0], network.statistics[1, 1] = 1e4, 1.0
    case = in_training(network, np.random.default_rng(0))
    into_first = int(np.count_nonzero(topology.target[span] == 1))
    for step in (
        lambda: set_step(case.state, 0.2, np.random.default_rng(0)),
        lambda: rigl_step(case.state, 0.2, case.diagnosis),
    ):
        left = step().network
        ends = by_ends(left, left.values.detach())
        gone = set(by_ends(network, network.values.detach())) - set(ends)
        of_link = {end for end in gone if end[1] in (1, 2)}
        assert 0 < len(of_link) <= into_first
        assert {target for _, target in of_link} == {1}


@given(case=map_cases(), share=st.floats(0.1, 1.0))
def test_pruned_taps_leave_no_more_than_is_asked_for(case: MapCase, share: float) -> None:
    smallest = case.network.architecture[-1] + 1
    wanted = max(smallest, round(share * case.network.parameter_count))
    for left in (
        prune_step(case.state, wanted),
        pruned(case.state, wanted),
        pruned(case.state, wanted, "magnitude"),
    ):
        assert left.network.parameter_count <= wanted


@given(case=map_cases(), count=st.integers(1, 12))
def test_more_taps_come_where_there_is_room(case: MapCase, count: int) -> None:
    rng = np.random.default_rng(count)
    topology = case.network.topology
    room = sum(topology.absent_of(pair) for pair in topology.links)
    grown = with_random(case.state, count, rng).network
    assert grown.connection_count == topology.connections + min(count, room)
    best = with_strongest(case.state, count, case.diagnosis)
    assert topology.connections <= best.network.connection_count <= topology.connections + count
    new = np.flatnonzero(best.born[: best.network.connection_count] == best.step)
    assert (best.network.values.detach()[new] == 0).all()


def test_a_seed_of_evolution_is_normalised_and_has_the_spread_of_a_dense_fan_in() -> None:
    shape = sizes_of("2@6,3x3,40@6,30@3,10")
    network = seed_of_evolution(shape, 8, Evolution(), 0)
    assert network.statistics is not None
    assert network.statistics[1].tolist() == [1.0] * 80
    links = network.topology.links
    for pair, fan_in in (((0, 1), 2 * 9), ((1, 2), 40 * 9), ((2, 3), 30)):
        spread = float(network.values.detach()[links[pair]].std())
        assert spread == pytest.approx(np.sqrt(2 / fan_in), rel=0.15)


def test_what_a_growth_of_taps_is_worth() -> None:
    case = make_maps(4, sizes_of("2@6,4@6,3@3,3"), normalised=True, share=0.5, bias=0.5)
    split = random_images(np.random.default_rng(1), case.network.topology.architecture, 50, torch.float64)
    (found,) = utilisation(case.state, split, [100])
    born = case.state.born[: case.network.connection_count]
    assert found.connections == np.count_nonzero(born == 100)
    assert found.largest_correlation is not None
    assert 0 < found.largest_correlation <= 1


def test_what_is_for_networks_without_maps_says_so() -> None:
    case = make_maps(0, sizes_of("1@4,2@4,3"))
    split = random_images(np.random.default_rng(0), case.network.topology.architecture)
    with pytest.raises(UserError, match="hierarchical initialisation is for networks without feature maps"):
        hierarchical_network(case.state, sizes_of("1@4,3@4,3"), 60, split)
    with pytest.raises(UserError, match="scales are for networks without feature maps"):
        refine_input(case.network, 1, 4, 4)
    with pytest.raises(ValueError, match="have to stay so"):
        with_sides(case.network, [(4, 4), (1, 1), (1, 1)])


@given(seed=st.integers(0, 10**6))
def test_errors_come_back_through_the_port_that_was_seen(seed: int) -> None:
    """⟨seen(x), e⟩ = ⟨x, sent back(e)⟩ for every port of every pair of groups, also of a group and one like it."""
    rng = np.random.default_rng(seed)
    shape = random_architecture(rng)
    pairs = [(a, b) for b in range(len(shape)) for a in range(b + 1) if (a, b) != (len(shape) - 1,) * 2]
    for pair in pairs:
        source = torch.from_numpy(rng.standard_normal((2, shape.area(pair[0]) * 3)))
        error = torch.from_numpy(rng.standard_normal((2, shape.area(pair[1]) * 3)))
        for code in shape.port_range(pair):
            seen, back = seen_at(shape, pair, code, source), sent_back(shape, pair, code, error)
            assert seen.shape == error.shape
            assert back.shape == source.shape
            assert (seen * error).sum(dim=1).numpy() == pytest.approx((source * back).sum(dim=1).numpy())


@given(seed=st.integers(0, 10**6))
def test_the_same_sides_change_nothing(seed: int) -> None:
    network = random_map_network(np.random.default_rng(seed), dtype=torch.float64)
    edit = with_sides(network, network.topology.architecture.sides)
    assert torch.equal(edit.network.values, network.values)
    assert np.array_equal(edit.network.topology.source, network.topology.source)
    assert np.array_equal(edit.origin, np.arange(network.parameter_count))
