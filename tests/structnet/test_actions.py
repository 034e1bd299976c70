"""What every growth action must do: one conformance test over the registry, whatever is in it."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.action_cases import PRESERVING, SIZES, Case, cases, change_of_output, eventful, make, reopened
from helpers.toy_action import TOY
from hypothesis import assume, given
from hypothesis import strategies as st

from search.commands.grow.command import GrowOptions
from structnet.actions import ACTIONS, Action, action_of, offered
from structnet.actions.base import Proposal
from structnet.network.activations import activation_named
from structnet.network.edit import Edit, fold
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from tournament.settings import Settings

EVERY = st.sampled_from(sorted(ACTIONS))


def test_every_name_is_that_of_a_file_and_of_its_proposals() -> None:
    case = eventful()
    for name, action in ACTIONS.items():
        assert action.name == name
        assert {proposal.action for proposal in action.propose(case.context())} == {name}


def test_the_role_says_what_becomes_of_the_size() -> None:
    case = eventful()
    for action in ACTIONS.values():
        check_role(case, action)


def check_role(case: Case, action: Action) -> None:
    added = np.array([proposal.parameters_added for proposal in action.propose(case.context())])
    assert {"growth": added > 0, "pruning": added < 0, "control": added == 0}[action.role].all()


def test_a_tournament_is_offered_all_but_its_controls() -> None:
    assert {*ACTIONS} - {*offered()} == {name for name, action in ACTIONS.items() if action.role == "control"}
    assert GrowOptions.model_fields["actions"].default == ",".join(offered())
    assert Settings().actions == offered()


def test_a_twin_is_applied_by_its_action_and_adds_as_many() -> None:
    case = eventful()
    assert sum(check_twins(case, action) for action in ACTIONS.values())


def check_twins(case: Case, action: Action) -> int:
    """How many of its first proposals have a twin."""
    context = case.context()
    pairs = [(proposal, action.twin(context, proposal)) for proposal in action.propose(context)[:4]]
    twins = [(proposal, twin) for proposal, twin in pairs if twin is not None]
    for proposal, twin in twins:
        assert action_of(twin.action) is action
        assert twin.parameters_added == proposal.parameters_added > 0
    return len(twins)


@given(case=cases(), name=EVERY)
def test_conforms(case: Case, name: str) -> None:
    check_conformance(case, name)


def check_conformance(case: Case, name: str) -> None:
    before = case.network.values.detach().clone()
    for proposal in case.proposals(name):
        edit = action_of(proposal.action).apply(case.network, proposal)
        assert edit.added == proposal.parameters_added
        assert edit.before == case.network.parameter_count
        if ACTIONS[name].preserves_output:
            assert change_of_output(case, edit) <= 1
        check_what_is_new(case, edit)
        check_what_survives(case, edit, proposal)
        check_state(case, edit)
        check_size(case, edit, proposal)
        check_plan(case, edit, proposal)
    assert torch.equal(case.network.values.detach(), before)


def check_what_is_new(case: Case, edit: Edit) -> None:
    """New parameters are reported as such, and none is zero on both sides."""
    old, new = case.network.topology, edit.network.topology
    survives = edit.origin[: new.connections] >= 0
    source, target = edit.unit_origin[new.source], edit.unit_origin[new.target]
    between_old = (source >= 0) & (target >= 0)
    assert not old.has(source[between_old & ~survives], target[between_old & ~survives]).any()
    origins = edit.origin[edit.origin >= 0]
    assert len(np.unique(origins)) == len(origins)
    values = edit.network.values.detach().double().numpy()[: new.connections]
    for unit in edit.new_units:
        fan_in, fan_out = values[new.target == unit], values[new.source == unit]
        assert len(fan_in) > 0
        assert len(fan_out) > 0
        assert fan_out.any() or fan_in.all()


def check_what_survives(case: Case, edit: Edit, proposal: Proposal) -> None:
    """Everything else is bit-equal to where it comes from, and joins the same units."""
    old, new = case.network.topology, edit.network.topology
    survivors = np.flatnonzero(edit.origin >= 0)
    connections = survivors[survivors < new.connections]
    origin = edit.origin[connections]
    assert np.array_equal(edit.unit_origin[new.target[connections]], old.target[origin])
    now_from = edit.unit_origin[new.source[connections]]
    moved = now_from != old.source[origin]
    assert (now_from[moved] == -1).all()
    assert not moved.any() or np.isin(old.source[origin][moved], proposal.plan["units"]).all()
    values, before = edit.network.values.detach(), case.network.values.detach()
    changed = survivors[(values[survivors] != before[edit.origin[survivors]]).numpy()]
    came_from = edit.origin[changed]
    plan = proposal.plan
    if proposal.action == "clone":
        assert np.isin(old.source[came_from], plan["units"]).all()
        assert torch.equal(values[changed], before[came_from] / 2)
    elif "values" in plan:  # what the surgeon moves to make up for what goes
        here = came_from < old.connections
        planned = torch.from_numpy(plan["values"][came_from[here]]).to(values.dtype)
        assert torch.equal(values[changed[here]], planned)
    elif proposal.action == "prune":
        moved_by_surgeon = plan.get("values", before.double().numpy())[came_from]
        # Biases may also take over a constant.
        of_connections = came_from < old.connections
        assert values[changed].double().numpy()[of_connections] == pytest.approx(
            moved_by_surgeon[of_connections]
        )
        assert "values" in plan or not of_connections.any()
    elif "reopened" in plan:
        biases = plan["reopened"] - old.offsets[1] + old.connections
        assert np.isin(came_from[came_from >= old.connections], biases).all()
        assert np.isin(old.source[came_from[came_from < old.connections]], plan["reopened"]).all()
        assert (values[reopened(case, edit, proposal)] == 0).all()
    else:
        assert len(changed) == 0


def check_state(case: Case, edit: Edit) -> None:
    """Moments of survivors are carried to the bit; the new start at 0 and at the median."""
    state, adam = case.state.edited(edit), case.state.optimizer
    kept, new = np.flatnonzero(edit.origin >= 0), edit.new
    assert torch.equal(state.optimizer.first[kept], adam.first[edit.origin[kept]])
    assert torch.equal(state.optimizer.second[kept], adam.second[edit.origin[kept]])
    assert (state.optimizer.first[new] == 0).all()
    assert (state.optimizer.second[new] == adam.second.median()).all()
    assert (state.born[new] == case.state.step).all()
    assert np.array_equal(state.born[kept], case.state.born[edit.origin[kept]])


def check_size(case: Case, edit: Edit, proposal: Proposal) -> None:
    """No larger than the largest size, but for one cloned unit and what is idle before a prune."""
    if proposal.action == "clone" and len(edit.new_units) == 1:
        return
    if proposal.action == "prune" and len(proposal.plan["connections"]) == 0:
        assert change_of_output(case, edit) <= 1
        return
    assert abs(proposal.parameters_added) <= SIZES[-1]


def check_plan(case: Case, edit: Edit, proposal: Proposal) -> None:
    """A plan is plain numbers that can be sent, and applying it is the same everywhere."""
    assert all(isinstance(part, (int, float, np.ndarray)) for part in proposal.plan.values())
    sent = pickle.loads(pickle.dumps(proposal))
    again = action_of(sent.action).apply(case.network.fork(), sent)
    assert torch.equal(again.network.values, edit.network.values)
    assert np.array_equal(again.origin, edit.origin)
    assert np.isfinite(proposal.predicted_gain)
    assert len(proposal.site) < 80


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


@pytest.mark.parametrize("name", sorted(ACTIONS.keys() - {"clone_vertical", "highway", "restart"}))
def test_proposes_something_for_an_ordinary_network(name: str) -> None:
    assert ACTIONS[name].propose(make([12, 8, 4], seed=3).context())


@pytest.mark.parametrize("name", sorted(ACTIONS))
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
