"""What is special to each growth action on feature maps, on networks where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.map_action_cases import MapCase, by_hand, in_training, make_maps, map_cases
from helpers.map_networks import random_map_network
from hypothesis import given
from hypothesis import strategies as st

from structnet.actions import ACTIONS
from structnet.actions.brain_surgeon import surgeon
from structnet.actions.kernels import absent_kernels, kernel_pairs, kernels_there
from structnet.actions.prune import freed_by
from structnet.compiled.normalise import LEAST_VARIANCE
from structnet.errors import UserError
from structnet.measure.diagnosis import diagnose
from structnet.network.architecture import Architecture, sizes_of
from structnet.network.constant_units import constant_units
from structnet.network.edit import disconnect, fold
from structnet.network.network import StructNet


def taps_of(network: StructNet) -> dict[tuple[int, int, int], float]:
    """By source unit, code of its port, and target unit."""
    topology = network.topology
    code = topology.code_of_port(topology.source).tolist()
    ends = zip(topology.source_unit.tolist(), code, topology.target.tolist())
    return dict(zip(ends, topology.split(network.values.detach())[0].tolist()))


def shifted(maps: torch.Tensor, code: int) -> torch.Tensor:
    """(images, height, width) seen at an offset of a 3 × 3 window, 0 beyond the border."""
    down, right = code // 3 - 1, code % 3 - 1
    high, wide = maps.shape[1:]
    padded = torch.nn.functional.pad(maps, (1, 1, 1, 1))
    return padded[:, 1 + down : 1 + down + high, 1 + right : 1 + right + wide]


# --- insert layer


@pytest.mark.parametrize("normalised", [False, True])
def test_an_inserted_layer_is_depthwise_at_first(normalised: bool) -> None:
    statistics = torch.tensor([[0.2, -0.1, 0.0, 0.0], [0.5, 2.0, 1.0, 1.0]]).double() if normalised else None
    taps = [(0, code, unit, 0.1 * code - 0.3 * unit) for code in range(9) for unit in (1, 2)]
    case = by_hand(
        "1@4,3x3,2@4,2",
        [*taps, *[(unit, 9, out, 1.0 + unit - out) for unit in (1, 2) for out in (3, 4)]],
        statistics=statistics,
        biases=[0.3, 0.1, 0.0, 0.0],
    )
    found = ACTIONS["insert_layer"].propose(case.context((8,)))
    proposal = next(proposal for proposal in found if "identity of 2 units" in proposal.site)
    edit = ACTIONS["insert_layer"].apply(case.network, proposal)
    assert str(edit.network.topology.architecture) == "1@4,3x3,2@4,2@4,2"
    maps = case.diagnosis.activations[1].numpy()
    scale = np.sqrt(maps.var(axis=1) + LEAST_VARIANCE) if normalised else np.ones(2)
    found_taps = taps_of(edit.network)
    assert {tap: value for tap, value in found_taps.items() if tap[2] in (3, 4) and value} == {
        (1, 4, 3): 1.0,
        (2, 4, 4): 1.0,
    }
    assert len([tap for tap in found_taps if tap[2] in (3, 4)]) == 2 + 4
    for unit in (1, 2):
        for out in (3, 4):
            assert found_taps[unit + 2, 9, out + 2] == pytest.approx((1.0 + unit - out) * scale[unit - 1])
    if normalised:
        kept = edit.network.statistics
        assert kept is not None
        assert kept[:, 2:4].numpy() == pytest.approx(np.stack([maps.mean(axis=1), maps.var(axis=1)]))
        biases = edit.network.topology.split(edit.network.values.detach())[1][2:4].numpy()
        assert biases == pytest.approx(maps.mean(axis=1) / scale)
    seen = diagnose(edit.network, case.images, case.labels).activations
    assert seen[2].numpy() * scale[:, None] == pytest.approx(seen[1].numpy(), abs=1e-12)


# --- widen, vertical clone


@pytest.mark.parametrize("normalised", [False, True])
def test_a_new_map_is_what_its_taps_say(normalised: bool) -> None:
    case = make_maps(2, sizes_of("2@6,3x3,2@6,3"), normalised=normalised, share=0.5)
    proposals = ACTIONS["widen"].propose(case.context((12,)))
    plan = next(proposal.plan for proposal in proposals if "random" in proposal.site)
    images = case.images.double()
    topology = case.network.topology
    for unit in range(len(plan["biases"])):
        mine = plan["source_unit"] == unit
        port, value = plan["source"][mine], plan["value"][mine]
        ends = zip(topology.unit_of_port(port).tolist(), topology.code_of_port(port).tolist(), value)
        state = sum(weight * shifted(images[:, source], code) for source, code, weight in ends)
        assert isinstance(state, torch.Tensor)
        if normalised:
            expected = [float(state.mean()), float(state.var(correction=0))]
            assert plan["statistics"][:, unit] == pytest.approx(expected)
            state = (state - expected[0]) / np.sqrt(expected[1] + LEAST_VARIANCE)
        share = float((state + plan["biases"][unit] > 1e-12).double().mean())
        assert share == pytest.approx(0.5, abs=0.01)
        grown = ACTIONS["widen"].apply(case.network, next(p for p in proposals if p.plan is plan)).network
        seen = diagnose(grown, case.images, case.labels).activations[1][2 + unit].view(6, 6, -1)
        assert seen.permute(2, 0, 1).numpy() == pytest.approx((state + plan["biases"][unit]).relu().numpy())


def test_a_map_is_copied_upwards_as_far_as_it_can_be_seen() -> None:
    case = make_maps(3, sizes_of("1@7,3x3,2@7,2@4,3,2"), normalised=True, share=0.6, bias=0.5)
    proposals = ACTIONS["clone_vertical"].propose(case.context((6,)))
    by_group = {proposal.plan["group"]: proposal for proposal in proposals}
    for group, code in ((2, 4), (3, 9)):
        proposal = by_group[group]
        edit = ACTIONS["clone_vertical"].apply(case.network, proposal)
        topology, copy = edit.network.topology, int(edit.new_units[0])
        (tap,) = [tap for tap in taps_of(edit.network) if tap[2] == copy]
        assert tap[1] == code
        gradient = np.abs(case.gradient(edit.network)[edit.new]).sum()
        assert proposal.predicted_gain == pytest.approx(1e-3 * gradient / np.log(2))
        seen = diagnose(edit.network, case.images, case.labels).activations
        of_unit = seen[group - 1][tap[0] - topology.offsets[group - 1]]
        of_copy = seen[group][copy - topology.offsets[group]]
        if group == 2:  # every second row and column of 7 × 7, and its deviation is 1
            picked = of_unit.view(7, 7, -1)[::2, ::2].reshape(-1)
            assert of_copy.numpy() == pytest.approx((picked / picked.std(correction=0)).numpy(), rel=1e-4)
        else:
            assert of_copy.numpy() == pytest.approx(of_unit.view(16, -1).mean(dim=0).numpy())


def test_a_constant_map_is_not_copied_upwards() -> None:
    """It would be divided by next to nothing."""
    taps = [(0, 4, 1, 1.0), (1, 4, 3, 1.0), (2, 4, 3, 1.0), (2, 4, 4, 1.0), (1, 4, 4, -1.0)]
    taps += [(3, 9, 5, 1.0), (4, 9, 6, 1.0)]
    biases = [0.1, 0.5, 0.1, 0.1, 0.0, 0.0]  # nothing leads to the second map of the first hidden group
    case = by_hand("1@6,3x3,2@6,2@6,2", taps, biases=biases, statistics=torch.ones(2, 6, dtype=torch.float64))
    proposals = ACTIONS["clone_vertical"].propose(case.context((4, 40)))
    copied = [case.network.topology.unit_of_port(proposal.plan["source"]) for proposal in proposals]
    assert np.unique(np.concatenate(copied)).tolist() == [1]


# --- patch


def test_whole_kernels_come_where_their_gradient_is_largest() -> None:
    case = make_maps(1, sizes_of("2@5,3x3,3@5,2@3,3"), normalised=True, share=0.25)
    topology, diagnosis = case.network.topology, case.diagnosis
    there = taps_of(case.network)
    norms = {}
    for unit in range(2):
        for target in range(2, 5):
            missing = [code for code in range(9) if (unit, code, target) not in there]
            if len(missing) < 7:
                continue
            source = diagnosis.activations[0][unit].view(5, 5, -1).permute(2, 0, 1)
            errors = diagnosis.errors[1]
            assert errors is not None
            error = errors[target - 2].view(5, 5, -1).permute(2, 0, 1)
            gradient = np.array([float((error * shifted(source, code)).sum()) for code in missing])
            norms[unit, target] = (np.linalg.norm(gradient), missing)
    assert len(norms) > 1
    best = max(norms, key=lambda kernel: norms[kernel][0])
    sites = {proposal.site: proposal for proposal in ACTIONS["patch"].propose(case.context((3, 9, 40)))}
    proposal = sites["link 0→1: 1 kernels by gradient"]
    assert topology.unit_of_port(proposal.plan["source"]).tolist() == [best[0]] * len(norms[best][1])
    assert topology.code_of_port(proposal.plan["source"]).tolist() == norms[best][1]
    assert set(proposal.plan["target"].tolist()) == {best[1]}
    assert proposal.parameters_added == len(norms[best][1]) <= 9


def test_the_twin_of_kernels_is_of_kernels() -> None:
    case = make_maps(1, sizes_of("2@5,3x3,4@5,3@3,3"), normalised=True, share=0.1)
    topology, there = case.network.topology, taps_of(case.network)
    found = ACTIONS["patch"].propose(case.context((40,)))
    (proposal,) = [found for found in found if "kernels" in found.plan and found.site.startswith("all links")]
    assert proposal.plan["kernels"] > 2
    twin = ACTIONS["patch"].twin(case.context(), proposal)
    assert twin is not None
    ends = zip(topology.unit_of_port(twin.plan["source"]).tolist(), twin.plan["target"].tolist())
    taps_drawn: dict[tuple[int, int], int] = {}
    for kernel in ends:
        taps_drawn[kernel] = taps_drawn.get(kernel, 0) + 1
    missing = {
        kernel: 9 - sum((kernel[0], code, kernel[1]) in there for code in range(9)) for kernel in taps_drawn
    }
    assert min(missing.values()) >= 7
    # Whole ones, but for the last of each link.
    links = kernel_pairs(topology, list(topology.links))
    assert sum(taps_drawn[kernel] < missing[kernel] for kernel in taps_drawn) <= len(links)


def test_without_a_window_there_are_no_kernels() -> None:
    shape = Architecture([2, 3, 2], [(4, 4), (4, 4), (1, 1)], window=1)
    case = make_maps(0, shape, share=0.4)
    assert kernels_there(case.network.topology) == []
    found = [
        proposal
        for name in ("patch", "prune", "rewire")
        for proposal in ACTIONS[name].propose(case.context())
    ]
    assert found
    assert not any("kernel" in proposal.site for proposal in found)


# --- clone


def test_a_cloned_map_halves_what_both_say() -> None:
    statistics = torch.tensor([[0.2, -0.1, 0.0, 0.0], [0.5, 2.0, 1.0, 1.0]]).double()
    case = by_hand(
        "1@4,3x3,2@4,2",
        [(0, 4, 1, 2.0), (0, 5, 1, 1.0), (0, 1, 2, 1.0), (1, 9, 3, 6.0), (2, 9, 4, 4.0), (1, 9, 4, -2.0)],
        statistics=statistics,
    )
    proposal = next(found for found in ACTIONS["clone"].propose(case.context()) if "unit 1 " in found.site)
    edit = ACTIONS["clone"].apply(case.network, proposal)
    assert edit.new_units.tolist() == [3]
    taps = taps_of(edit.network)
    assert sorted(tap[2] for tap, value in taps.items() if not value) == [1, 3]
    assert {tap: value for tap, value in taps.items() if value} == {
        (0, 4, 1): 2.0,
        (0, 5, 1): 1.0,
        (0, 4, 3): 2.0,
        (0, 5, 3): 1.0,
        (0, 1, 2): 1.0,
        (1, 9, 4): 3.0,
        (3, 9, 4): 3.0,
        (1, 9, 5): -1.0,
        (3, 9, 5): -1.0,
        (2, 9, 5): 4.0,
    }
    kept = edit.network.statistics
    assert kept is not None
    assert torch.equal(kept[:, [0, 2]], statistics[:, [0, 0]])


# --- halve


def test_what_positions_read_when_their_maps_are_halved() -> None:
    # Group 1 copies the input one to the right, group 2 copies group 1, and outputs read positions of group 2.
    first = 9 + 1
    positions = [(2, first + place, 3, value) for place, value in ((0, 1.0), (1, 2.0), (6, 4.0), (15, 8.0))]
    case = by_hand("1@4,3x3,1@4,1@4,flat,2", [(0, 5, 1, 1.0), (1, 4, 2, 1.0), *positions, (2, 9, 4, 1.0)])
    found = {proposal.site: proposal for proposal in ACTIONS["halve"].propose(case.context())}
    assert list(found) == [f"group {group}: maps of 2 × 2 instead of 4 × 4" for group in (1, 2)]
    both, second = (ACTIONS["halve"].apply(case.network, proposal) for proposal in found.values())
    assert str(both.network.topology.architecture) == "1@4,3x3,1@2,1@2,flat,2"
    assert str(second.network.topology.architecture) == "1@4,3x3,1@4,1@2,flat,2"
    for edit, proposal in zip((both, second), found.values()):
        assert edit.added == proposal.parameters_added == -1
        # Positions 0 and 1 are both in the new position 0; 6 is in row 1, column 2: the new 1; 15 is the new 3.
        taps = taps_of(edit.network)
        assert {tap[1] - first: taps[tap] for tap in taps if tap[2] == 3} == {0: 3.0, 1: 4.0, 3: 8.0}
        assert proposal.predicted_gain < 0
    pixels = case.images[:, 0].numpy()
    # Stride 2 from row and column 0 on; one to the right of these.
    seen = diagnose(both.network, case.images, case.labels).activations
    assert seen[1].view(2, 2, -1).permute(2, 0, 1).numpy() == pytest.approx(pixels[:, ::2, 1::2])
    # Of group 1, which sees beyond the border at the right, every second position.
    shifted_in = np.pad(pixels[:, :, 1:], ((0, 0), (0, 0), (0, 1)))
    seen = diagnose(second.network, case.images, case.labels).activations
    assert seen[2].view(2, 2, -1).permute(2, 0, 1).numpy() == pytest.approx(shifted_in[:, ::2, ::2])


@given(case=map_cases(dtypes=(torch.float64,)))
def test_halved_networks_have_the_statistics_of_training(case: MapCase) -> None:
    shape = case.network.topology.architecture
    for proposal in ACTIONS["halve"].propose(case.context()):
        edit = ACTIONS["halve"].apply(case.network, proposal)
        after = edit.network.topology.architecture
        assert list(after) == list(shape)
        assert after.flat == shape.flat
        for before, now in zip(shape.sides, after.sides):
            assert now <= before
            assert (now == (1, 1)) == (before == (1, 1))
        if edit.network.statistics is not None:
            in_use, in_training_ = (
                edit.network(case.images).detach().t(),
                case.logits_in_training(edit.network),
            )
            assert torch.allclose(in_use, in_training_, rtol=1e-9, atol=1e-9)


def test_what_cannot_be_halved_is_left() -> None:
    for shape in ("1@4,2@2,3", "1@4,2@3x2,1@1x2,3", "1@4,2,3"):
        assert ACTIONS["halve"].propose(make_maps(0, sizes_of(shape)).context()) == []
    (proposal,) = ACTIONS["halve"].propose(make_maps(0, sizes_of("1@9,2@9x5,1@3x5,3")).context())[:1]
    assert proposal.plan["sides"].tolist() == [[9, 9], [5, 3], [3, 3], [1, 1]]


# --- prune, rewire


def test_kernels_and_maps_of_least_worth_are_pruned() -> None:
    taps = [(0, code, 1, 1.0) for code in (0, 4, 8)] + [(0, code, 2, 0.1) for code in (3, 4)]
    case = by_hand("1@4,3x3,3@4,2", [*taps, (0, 4, 3, 5.0), (1, 9, 4, 4.0), (2, 9, 4, 3.0), (3, 9, 5, 0.01)])
    case.state.born[:] = 0
    case.state.optimizer.second[:] = 1.0
    found = {proposal.site: proposal for proposal in ACTIONS["prune"].propose(case.context((2, 4)))}
    kernel = found["all links: 1 kernels by w²·√v"]
    names = list(taps_of(case.network))
    assert [names[index] for index in kernel.plan["connections"]] == [(0, 3, 2), (0, 4, 2)]
    # Map 2 has no way in then: 2 taps, its way out and its bias.
    assert kernel.parameters_added == -4
    whole = found["all links: 1 maps by w²·√v"]
    assert [names[index] for index in whole.plan["connections"]] == [(0, 3, 2), (0, 4, 2), (2, 9, 4)]
    assert whole.parameters_added == -4
    edit = ACTIONS["prune"].apply(case.network, whole)
    assert str(edit.network.topology.architecture) == "1@4,3x3,2@4,2"
    # With a newborn among its taps a kernel is spared.
    case.state.born[names.index((0, 4, 2))] = case.state.step
    found = {proposal.site: proposal for proposal in ACTIONS["prune"].propose(case.context((5,)))}
    kernel = found["all links: 1 kernels by w²·√v"]
    assert [names[index] for index in kernel.plan["connections"]] == [(0, 0, 1), (0, 4, 1), (0, 8, 1)]


@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_what_pruning_frees_is_what_folding_leaves(seed: int, share: float) -> None:
    """Maps that nothing enters any more stay where they are not 0 and other maps see where they end."""
    rng = np.random.default_rng(seed)
    network = random_map_network(rng, dtype=torch.float64)
    gone = np.flatnonzero(rng.random(network.connection_count) < share)
    without = disconnect(network, gone).network
    edit = fold(without)
    freed = network.parameter_count - edit.network.parameter_count
    assert freed_by(network.topology, gone, constant_units(network)) == freed
    images = torch.from_numpy(rng.random((8, network.topology.architecture.inputs)))
    assert torch.allclose(edit.network(images), without(images), rtol=1e-10, atol=1e-10)


def test_a_kernel_moves_as_a_whole() -> None:
    case = make_maps(6, sizes_of("2@5,4@5,3@5,3"), normalised=True, share=0.2)
    case.state.born[:] = 0
    found = [proposal for proposal in ACTIONS["rewire"].propose(case.context()) if "kernel" in proposal.site]
    (proposal,) = found
    topology, plan = case.network.topology, proposal.plan
    kernels = [set(kernel.tolist()) for kernel in kernels_there(topology)]
    leaving = set(plan["connections"].tolist())
    assert all(kernel <= leaving or not kernel & leaving for kernel in kernels)
    assert proposal.connections_moved == len(leaving) == len(plan["source"])
    wanted = absent_kernels(case.diagnosis, [(0, 1), (1, 2)], len(leaving))
    assert np.array_equal(wanted.source[: len(leaving)], plan["source"])
    assert ACTIONS["rewire"].apply(case.network, proposal).added == 0


def test_the_brain_surgeon_leaves_maps_alone() -> None:
    case = make_maps(0, sizes_of("1@4,2@4,3"))
    assert not any("surgeon" in proposal.site for proposal in ACTIONS["prune"].propose(case.context()))
    with pytest.raises(UserError, match="without feature maps"):
        surgeon(case.network, case.diagnosis)


# --- dead maps


@pytest.mark.parametrize("normalised", [False, True])
def test_a_dead_map_is_reopened(normalised: bool) -> None:
    case = make_maps(5, sizes_of("2@6,3@6,3@3,3"), normalised=normalised, share=0.5, bias=0.5)
    unit = 3
    with torch.no_grad():
        case.network.values[case.network.topology.bias_of(np.array([unit]))] = -60.0
    assert case.context().silent[unit]
    found = ACTIONS["patch"].propose(case.context())
    found = [proposal for proposal in found if proposal.site.startswith(f"dead unit {unit} of group 1")]
    assert found
    for proposal in found:
        edit = ACTIONS["patch"].apply(case.network, proposal)
        after = diagnose(edit.network, case.images, case.labels)
        assert 0.1 <= after.firing_rate[unit] <= 0.9
        if normalised:
            assert after.statistics is not None
            assert edit.network.statistics is not None
            place = unit - 2
            kept = edit.network.statistics[:, place].numpy()
            assert after.statistics[:, place] == pytest.approx(kept, rel=1e-9)
        fan_out = np.flatnonzero(edit.network.topology.source_unit == unit)
        assert (edit.network.values.detach()[fan_out] == 0).all()
        assert proposal.predicted_gain > 0


def test_skips_of_maps_reach_every_later_group() -> None:
    network = make_maps(1, sizes_of("2@6,3@6,2@3,flat,4,3"), share=0.5).network
    topology = network.topology
    source, target = topology.group_of(topology.source_unit), topology.group_of(topology.target)
    case = in_training(
        disconnect(network, np.flatnonzero(target - source > 1)).network, np.random.default_rng(0)
    )
    sites = {proposal.site.split(":")[0] for proposal in ACTIONS["skip"].propose(case.context((6,)))}
    pairs = ((0, 2), (0, 3), (0, 4), (1, 3), (1, 4), (2, 4))
    assert sites == {f"new link {start}→{end}" for start, end in pairs} | {"all new links"}
