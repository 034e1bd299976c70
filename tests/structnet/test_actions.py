"""What every growth action must do: one conformance test over the registry, whatever is in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.action_cases import PRESERVING, Case, cases, eventful, make, reopened
from helpers.action_conformance import check_conformance, check_role, check_twins
from helpers.toy_action import TOY
from hypothesis import assume, given
from hypothesis import strategies as st

from search.commands.grow.command import GrowOptions
from search.commands.grow.fitting import fitted_to, settings_for
from structnet.actions import ACTIONS, action_of, offered
from structnet.data.datasets import load_dataset
from structnet.network.activations import activation_named
from structnet.network.edit import fold
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from tournament.settings import Settings, fitted_settings

EVERY = st.sampled_from(sorted(ACTIONS))
# The others change the shape of maps, and there are none here (test_actions_on_maps.py).
ON_PLAIN = sorted(name for name, action in ACTIONS.items() if action.role != "reshaping")


def test_every_name_is_that_of_a_file_and_of_its_proposals() -> None:
    case = eventful()
    for name, action in ACTIONS.items():
        assert action.name == name
        found = {proposal.action for proposal in action.propose(case.context())}
        assert found == ({name} if name in ON_PLAIN else set())


def test_the_role_says_what_becomes_of_the_size() -> None:
    case = eventful()
    for action in ACTIONS.values():
        check_role(case, action)


def test_a_tournament_is_offered_all_but_its_controls() -> None:
    longest = max(action.least_steps for action in ACTIONS.values())
    controls = {name for name, action in ACTIONS.items() if action.role == "control"}
    assert {*ACTIONS} - {*offered(longest)} == controls
    assert Settings().actions == offered()


@pytest.mark.parametrize(("heat_steps", "is_long"), [(200, False), (299, False), (300, True)])
def test_what_short_heats_misjudge_is_offered_in_long_ones(heat_steps: int, is_long: bool) -> None:
    digits = load_dataset("digits")
    later = {name for name, action in ACTIONS.items() if action.least_steps}
    assert later
    by_default = fitted_to(GrowOptions(heat_steps=heat_steps), digits)
    for actions in (
        settings_for(by_default, 0).actions,
        fitted_settings(1000, heat_steps=heat_steps).actions,
    ):
        assert later & {*actions} == (later if is_long else set())
    asked = GrowOptions(heat_steps=heat_steps, actions=min(later))
    assert settings_for(fitted_to(asked, digits), 0).actions == (min(later),)


def test_a_twin_is_applied_by_its_action_and_adds_as_many() -> None:
    case = eventful()
    assert sum(check_twins(case, action) for action in ACTIONS.values())


@given(case=cases(), name=EVERY)
def test_conforms(case: Case, name: str) -> None:
    check_conformance(case, name)


def test_an_action_of_ones_own_conforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIONS, "toy", TOY)
    case = eventful()
    check_conformance(case, "toy")
    check_role(case, TOY)
    check_twins(case, TOY)


@given(case=cases(), name=EVERY)
def test_what_is_gone_stays_gone(case: Case, name: str) -> None:
    for proposal in case.proposals(name)[:3]:
        state = case.state.edited(action_of(proposal.action).apply(case.network, proposal))
        network, values = state.network, state.network.values.detach()
        source, target = network.topology.source.copy(), network.topology.target.copy()
        for _ in range(3):
            gradient = torch.from_numpy(case.gradient(network)).to(values.dtype)
            state.optimizer.update(values, gradient, 1e-2)
            values.mul_(0.99)
        assert np.array_equal(network.topology.source, source)
        assert np.array_equal(network.topology.target, target)
        reference = dense_reference(network, case.images)
        tolerance = 1e-4 if values.dtype == torch.float32 else 1e-11
        assert torch.allclose(network(case.images), reference, rtol=tolerance, atol=tolerance)


@given(case=cases(dtypes=(torch.float64,)), name=st.sampled_from(PRESERVING))
def test_predicted_gain_is_the_gradient_of_what_is_new(case: Case, name: str) -> None:
    for proposal in case.proposals(name):
        edit = action_of(proposal.action).apply(case.network, proposal)
        gradient = case.gradient(edit.network)
        given_a_step = np.union1d(edit.new, reopened(case, edit, proposal))
        expected = 1e-3 * np.abs(gradient[given_a_step]).sum() / np.log(2)
        assert proposal.predicted_gain == pytest.approx(expected, rel=1e-6, abs=1e-15)


@given(case=cases(dtypes=(torch.float64,)), name=st.sampled_from(sorted(set(PRESERVING) - {"clone"})))
def test_survivors_keep_their_gradient(case: Case, name: str) -> None:
    before = case.gradient(case.network)
    for proposal in case.proposals(name):
        if "reopened" in proposal.plan:
            continue
        edit = action_of(proposal.action).apply(case.network, proposal)
        kept = np.flatnonzero(edit.origin >= 0)
        assert case.gradient(edit.network)[kept] == pytest.approx(before[edit.origin[kept]], abs=1e-13)


@given(
    hidden=st.lists(st.integers(2, 6), min_size=1, max_size=3),
    activation=st.sampled_from(["relu", "tanh", "sigmoid"]),
    seed=st.integers(0, 10**6),
    name=st.sampled_from(PRESERVING),
)
def test_everything_new_gets_a_gradient(hidden: list[int], activation: str, seed: int, name: str) -> None:
    # All units fire on nearly all images and reach the output, so nothing is excused. Actions that move half of
    # a small network change what it computes, and may silence a unit by that.
    bias = 4.0 if activation == "relu" else 0.0
    case = make([6, *hidden, 3], density=0.6, seed=seed, activation=activation, bias=bias, skips=True)
    network = fold(case.network).network
    case = replace(case, state=TrainState.fresh(network))
    hidden_units = slice(int(network.topology.offsets[1]), int(network.topology.offsets[-2]))
    assume((case.diagnosis.firing_rate[hidden_units] > 0.9).all())
    for proposal in ACTIONS[name].propose(case.context()):
        edit = ACTIONS[name].apply(network, proposal)
        values = edit.network.values.detach()
        first = case.gradient(edit.network)
        values[edit.new] -= 0.01 * torch.from_numpy(first[edit.new])
        second = case.gradient(edit.network)
        touched = (np.abs(first) + np.abs(second))[edit.new]
        assert (touched > 0).all(), proposal.site


@given(case=cases(), name=EVERY)
def test_the_same_stream_proposes_the_same(case: Case, name: str) -> None:
    once, again = (ACTIONS[name].propose(case.context()) for _ in range(2))
    assert [(one.site, one.predicted_gain) for one in once] == [
        (one.site, one.predicted_gain) for one in again
    ]
    for one, other in zip(once, again):
        assert all(np.array_equal(one.plan[key], other.plan[key]) for key in one.plan)


@pytest.mark.parametrize("name", sorted({*ON_PLAIN} - {"clone_vertical", "highway", "restart"}))
def test_proposes_something_for_an_ordinary_network(name: str) -> None:
    assert ACTIONS[name].propose(make([12, 8, 4], seed=3).context())


@pytest.mark.parametrize("name", ON_PLAIN)
def test_conforms_where_units_are_saturated_and_dead(name: str) -> None:
    case = eventful()
    assert ACTIONS[name].propose(case.context())
    check_conformance(case, name)


def dense_reference(network: StructNet, images: torch.Tensor) -> torch.Tensor:
    """The network as full matrices, unit by unit, from nothing but its topology and values."""
    topology = network.topology
    values = network.values.detach().numpy()
    units, first = int(topology.offsets[-1]), int(topology.offsets[1])
    matrix = np.zeros((units, units), dtype=values.dtype)
    matrix[topology.target, topology.source] = values[: topology.connections]
    apply = activation_named(network.activation).apply
    active = np.zeros((units, len(images)), dtype=values.dtype)
    active[:first] = images.numpy().T
    for group in range(1, topology.groups):
        here = topology.units_of(group)
        biases = values[topology.connections :][here.start - first : here.stop - first]
        state = matrix[here] @ active + biases[:, None]
        is_last = group == topology.groups - 1
        active[here] = state if is_last else apply(torch.from_numpy(state)).numpy()
    return torch.from_numpy(active[int(topology.offsets[-2]) :].T)
