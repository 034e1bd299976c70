"""Hierarchical initialisation: the small network inside the larger one, and where what is new goes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.training_cases import flat, image_split, skip_network
from hypothesis import given
from hypothesis import strategies as st

from structnet import StructNet
from structnet.data.dataset import Split
from structnet.errors import UserError
from structnet.experiments.initialisation import random_network
from structnet.growth.hierarchy import hierarchical_edit, hierarchical_network
from structnet.growth.placement import Placement, decisiveness, top, wrong_images
from structnet.measure.diagnosis import diagnose
from structnet.network.edit import Edit, disconnect
from structnet.network.propagation import flatten
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant
from structnet.training.torch_step import loss_and_gradient

torch.set_num_threads(1)

SPLIT = image_split(120, dtype=torch.float64)


def trained(
    architecture: list[int], density: float = 0.5, rng_seed: int = 0, activation: str = "relu"
) -> StructNet:
    """A float64 network that has learned a little of SPLIT."""
    network = StructNet(architecture, density, rng_seed=rng_seed, activation=activation).double()
    network = StructNet.from_parts(network.topology, flat(network), activation=activation)
    train_steps(TrainState.fresh(network), SPLIT, Recipe(batch_size=20), 40, constant(1e-2))
    return network


def gradient_of(network: StructNet, split: Split = SPLIT) -> torch.Tensor:
    inputs = flatten(split.images, torch.float64)
    return loss_and_gradient(network, flat(network), inputs, split.labels)[1]


def leaving(edit: Edit, units: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.isin(edit.network.topology.source, units))


def entering(edit: Edit, units: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.isin(edit.network.topology.target, units))


def new_ends(edit: Edit) -> set[tuple[int, int]]:
    topology, new = edit.network.topology, edit.new_connections
    return set(zip(topology.source[new].tolist(), topology.target[new].tolist()))


def check(small: StructNet, edit: Edit, architecture: list[int], parameters: int) -> None:
    """The shape and size asked for; the small network inside, to the bit; the same function."""
    larger = edit.network
    assert larger.architecture == architecture
    assert larger.parameter_count == parameters
    old = edit.origin >= 0
    assert np.array_equal(np.sort(edit.origin[old]), np.arange(small.parameter_count))
    inside = flat(larger)[torch.from_numpy(old)]
    assert torch.equal(inside, flat(small)[torch.from_numpy(edit.origin[old])])
    connections = old[: larger.connection_count]
    for end in ("source", "target"):
        was = edit.unit_origin[getattr(larger.topology, end)[connections]]
        assert np.array_equal(
            was, getattr(small.topology, end)[edit.origin[: larger.connection_count][connections]]
        )
    assert torch.allclose(larger(SPLIT.images), small(SPLIT.images), rtol=0, atol=1e-12)


@given(
    st.sampled_from([[16, 3], [16, 4, 3], [16, 4, 3, 3]]),
    st.lists(st.integers(0, 6), min_size=2, max_size=2),
    st.floats(0, 1),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.booleans(),
    st.sampled_from(["relu", "tanh", "sigmoid"]),
    st.integers(0, 1000),
)
def test_size_and_function(
    old: list[int],
    wider: list[int],
    size: float,
    failing_share: float,
    at_random: bool,
    activation: str,
    rng_seed: int,
) -> None:
    small = trained(old, 0.5, rng_seed, activation)
    architecture = [old[0], *(units + more for units, more in zip(old[1:-1], wider)), old[-1]]
    new = sum(architecture) - sum(old)
    least = small.parameter_count + 3 * new
    most = sum(a * b for a, b in pairwise(architecture)) + sum(architecture[1:])
    parameters = least + round(size * (most - least))
    placement = Placement(failing_share, at_random=at_random)
    edit = hierarchical_edit(small, architecture, parameters, SPLIT, placement=placement, rng_seed=rng_seed)
    check(small, edit, architecture, parameters)
    topology, units = edit.network.topology, edit.new_units
    assert np.all(topology.fan_in()[units] > 0)
    assert np.all(topology.fan_out()[units] > 0)
    to_old = np.setdiff1d(leaving(edit, units), entering(edit, units))
    assert torch.all(flat(edit.network)[torch.from_numpy(to_old)] == 0)


def test_skip_links_stay_and_grow() -> None:
    small = disconnect(skip_network(), np.arange(0, 150, 2)).network
    edit = hierarchical_edit(small, [16, 9, 6, 3], 250, SPLIT)
    check(small, edit, [16, 9, 6, 3], 250)
    assert set(edit.network.topology.links) == {(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)}


def test_the_trained_state_gives_the_same_network() -> None:
    small = trained([16, 4, 3])
    edit = hierarchical_edit(small, [16, 9, 3], 130, SPLIT, rng_seed=3)
    network = hierarchical_network(TrainState.fresh(small), [16, 9, 3], 130, SPLIT, rng_seed=3)
    assert torch.equal(flat(network), flat(edit.network))
    assert np.array_equal(network.topology.source, edit.network.topology.source)
    other = hierarchical_network(TrainState.fresh(small), [16, 9, 3], 130, SPLIT, rng_seed=4)
    assert not np.array_equal(network.topology.source, other.topology.source)


@pytest.mark.parametrize("failing_share", [0.0, 0.5, 1.0])
def test_what_is_new_gets_a_gradient(failing_share: float) -> None:
    """In the first step the fan-out of every new unit and all that joins old units; in the second the fan-in."""
    small = trained([16, 5, 4, 3])
    edit = hierarchical_edit(small, [16, 9, 7, 3], 180, SPLIT, placement=Placement(failing_share))
    network, topology = edit.network, edit.network.topology
    gradient = gradient_of(network).numpy()
    for unit in edit.new_units:
        if topology.group_of(unit) == 2:
            assert np.any(gradient[leaving(edit, np.array([unit]))] != 0)
    joins_old = np.setdiff1d(
        edit.new_connections, np.union1d(leaving(edit, edit.new_units), entering(edit, edit.new_units))
    )
    assert len(joins_old)
    assert np.all(gradient[joins_old] != 0)
    first = edit.new_units[topology.group_of(edit.new_units) == 1]
    assert np.all(gradient[entering(edit, first)] == 0)
    flat(network).sub_(gradient_of(network), alpha=0.1)
    later = gradient_of(network).numpy()
    for unit in edit.new_units:
        assert np.any(later[entering(edit, np.array([unit]))] != 0)


def test_connections_go_where_it_fails() -> None:
    """Without hidden units and at no extrema: the largest gradients of the dense network on the wrong images."""
    small = trained([16, 3], 0.3)
    wrong = torch.from_numpy(wrong_images(small, SPLIT))
    assert len(wrong) > 3
    edit = hierarchical_edit(
        small, [16, 3], small.parameter_count + 8, SPLIT, placement=Placement(failing_share=1.0)
    )
    weight = torch.zeros(3, 16, dtype=torch.float64)
    there = small.topology.target - 16, small.topology.source
    weight[there] = flat(small)[:-3]
    weight.requires_grad_()
    logits = SPLIT.images[wrong].reshape(-1, 16) @ weight.t() + flat(small)[-3:]
    torch.nn.functional.cross_entropy(logits, SPLIT.labels[wrong]).backward()
    assert weight.grad is not None
    gradient = weight.grad.abs()
    gradient[there] = 0.0
    best = gradient.flatten().topk(8).indices.tolist()
    assert new_ends(edit) == {(cell % 16, 16 + cell // 16) for cell in best}


def test_connections_go_where_decisive_features_are() -> None:
    small = trained([16, 3], 0.3)
    spread = diagnose(small, SPLIT.images, SPLIT.labels).spread
    best = top(decisiveness(small, spread)[:16], 4)
    room = 4 * 3 - small.topology.fan_out()[best].sum()
    placement = Placement(failing_share=0.0, decisive=4)
    edit = hierarchical_edit(small, [16, 3], small.parameter_count + room, SPLIT, placement=placement)
    free = {(int(source), target) for source in best for target in (16, 17, 18)}
    assert new_ends(edit) == free - set(zip(small.topology.source.tolist(), small.topology.target.tolist()))


def test_new_units_look_at_decisive_sources_only() -> None:
    small = trained([16, 4, 3], 0.6)
    spread = diagnose(small, SPLIT.images, SPLIT.labels).spread
    best = top(decisiveness(small, spread)[:16], 5)
    placement = Placement(failing_share=0.0, decisive=5)
    edit = hierarchical_edit(small, [16, 10, 3], small.parameter_count + 6 * 4, SPLIT, placement=placement)
    sources = edit.network.topology.source[entering(edit, edit.new_units)]
    assert len(sources) >= 6
    assert set(sources.tolist()) <= set(best.tolist())


def test_half_of_what_goes_where_it_fails_goes_to_extrema() -> None:
    """Hidden unit 16 is saturated, unit 17 fires on one image only, and both have room."""
    pixels = torch.rand(200, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pixels[0, 15] = 5.0
    split = Split(pixels, torch.arange(1, 201) % 3)
    sizes = [16, 6, 3]
    source = np.concatenate([[0, 15], np.arange(1, 13), np.arange(16, 22)])
    target = np.concatenate([[16, 17], np.repeat([18, 19, 20, 21], 3), np.array([22, 22, 22, 23, 23, 24])])
    topology, _ = Topology.sorted(sizes, source, target)
    values = torch.ones(topology.parameters, dtype=torch.float64)
    biases = values[topology.connections :]
    biases[0], biases[1] = 9.0, -4.0
    small = StructNet.from_parts(topology, values)
    wrong = wrong_images(small, split)
    assert 0 in wrong
    diagnosis = diagnose(small, split.images[wrong], split.labels[wrong])
    assert diagnosis.saturated.tolist() == [16]
    assert diagnosis.dead.tolist() == [17]
    edit = hierarchical_edit(
        small, sizes, small.parameter_count + 24, split, placement=Placement(failing_share=1.0)
    )
    # Out of unit 16 there are two absent connections; all others of the first half enter unit 17.
    at_extrema = {pair for pair in new_ends(edit) if pair[0] == 16 or pair[1] == 17}
    assert {(16, 23), (16, 24)} <= at_extrema
    assert len(at_extrema) >= 12


def test_without_a_wrong_image_decisive_features_decide_alone() -> None:
    small = trained([16, 4, 3])
    right = np.setdiff1d(np.arange(len(SPLIT)), wrong_images(small, SPLIT))
    split = Split(SPLIT.images[right], SPLIT.labels[right])
    one, other = (
        hierarchical_network(
            TrainState.fresh(small), [16, 9, 3], 130, split, placement=Placement(failing_share=share)
        )
        for share in (0.0, 0.9)
    )
    assert torch.equal(flat(one), flat(other))
    assert np.array_equal(one.topology.source, other.topology.source)


def test_a_network_that_has_nothing_to_say_is_grown_at_random() -> None:
    """Weights of 0 have no decisive source and pass no error back; the number is right all the same."""
    small = trained([16, 4, 3])
    flat(small).zero_()
    check(small, hierarchical_edit(small, [16, 9, 3], 150, SPLIT), [16, 9, 3], 150)


def test_decisiveness_by_hand() -> None:
    topology, _ = Topology.sorted([2, 1, 1], np.array([0, 1, 1, 2]), np.array([2, 2, 3, 3]))
    network = StructNet.from_parts(topology, torch.tensor([3.0, -2.0, 1.0, -4.0, 9.0, 9.0]))
    assert topology.source.tolist() == [0, 1, 1, 2]
    spread = np.array([0.5, 2.0, 0.25, 7.0])
    assert decisiveness(network, spread).tolist() == [1.5, 6.0, 1.0, 0.0]


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.5]), max_size=8), st.integers(1, 12))
def test_top_never_gives_more_than_there_is(score: list[float], k: int) -> None:
    best = top(np.array(score), k).tolist()
    assert len(best) == min(k, np.count_nonzero(score))
    assert [score[index] for index in best] == sorted(score, reverse=True)[: len(best)]
    assert len(set(best)) == len(best)


def test_wrong_images_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    small = trained([16, 4, 3])
    expected = (small(SPLIT.images).argmax(1) != SPLIT.labels).nonzero()[:, 0].tolist()
    assert wrong_images(small, SPLIT).tolist() == expected
    monkeypatch.setattr("structnet.growth.placement.BLOCK", 7)
    assert wrong_images(small, SPLIT).tolist() == expected


def test_what_does_not_fit_is_refused() -> None:
    small = trained([16, 4, 3])
    size = small.parameter_count
    for architecture, rule in {
        (16, 3): "must have 3 groups like the small network, 16,4,3",
        (16, 5, 5, 3): "must have 3 groups",
        (16, 3, 3): "hidden groups at least as wide",
        (15, 4, 3): "the inputs and outputs of the small network",
        (16, 4, 4): "the inputs and outputs of the small network",
    }.items():
        with pytest.raises(UserError, match=rule):
            hierarchical_edit(small, architecture, 80, SPLIT)
    with pytest.raises(UserError, match=f"parameters is {size + 5}, but must be {size + 6} to 123"):
        hierarchical_edit(small, [16, 6, 3], size + 5, SPLIT)
    with pytest.raises(UserError, match="parameters is 124"):
        hierarchical_edit(small, [16, 6, 3], 124, SPLIT)
    for wrong in ({"failing_share": 1.1}, {"decisive": 0}, {"images": 0}):
        with pytest.raises(UserError, match=f"{next(iter(wrong))} (is )?"):
            replace(Placement(), **wrong)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.floats(0, 1), st.integers(0, 100))
def test_random_networks_have_the_number_asked_for(
    architecture: list[int], size: float, rng_seed: int
) -> None:
    biases = sum(architecture[1:])
    dense = biases + sum(a * b for a, b in pairwise(architecture))
    parameters = biases + 1 + round(size * (dense - biases - 1))
    network = random_network(architecture, parameters, rng_seed=rng_seed)
    assert network.parameter_count == parameters
    assert network.architecture == architecture
    for wrong in (biases, dense + 1):
        with pytest.raises(UserError, match=f"parameters is {wrong}, but must be {biases + 1} to {dense}"):
            random_network(architecture, wrong)


def test_random_networks_reach_every_unit_where_they_can() -> None:
    topology = random_network([16, 8, 3], 11 + 16).topology
    hidden = topology.units_of(1)
    assert np.all(topology.fan_in()[hidden] > 0)
    assert np.all(topology.fan_out()[hidden] > 0)
    assert random_network([16, 8, 3], 11 + 15).parameter_count == 26
