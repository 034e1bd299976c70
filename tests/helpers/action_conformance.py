"""What every growth action must do, checked on one network: the conformance test over the registry."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from helpers.action_cases import SIZES, Case, change_of_output, reopened

from structnet.actions import ACTIONS, Action, action_of
from structnet.actions.base import Proposal
from structnet.compiled.normalise import LEAST_VARIANCE
from structnet.network.edit import Edit


def check_role(case: Case, action: Action) -> None:
    added = np.array([proposal.parameters_added for proposal in action.propose(case.context())])
    of_role = {"growth": added > 0, "pruning": added < 0, "reshaping": added <= 0, "control": added == 0}
    assert of_role[action.role].all()


def check_twins(case: Case, action: Action) -> int:
    """How many of its first proposals have a twin."""
    context = case.context()
    pairs = [(proposal, action.twin(context, proposal)) for proposal in action.propose(context)[:4]]
    twins = [(proposal, twin) for proposal, twin in pairs if twin is not None]
    for proposal, twin in twins:
        assert action_of(twin.action) is action
        assert twin.parameters_added == proposal.parameters_added > 0
    return len(twins)


def check_conformance(case: Case, name: str) -> None:
    before = case.network.values.detach().clone()
    for proposal in case.proposals(name):
        edit = action_of(proposal.action).apply(case.network, proposal)
        assert edit.added == proposal.parameters_added
        assert edit.before == case.network.parameter_count
        if ACTIONS[name].preserves_output:
            assert change_of_output(case, edit) <= 1
            assert case.change_in_training(edit) <= 1e-3
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
    source, target = edit.unit_origin[new.source_unit], edit.unit_origin[new.target]
    fresh = np.flatnonzero((source >= 0) & (target >= 0) & ~survives)
    port = old.port_of(source[fresh], new.code_of_port(new.source[fresh]))
    assert not old.has(port, target[fresh]).any()
    origins = edit.origin[edit.origin >= 0]
    assert len(np.unique(origins)) == len(origins)
    values = edit.network.values.detach().double().numpy()[: new.connections]
    for unit in edit.new_units:
        fan_in, fan_out = values[new.target == unit], values[new.source_unit == unit]
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
    now_from = edit.unit_origin[new.source_unit[connections]]
    moved = now_from != old.source_unit[origin]
    assert (now_from[moved] == -1).all()
    assert not moved.any() or np.isin(old.source_unit[origin][moved], proposal.plan["units"]).all()
    if "sides" in proposal.plan:
        return  # positions that are one now are read by what read one of them, and values add up
    assert np.array_equal(new.code_of_port(new.source[connections]), old.code_of_port(old.source[origin]))
    values, before = edit.network.values.detach(), case.network.values.detach()
    changed = survivors[(values[survivors] != before[edit.origin[survivors]]).numpy()]
    came_from = edit.origin[changed]
    plan = proposal.plan
    if proposal.action == "clone":
        assert np.isin(old.source_unit[came_from], plan["units"]).all()
        assert torch.equal(values[changed], before[came_from] / 2)
    elif "passed" in plan:  # what reads a map that is scaled down multiplies by as much
        place = np.searchsorted(plan["units"], old.source_unit[came_from])
        assert np.array_equal(plan["units"][place], old.source_unit[came_from])
        scaled = before[came_from].double().numpy() * np.sqrt(plan["passed"][1] + LEAST_VARIANCE)[place]
        assert values[changed].double().numpy() == pytest.approx(scaled, rel=1e-6)
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
        assert np.isin(old.source_unit[came_from[came_from < old.connections]], plan["reopened"]).all()
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
    """No larger than the largest size, but for one cloned unit, what is idle before a prune, and other sides."""
    if (proposal.action == "clone" and len(edit.new_units) == 1) or "sides" in proposal.plan:
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
    kept, other = edit.network.statistics, again.network.statistics
    assert kept is other is None or (kept is not None and other is not None and torch.equal(kept, other))
    assert np.isfinite(proposal.predicted_gain)
    assert len(proposal.site) < 80
