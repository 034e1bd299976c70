"""What is special to the actions that sell and move connections, on networks where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.action_cases import Case, cases, make
from hypothesis import given
from hypothesis import strategies as st

from structnet.actions import ACTIONS
from structnet.actions.prune import NEWBORN_STEPS
from structnet.actions.rewire import weak_units
from structnet.network.edit import fold
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.network.topology import Topology


def worth_by_hand() -> Case:
    """Inputs 0 … 3; hidden 4, 5; output 6, 7. w²·√v grows with the index, |w| falls."""
    source = np.array([0, 1, 2, 3, 4, 4, 5, 5])
    target = np.array([4, 4, 5, 5, 6, 7, 6, 7])
    topology, order = Topology.sorted([4, 2, 2], source, target)
    assert order.tolist() == [0, 1, 2, 3, 4, 6, 5, 7]
    weights = torch.arange(8, 0, -1.0)
    network = StructNet.from_parts(topology, torch.cat([weights, torch.full((4,), 0.5)]))
    state = TrainState.fresh(network)
    state.optimizer.second[:8] = (torch.arange(1.0, 9.0) / weights**2) ** 2
    state.optimizer.step = state.step = 1000
    images = torch.rand(32, 4, generator=torch.Generator().manual_seed(0))
    return Case(state, images, torch.arange(32) % 2)


def test_prune_takes_the_least_worth_by_each_rule() -> None:
    case = worth_by_hand()
    plans = {
        proposal.site: proposal.plan["connections"].tolist()
        for proposal in ACTIONS["prune"].propose(case.context((1,)))
        if "surgeon" not in proposal.site
    }
    assert plans == {
        "all links: 1 connections by w²·√v": [0],
        "all links: 1 connections by magnitude": [7],
    }


def test_prune_counts_what_is_folded_away() -> None:
    case = worth_by_hand()
    # Without 0→4 and 1→4 unit 4 has no way in: 2 + its 2 connections out and its bias.
    by_worth = ACTIONS["prune"].propose(case.context((5,)))[0]
    assert by_worth.plan["connections"].tolist() == [0, 1]
    assert by_worth.parameters_added == -5
    edit = ACTIONS["prune"].apply(case.network, by_worth)
    assert edit.network.architecture == [4, 1, 2]
    assert (edit.freed, len(edit.new)) == (5, 0)
    # Units fit a size whole or not at all.
    assert ACTIONS["prune"].propose(case.context((4,)))[0].parameters_added == -1


@pytest.mark.parametrize("operates", [False, True])
def test_the_most_redundant_growth_is_offered_whole(operates: bool) -> None:
    """Of two growths the one that matters less for each parameter, unless it does not fit; newborns are no growth."""
    case = worth_by_hand()
    case.state.optimizer.step = 1000 if operates else 0
    with torch.no_grad():
        case.network.values[[1, 2]] = 1e-3
    case.state.born[[0, 3]], case.state.born[[1, 2]] = 300, 500
    case.state.born[7] = case.state.step - 1

    def offered(*sizes: int) -> list[tuple[str, int]]:
        found = ACTIONS["prune"].propose(case.context(sizes))
        return [(proposal.site, proposal.parameters_added) for proposal in found if "grew" in proposal.site]

    assert offered(1, 4) == [("what grew at step 500: 2 connections", -2)]
    assert offered(1) == []
    case.state.born[[1, 2]] = 0
    assert offered(1, 4) == [("what grew at step 300: 2 connections", -2)]


def test_a_growth_is_judged_by_what_it_is_worth_for_each_parameter() -> None:
    """Connections 0 and 1 are worth 1 + 2 and free 5 parameters with their unit, connection 3 is worth 4."""
    case = worth_by_hand()
    case.state.optimizer.step = 0
    case.state.born[[0, 1]], case.state.born[3] = 300, 500
    site = ACTIONS["prune"].propose(case.context((1, 5)))[0].site
    assert site == "what grew at step 300: 2 connections"


def test_idle_units_are_offered_alone() -> None:
    case = make([6, 5, 3], density=0.2, seed=1)
    idle = fold(case.network).freed
    assert idle > 0
    proposal = ACTIONS["prune"].propose(case.context())[0]
    assert proposal.site == "units without a way in or out"
    assert proposal.parameters_added == -idle


def test_before_the_first_step_the_magnitude_decides() -> None:
    case = worth_by_hand()
    case.state.optimizer.step = 0
    case.state.optimizer.second.zero_()
    proposals = ACTIONS["prune"].propose(case.context((1,)))
    assert [proposal.plan["connections"].tolist() for proposal in proposals] == [[7], [7]]


@pytest.mark.parametrize("name", ["prune", "rewire", "rewire_and_patch"])
def test_newborns_are_spared(name: str) -> None:
    case = make([10, 8, 4], density=0.6, seed=7)
    young = np.arange(0, case.network.connection_count, 2)
    case.state.born[:] = 0
    with torch.no_grad():
        case.network.values[young] *= 1e-3  # they would go first
    case.state.born[young] = case.state.step - NEWBORN_STEPS + 1
    proposals = ACTIONS[name].propose(case.context())
    assert proposals
    assert not any(np.isin(proposal.plan["connections"], young).any() for proposal in proposals)
    case.state.born[young] = case.state.step - NEWBORN_STEPS
    proposals = ACTIONS[name].propose(case.context())
    assert all(np.isin(proposal.plan["connections"], young).all() for proposal in proposals[:1])


@given(case=cases(), name=st.sampled_from(["rewire", "rewire_and_patch"]))
def test_only_weak_units_lose_their_last_way_in_and_none_its_last_way_out(case: Case, name: str) -> None:
    old = case.network.topology
    hidden = slice(int(old.offsets[1]), int(old.offsets[-2]))
    weak = weak_units(case.context())
    assert (
        np.count_nonzero(weak) == np.count_nonzero(weak[hidden]) == round(0.2 * sum(old.architecture[1:-1]))
    )
    for proposal in ACTIONS[name].propose(case.context()):
        edit = ACTIONS[name].apply(case.network, proposal)
        new = edit.network.topology
        assert edit.freed == proposal.connections_moved >= 1
        assert len(edit.new) == proposal.connections_moved + proposal.parameters_added
        lost = np.flatnonzero((old.fan_in() > 0) & (new.fan_in() == 0))
        assert weak[lost].all()
        assert (new.fan_out()[hidden][old.fan_out()[hidden] > 0] > 0).all()
        assert (edit.network.values.detach()[edit.new] == 0).all()


def test_where_every_unit_has_one_way_in_the_weak_ones_give_theirs_up() -> None:
    case = make([20, 10, 4], density=20 / 240, seed=0)
    # Hidden unit 20 + i is fed by input i alone and feeds output i mod 4 alone.
    units = np.arange(10)
    source, target = np.concatenate([units, 20 + units]), np.concatenate([20 + units, 30 + units % 4])
    topology, _ = Topology.sorted([20, 10, 4], source, target)
    values = torch.cat([torch.ones(10), torch.full((10,), 5.0), torch.zeros(14)]).double()
    values[topology.connections // 2 + np.flatnonzero(topology.source[10:] == 23)] = 0.1
    values[topology.connections // 2 + np.flatnonzero(topology.source[10:] == 26)] = 0.2
    state = TrainState.fresh(StructNet.from_parts(topology, values))
    case = Case(state, case.images, case.labels)
    assert np.flatnonzero(weak_units(case.context())).tolist() == [23, 26]
    proposals = ACTIONS["rewire"].propose(case.context())
    assert [proposal.connections_moved for proposal in proposals] == [2, 1, 2]
    assert topology.target[proposals[0].plan["connections"]].tolist() == [23, 26]
    edit = ACTIONS["rewire"].apply(case.network, proposals[0])
    assert edit.added == 0


def test_rewire_offers_the_control_first() -> None:
    case = make([20, 15, 5], density=0.5, seed=0)
    count = case.network.connection_count
    proposals = ACTIONS["rewire"].propose(case.context())
    assert [proposal.connections_moved for proposal in proposals] == [
        round(share * count) for share in (0.10, 0.05, 0.20)
    ]
    assert all(proposal.parameters_added == 0 for proposal in proposals)


def test_lost_connections_are_in_the_prediction() -> None:
    case = make([12, 8, 4], density=0.6, seed=1, activation="tanh")
    gradient, values = case.gradient(case.network), case.network.values.detach().numpy()
    proposal = ACTIONS["prune"].propose(case.context())[0]
    gone = proposal.plan["connections"]
    assert proposal.predicted_gain == pytest.approx((gradient[gone] * values[gone]).sum() / np.log(2))
