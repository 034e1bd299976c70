"""What every growth action must do: one conformance test over the registry, and what is special to each.

A new action is tested by being in the registry.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from structnet.actions import ACTIONS, action_of
from structnet.actions.base import Context, Proposal
from structnet.actions.clone import apply as apply_clone
from structnet.actions.patch import random_twin
from structnet.actions.prune import NEWBORN_STEPS
from structnet.activations import activation_named
from structnet.diagnosis import Diagnosis, diagnose
from structnet.edit import Edit, connect, fold
from structnet.network import StructNet
from structnet.seeds import stream
from structnet.topology import Topology
from structnet.train_state import TrainState
from structnet.training import loss_and_gradient

torch.set_num_threads(1)

SIZES = (4, 9, 20)
PRESERVING = [name for name, action in ACTIONS.items() if action.preserves_output]
EVERY = st.sampled_from(sorted(ACTIONS))


@dataclass(frozen=True)
class Case:
    """A network in training, and the images it was diagnosed on."""

    state: TrainState
    images: torch.Tensor
    labels: torch.Tensor

    @property
    def network(self) -> StructNet:
        return self.state.network

    @property
    def diagnosis(self) -> Diagnosis:
        return diagnose(self.network, self.images, self.labels)

    def context(self, sizes: tuple[int, ...] = SIZES, rate: float = 1e-3) -> Context:
        return Context(self.state, self.diagnosis, sizes, rate, stream(0, "test"))

    def proposals(self, name: str) -> list[Proposal]:
        """What an action proposes, with the random twins of patches; a sample where there are many."""
        context = self.context()
        found = ACTIONS[name].propose(context)
        found = found[:: 1 + len(found) // 12]
        return found + [random_twin(context, proposal) for proposal in found[:3] if name == "patch"]

    def gradient(self, network: StructNet) -> np.ndarray:
        inputs = self.images.to(network.values.dtype).t().contiguous()
        return loss_and_gradient(network, network.values.detach(), inputs, self.labels)[1].double().numpy()


def make(
    architecture: list[int],
    *,
    density: float = 0.5,
    seed: int = 0,
    activation: str = "relu",
    dtype: torch.dtype = torch.float64,
    skips: bool = False,
    bias: float = 0.0,
) -> Case:
    """A random network with random biases around `bias` and an optimizer that has been running for a while."""
    rng = np.random.default_rng(seed)
    network = StructNet(architecture, density=density, rng_seed=seed, activation=activation).to(dtype)
    if skips:
        group = network.topology.group_of(np.arange(network.topology.offsets[-1]))
        source, target = np.nonzero(
            (group[:, None] + 1 < group) & (rng.random((len(group), len(group))) < 0.2)
        )
        network = connect(network, source, target, rng.standard_normal(len(source))).network
    with torch.no_grad():
        noise = torch.from_numpy(bias + 0.5 * rng.standard_normal(network.topology.biases))
        network.values[network.connection_count :] = noise.to(dtype)
    state = TrainState.fresh(network)
    state.optimizer.first.copy_(torch.from_numpy(rng.standard_normal(network.parameter_count) * 1e-3))
    state.optimizer.second.copy_(torch.from_numpy(rng.exponential(1e-6, network.parameter_count)))
    state.optimizer.step = state.step = 500
    state.born = rng.choice([0, 100, 450], network.parameter_count)
    images = rng.random((64, architecture[0])) * (rng.random((64, architecture[0])) > 0.3)
    labels = torch.from_numpy(rng.integers(0, architecture[-1], 64))
    return Case(state, torch.from_numpy(images).to(dtype), labels)


@st.composite
def cases(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)) -> Case:
    hidden = draw(st.lists(st.integers(1, 7), max_size=3))
    return make(
        [draw(st.integers(3, 9)), *hidden, draw(st.integers(2, 4))],
        density=draw(st.sampled_from([0.1, 0.3, 0.6, 1.0])),
        seed=draw(st.integers(0, 10**6)),
        activation=draw(st.sampled_from(["relu", "tanh", "sigmoid"])),
        dtype=draw(st.sampled_from(dtypes)),
        skips=draw(st.booleans()),
        bias=draw(st.sampled_from([-0.5, 0.0, 1.0])),
    )


def change_of_output(case: Case, edit: Edit) -> float:
    """The largest change of a logit, as a share of what is allowed."""
    before, after = case.network(case.images).detach(), edit.network(case.images).detach()
    allowed = 1e-12 if before.dtype == torch.float64 else 1e-6 * (1 + float(before.abs().max()))
    return float((after - before).abs().max()) / allowed


def reopened(case: Case, edit: Edit, proposal: Proposal) -> np.ndarray:
    """Indices, in the new network, of the fan-out of re-opened units."""
    units = proposal.plan.get("reopened", [])
    return np.flatnonzero(np.isin(edit.network.topology.source, units))


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


# --- conformance: every action, every proposal


def test_registry() -> None:
    assert list(ACTIONS) == [
        "patch",
        "widen",
        "insert_layer",
        "clone",
        "prune",
        "rewire",
        "rewire_and_patch",
    ]
    assert all(name == action.name for name, action in ACTIONS.items())
    assert action_of("patch:random") is ACTIONS["patch"]
    assert PRESERVING == ["patch", "widen", "insert_layer", "clone"]


@given(case=cases(), name=EVERY)
@settings(max_examples=120, deadline=None)
def test_conforms(case: Case, name: str) -> None:
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
    elif proposal.action == "prune":
        assert (came_from >= old.connections).all()  # biases that took over a constant
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


@given(case=cases(), name=EVERY)
@settings(max_examples=40, deadline=None)
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
@settings(max_examples=60, deadline=None)
def test_predicted_gain_is_the_gradient_of_what_is_new(case: Case, name: str) -> None:
    for proposal in case.proposals(name):
        edit = action_of(proposal.action).apply(case.network, proposal)
        gradient = case.gradient(edit.network)
        given_a_step = np.union1d(edit.new, reopened(case, edit, proposal))
        expected = 1e-3 * np.abs(gradient[given_a_step]).sum() / np.log(2)
        assert proposal.predicted_gain == pytest.approx(expected, rel=1e-6, abs=1e-15)


@given(case=cases(dtypes=(torch.float64,)), name=st.sampled_from(["patch", "widen", "insert_layer"]))
@settings(max_examples=60, deadline=None)
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
    name=EVERY,
)
@settings(max_examples=60, deadline=None)
def test_everything_new_gets_a_gradient(hidden: list[int], activation: str, seed: int, name: str) -> None:
    # All units fire on nearly all images and reach the output, so nothing is excused.
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
@settings(max_examples=30, deadline=None)
def test_the_same_stream_proposes_the_same(case: Case, name: str) -> None:
    once, again = (ACTIONS[name].propose(case.context()) for _ in range(2))
    assert [(one.site, one.predicted_gain) for one in once] == [
        (one.site, one.predicted_gain) for one in again
    ]
    for one, other in zip(once, again):
        assert all(np.array_equal(one.plan[key], other.plan[key]) for key in one.plan)


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_proposes_something_for_an_ordinary_network(name: str) -> None:
    assert ACTIONS[name].propose(make([12, 8, 4], seed=3).context())


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
@settings(max_examples=30, deadline=None)
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
    best: dict[str, list[float]] = {"random": [], "gradient": []}
    for seed in range(20):
        context = replace(case.context((200,)), rng=stream(seed, "test"))
        for proposal in ACTIONS["widen"].propose(context):
            rule = "random" if "random" in proposal.site else "gradient"
            best[rule].append(proposal.predicted_gain / len(proposal.plan["biases"]))
    assert len(best["gradient"]) == len(best["random"]) == 20
    assert min(best["gradient"]) > np.mean(best["random"])


def test_no_more_leading_directions_than_there_are() -> None:
    case = make([9, 6, 2], density=0.3, seed=2)
    proposals = ACTIONS["widen"].propose(case.context((100,)))
    count = {proposal.site.split(" by ")[1]: len(proposal.plan["biases"]) for proposal in proposals}
    assert count["gradient fan-in"] <= 2 < count["random fan-in"]


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
    assert (edit.network.values.detach()[edit.network.bias_spans[2]] == 0).all()
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
    edit = apply_clone(case.network, proposal)
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


# --- prune, rewire


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
@settings(max_examples=60, deadline=None)
def test_moving_leaves_no_unit_without_a_way(case: Case, name: str) -> None:
    old = case.network.topology
    hidden = slice(int(old.offsets[1]), int(old.offsets[-2]))
    for proposal in ACTIONS[name].propose(case.context()):
        edit = ACTIONS[name].apply(case.network, proposal)
        new = edit.network.topology
        assert edit.freed == proposal.connections_moved >= 1
        assert len(edit.new) == proposal.connections_moved + proposal.parameters_added
        assert (new.fan_in()[old.offsets[1] :][old.fan_in()[old.offsets[1] :] > 0] > 0).all()
        assert (new.fan_out()[hidden][old.fan_out()[hidden] > 0] > 0).all()
        assert (edit.network.values.detach()[edit.new] == 0).all()


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
