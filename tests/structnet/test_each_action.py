"""What is special to each growth action, on networks where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.action_cases import Case, cases, change_of_output, make, reopened
from hypothesis import given

from structnet.actions import ACTIONS, new_units
from structnet.actions.patch import random_twin
from structnet.measure.diagnosis import diagnose
from structnet.seeds import stream

# --- patch


def test_patch_measures_what_it_predicts() -> None:
    case = make([12, 8, 4], density=0.4, seed=1, activation="tanh")
    rate = 1e-5
    for proposal in ACTIONS["patch"].propose(case.context(rate=rate)):
        edit = ACTIONS["patch"].apply(case.network, proposal)
        step = torch.zeros_like(edit.network.values)
        step[edit.new] = -rate * torch.from_numpy(case.gradient(edit.network)).sign()[edit.new]
        edit.network.values.data += step
        before, after = (
            float(torch.nn.functional.cross_entropy(network(case.images).detach(), case.labels))
            for network in (case.network, edit.network)
        )
        assert (before - after) / np.log(2) == pytest.approx(proposal.predicted_gain, rel=0.01)


def test_patch_takes_the_largest_gradients() -> None:
    case = make([12, 8, 4], density=0.4, seed=1, activation="tanh")
    proposals = {proposal.site: proposal for proposal in ACTIONS["patch"].propose(case.context())}
    source, target, _ = case.diagnosis.absent(0, 1, 9)
    assert proposals["link 0→1: 9 by gradient"].plan["source"].tolist() == source.tolist()
    assert proposals["link 0→1: 9 by gradient"].plan["target"].tolist() == target.tolist()
    gains = {site: proposal.predicted_gain for site, proposal in proposals.items()}
    assert gains["all links: 9 by gradient"] >= gains["link 0→1: 9 by gradient"]
    assert gains["all links: 9 by gradient"] >= gains["link 1→2: 9 by gradient"]


def one_dead_unit(activation: str = "relu", bias: float = -50.0) -> Case:
    """Hidden units 6 … 10, of which 8 never fires."""
    case = make([6, 5, 3], density=0.5, seed=4, activation=activation, bias=1.0)
    with torch.no_grad():
        case.network.values[case.network.connection_count + 2] = bias
    assert 8 in case.diagnosis.dead
    return case


def test_a_dead_unit_is_reopened() -> None:
    case = one_dead_unit()
    proposals = ACTIONS["patch"].propose(case.context())
    found = [proposal for proposal in proposals if proposal.site.startswith("dead unit 8 of group 1")]
    assert found
    for proposal in found:
        assert (proposal.plan["target"] == 8).all()
        assert float(np.sum(proposal.plan["value"] ** 2)) == pytest.approx(2)
        edit = ACTIONS["patch"].apply(case.network, proposal)
        assert torch.equal(edit.network(case.images), case.network(case.images))
        after = diagnose(edit.network, case.images, case.labels)
        assert 0.1 <= after.firing_rate[8] <= 0.9
        fan_out = reopened(case, edit, proposal)
        assert len(fan_out) > 0
        assert (after.gradient[fan_out] != 0).all()
        assert proposal.predicted_gain > 0


def test_a_dead_unit_with_a_gradient_keeps_its_fan_out() -> None:
    case = one_dead_unit("sigmoid")
    proposals = ACTIONS["patch"].propose(case.context())
    found = [proposal for proposal in proposals if proposal.site.startswith("dead unit 8 of group 1")]
    assert [sorted(proposal.plan) for proposal in found] == [["source", "target"]]


def test_a_saturated_unit_gets_outputs() -> None:
    case = make([6, 7, 8], density=0.4, seed=4, bias=1.0)
    with torch.no_grad():
        case.network.values[case.network.connection_count + 2] = 500.0
    assert case.diagnosis.saturated.tolist() == [8]
    proposals = ACTIONS["patch"].propose(case.context())
    found = [proposal for proposal in proposals if proposal.site.startswith("saturated unit 8 of group 1")]
    assert len(found) == 1
    assert (found[0].plan["source"] == 8).all()
    assert len(found[0].plan["target"]) > 0


@given(case=cases())
def test_a_twin_differs_in_placement_only(case: Case) -> None:
    context, topology = case.context(), case.network.topology
    for proposal in ACTIONS["patch"].propose(context)[:8]:
        twin = random_twin(context, proposal)
        assert twin.action == "patch:random"
        assert twin.parameters_added == proposal.parameters_added
        links = [
            sorted(zip(topology.group_of(plan["source"]), topology.group_of(plan["target"])))
            for plan in (proposal.plan, twin.plan)
        ]
        assert links[0] == links[1]
        assert not topology.has(twin.plan["source"], twin.plan["target"]).any()


def test_a_twin_is_uniform() -> None:
    case = make([4, 5], density=0.4, seed=0)
    context = case.context((3,))
    proposal = ACTIONS["patch"].propose(context)[0]
    hits = np.zeros((9, 9))
    for _ in range(800):
        twin = random_twin(context, proposal)
        np.add.at(hits, (twin.plan["source"], twin.plan["target"]), 1)
    assert np.count_nonzero(hits) == 12  # of 20 cells 8 exist
    # 200 each are expected; the spread of one cell is √(800 · ¼ · ¾) = 12.2.
    assert np.abs(hits[hits > 0] - 200).max() < 5 * 12.2


# --- widen, insert layer


def test_new_units_fire_and_their_fan_in_has_the_spread_of_the_first() -> None:
    case = make([30, 10, 4], density=0.3, seed=2)
    for proposal in ACTIONS["widen"].propose(case.context((30, 200))):
        edit = ACTIONS["widen"].apply(case.network, proposal)
        after = diagnose(edit.network, case.images, case.labels)
        assert (after.firing_rate[edit.new_units] > 0.1).all()
        assert (after.firing_rate[edit.new_units] < 0.9).all()
        topology, values = edit.network.topology, edit.network.values.detach()
        for unit in edit.new_units:
            power = float(values[: topology.connections][topology.target == unit].square().sum())
            assert 0.2 < power < 8 if "random" in proposal.site else power == pytest.approx(2)


def test_leading_directions_get_more_gradient_than_random_ones() -> None:
    case = make([30, 10, 4], density=0.3, seed=2, activation="tanh")
    best: dict[str, list[float]] = {"random": [], "gradient": [], "gradmax": []}
    for seed in range(20):
        context = replace(case.context((200,)), rng=stream(seed, "test"))
        for proposal in ACTIONS["widen"].propose(context):
            rule = proposal.site.split()[-2]
            best[rule].append(proposal.predicted_gain / len(proposal.plan["biases"]))
    assert {rule: len(gains) for rule, gains in best.items()} == dict.fromkeys(best, 20)
    assert min(best["gradient"]) > np.mean(best["random"])
    assert min(best["gradmax"]) > np.mean(best["gradient"])


def test_no_more_leading_directions_than_there_are() -> None:
    case = make([9, 6, 2], density=0.3, seed=2)
    proposals = ACTIONS["widen"].propose(case.context((100,)))
    count = {proposal.site.split(" by ")[1]: len(proposal.plan["biases"]) for proposal in proposals}
    assert max(count["gradient fan-in"], count["gradmax fan-in"]) <= 2 < count["random fan-in"]


@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (6, 6)])
def test_what_is_left_of_null_directions_is_no_direction(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a matrix of rank 2 with singular values 3 and 1e-3, whichever of its Gram matrices is the smaller."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((size, 2)))[0] for size in shape)
    matrix = torch.from_numpy(left @ np.diag([3.0, 1e-3]) @ right.T)
    monkeypatch.setattr(new_units, "_covariance", lambda *_: matrix)
    found = new_units._directions(make([5, 4, 3]).context(), [0], [2])
    assert np.abs(found @ right) == pytest.approx(np.eye(2), abs=1e-6)


def test_the_identity_hands_its_connections_over() -> None:
    case = make([5, 4, 3], density=1.0, seed=1, bias=1.0)
    proposals = ACTIONS["insert_layer"].propose(case.context((16,)))
    proposal = next(proposal for proposal in proposals if "identity" in proposal.site)
    edit = ACTIONS["insert_layer"].apply(case.network, proposal)
    assert edit.network.architecture == [5, 4, 4, 3]
    assert set(edit.network.topology.links) == {(0, 1), (1, 2), (2, 3)}
    links = edit.network.links
    identity = links[1, 2].dense(edit.network.values.detach()[links[1, 2].span])
    assert torch.equal(identity, torch.eye(4, dtype=torch.float64))
    assert (edit.network.values.detach()[edit.network.topology.bias_spans[2]] == 0).all()
    assert links[1, 2].connections == 4 + 8
    kept = edit.network.values.detach()[links[2, 3].span]
    assert torch.equal(kept, case.network.values.detach()[case.network.links[1, 2].span])


def test_only_idempotent_activations_get_an_identity() -> None:
    for activation in ("tanh", "sigmoid"):
        proposals = ACTIONS["insert_layer"].propose(make([5, 4, 3], activation=activation).context())
        assert proposals
        assert not any("identity" in proposal.site for proposal in proposals)


def test_without_hidden_groups_a_path_beside_the_link() -> None:
    case = make([5, 3], density=1.0)
    proposals = ACTIONS["insert_layer"].propose(case.context())
    assert proposals
    edit = ACTIONS["insert_layer"].apply(case.network, proposals[0])
    assert set(edit.network.topology.links) == {(0, 1), (0, 2), (1, 2)}
    assert ACTIONS["widen"].propose(case.context()) == ACTIONS["clone"].propose(case.context()) == []


# --- clone


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_copies_part(activation: str) -> None:
    case = make([8, 6, 3], density=0.5, seed=5, activation=activation, bias=0.5)
    proposal = ACTIONS["clone"].propose(case.context())[0]
    edit = ACTIONS["clone"].apply(case.network, proposal)
    assert change_of_output(case, edit) <= 1
    assert proposal.plan["own_by_copy"].tolist() == [True, False]
    assert len(set(proposal.plan["own_source"])) == 2
    state = case.state.edited(edit)
    unit, copy = int(edit.number_now(proposal.plan["units"])[0]), int(edit.new_units[0])
    # From equal moments: what parts them must be their own connections, not the copy's younger optimizer.
    state.optimizer = type(state.optimizer).for_values(state.network.values.detach())
    for _ in range(100):
        gradient = torch.from_numpy(case.gradient(state.network))
        state.optimizer.update(state.network.values.detach(), gradient, 1e-3)
    after = diagnose(state.network, case.images, case.labels)
    one, other = (after.activations[1][number - 8] for number in (unit, copy))
    assert float((one - other).abs().max()) > 0.001


def test_saturated_units_are_copied_first() -> None:
    case = make([6, 7, 8], density=0.6, seed=4, bias=1.0)
    assert all(proposal.site.startswith("strongest") for proposal in ACTIONS["clone"].propose(case.context()))
    with torch.no_grad():
        case.network.values[case.network.connection_count + 2] = 500.0
    proposals = ACTIONS["clone"].propose(case.context())
    assert [proposal.site for proposal in proposals] == ["saturated unit 8 of group 1"]


def test_a_unit_with_every_input_has_nothing_to_part_its_copies() -> None:
    assert ACTIONS["clone"].propose(make([6, 4, 3], density=1.0).context()) == []
