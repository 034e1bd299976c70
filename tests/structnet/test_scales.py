"""Coarse to fine: pooling, refining the input without changing what is computed, and selling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.training_cases import flat, image_split, skip_network
from hypothesis import given
from hypothesis import strategies as st

from structnet import load_dataset
from structnet.actions.prune import freed_by
from structnet.data.dataset import Split
from structnet.data.preprocessing import preprocess
from structnet.errors import UserError
from structnet.growth.scales import pooled, pooled_images, pooled_split, pruned, refine_input
from structnet.network.edit import disconnect
from structnet.network.network import StructNet
from structnet.network.propagation import flatten
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant
from structnet.training.shrinking import worth
from structnet.training.torch_step import loss_and_gradient

torch.set_num_threads(1)


def fine_images(channels: int, height: int, width: int, images: int = 20) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(images, channels, height, width, generator=random, dtype=torch.float64)


def in_training(network: StructNet, side: int = 4) -> TrainState:
    """A state with moments and ages that tell parameters apart."""
    state = TrainState.fresh(network)
    split = image_split(dtype=torch.float64)
    train_steps(state, pooled_split(split, 4 // side), Recipe(batch_size=10), 7, constant(1e-2))
    state.born = np.arange(network.parameter_count)
    return state


# Pooling


def test_pooling_by_hand() -> None:
    images = torch.tensor([[[[1.0, 3.0, 0.0, 4.0], [5.0, 7.0, 8.0, 0.0]]]])
    assert pooled_images(images).tolist() == [[[[4.0, 3.0]]]]
    assert pooled_images(images, 1) is images


def test_a_dataset_is_pooled_whole_and_says_so() -> None:
    data = load_dataset("digits", standardise=True)
    half = pooled(data)
    assert half.input_shape == (1, 4, 4)
    assert half.input_units == 16
    assert half.train.labels is data.train.labels
    for name in ("train", "validation", "test"):
        assert torch.equal(getattr(half, name).images, pooled_images(getattr(data, name).images))
    quarter = pooled(half)
    assert quarter.preprocessing["pooled"] == 4
    assert torch.allclose(quarter.train.images, pooled(data, 4).train.images, atol=1e-6)
    assert len({data.fingerprint, half.fingerprint, quarter.fingerprint}) == 3
    assert quarter.fingerprint == pooled(data, 4).fingerprint


def test_pooling_and_preprocessing_commute() -> None:
    preprocessing = {"kind": "image", "shape": [2, 4, 4], "offset": [3.0, 1.0], "scale": [2.0, 5.0]}
    raw = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 4)).astype(np.float64)
    small = pooled_images(torch.from_numpy(raw)).numpy()
    there = pooled_images(preprocess(raw, preprocessing))
    assert torch.allclose(preprocess(small, preprocessing), there, atol=1e-5)


def test_what_cannot_be_pooled() -> None:
    with pytest.raises(UserError, match=r"the factor is 3, but must divide .* 4×6"):
        pooled_images(torch.zeros(2, 1, 4, 6), 3)
    with pytest.raises(UserError, match="plain columns"):
        pooled_split(Split(torch.zeros(2, 16), torch.zeros(2, dtype=torch.int64)))


# Refining


def test_refining_by_hand() -> None:
    """Two pixels side by side, 0 and 1; one hidden unit, 2, that sees pixel 1; an output that sees it and pixel 0."""
    topology, _ = Topology.sorted([2, 1, 1], np.array([1, 0, 2]), np.array([2, 3, 3]))
    network = StructNet.from_parts(topology, torch.tensor([4.0, 8.0, 3.0, 0.5, 0.25]))
    assert topology.source.tolist() == [1, 0, 2]
    edit = refine_input(network, 1, 1, 2)
    refined = edit.network.topology
    assert refined.architecture == (8, 1, 1)
    # The fine image is 2 × 4: its left half, 0 1 4 5, is pixel 0 and its right half, 2 3 6 7, pixel 1.
    assert refined.source.tolist() == [2, 3, 6, 7, 0, 1, 4, 5, 8]
    assert refined.target.tolist() == [8] * 4 + [9] * 5
    assert flat(edit.network).tolist() == [1.0] * 4 + [2.0] * 4 + [3.0, 0.5, 0.25]
    assert edit.origin.tolist() == [0] * 4 + [1] * 4 + [2, 3, 4]
    assert edit.unit_origin.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 2, 3]
    assert edit.added == 6


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(0, 10**6))
def test_the_function_of_the_pooled_image_stays(
    channels: int, height: int, width: int, factor: int, rng_seed: int
) -> None:
    rng = np.random.default_rng(rng_seed)
    sizes = [channels * height * width, 4, 3, 2]
    group = np.repeat(np.arange(4), sizes)
    source, target = np.nonzero((group[:, None] < group) & (rng.random((len(group), len(group))) < 0.6))
    topology, _ = Topology.sorted(sizes, source, target)
    network = StructNet.from_parts(topology, torch.from_numpy(rng.standard_normal(topology.parameters)))
    edit = refine_input(network, channels, height, width, factor)
    images = fine_images(channels, height * factor, width * factor)
    expected = network(pooled_images(images, factor))
    assert torch.allclose(edit.network(images), expected, rtol=0, atol=1e-12)
    from_input = int(np.count_nonzero(topology.source < sizes[0]))
    assert edit.added == from_input * (factor**2 - 1)
    assert np.array_equal(np.unique(edit.origin), np.arange(topology.parameters))


def test_the_original_is_left_alone() -> None:
    network = skip_network()
    before = flat(network).clone()
    edit = refine_input(network, 1, 4, 4, 1)
    assert edit.network.topology.source.tolist() == network.topology.source.tolist()
    flat(edit.network).zero_()
    assert torch.equal(flat(network), before)


def test_moments_and_ages_go_to_the_whole_family() -> None:
    state = in_training(skip_network())
    edit = refine_input(state.network, 1, 4, 4)
    refined = state.edited(edit)
    origin = torch.from_numpy(edit.origin)
    assert torch.equal(refined.optimizer.first, state.optimizer.first[origin])
    assert torch.equal(refined.optimizer.second, state.optimizer.second[origin])
    assert refined.born.tolist() == edit.origin.tolist()
    assert refined.step == state.step == 7


def test_a_family_has_its_parents_gradient_on_average() -> None:
    """So parent moments are of the right scale for children, and the second is a lower bound."""
    network = skip_network()
    edit = refine_input(network, 1, 4, 4)
    images, labels = fine_images(1, 8, 8), torch.arange(20) % 3
    coarse, fine = (
        loss_and_gradient(now, flat(now), flatten(seen, torch.float64), labels)[1]
        for now, seen in ((network, pooled_images(images)), (edit.network, images))
    )
    origin = torch.from_numpy(edit.origin)
    size = torch.bincount(origin)
    mean = torch.zeros_like(coarse).index_add_(0, origin, fine) / size
    square = torch.zeros_like(coarse).index_add_(0, origin, fine.square()) / size
    assert torch.allclose(mean, coarse, rtol=0, atol=1e-12)
    assert torch.all(square >= coarse.square() - 1e-12)
    alike = pooled_images(images).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    same = loss_and_gradient(edit.network, flat(edit.network), flatten(alike, torch.float64), labels)[1]
    assert torch.allclose(same, coarse[origin], rtol=0, atol=1e-12)


def test_images_that_do_not_fit_the_network_are_refused() -> None:
    with pytest.raises(UserError, match="1×7×7 refined by 2 do not fit a network of 16 inputs"):
        refine_input(skip_network(), 1, 7, 7)
    with pytest.raises(UserError, match="a factor of at least 1"):
        refine_input(skip_network(), 1, 4, 4, 0)


# Selling


def test_selling_by_magnitude_by_hand() -> None:
    """The weakest, 0→4, takes hidden unit 4 with it: its bias and its way out, three parameters for one sale."""
    topology, _ = Topology.sorted([3, 2, 1], np.array([0, 1, 2, 3, 4]), np.array([4, 3, 3, 5, 5]))
    assert topology.source.tolist() == [1, 2, 0, 3, 4]
    network = StructNet.from_parts(topology, torch.tensor([0.5, -0.4, 0.1, 3.0, 9.0, 1.0, 2.0, 0.0]))
    state = TrainState.fresh(network)
    left = pruned(state, 7, "magnitude")
    assert left.network.architecture == [3, 1, 1]
    assert flat(left.network).tolist() == [0.5, pytest.approx(-0.4), 3.0, 1.0, 18.0]
    assert flat(pruned(state, 5, "magnitude").network).tolist() == flat(left.network).tolist()
    assert flat(pruned(state, 4, "magnitude").network).tolist() == [0.5, 3.0, 1.0, 18.0]
    assert pruned(state, 8) is state


@given(st.integers(4, 120), st.sampled_from(["w²·√v", "magnitude"]), st.integers(0, 100))
def test_no_more_is_sold_than_needed(parameters: int, rule: str, rng_seed: int) -> None:
    state = in_training(skip_network(rng_seed))
    network = state.network
    left = pruned(state, parameters, rule)
    assert left.network.parameter_count <= parameters
    magnitude = np.abs(flat(network).numpy()[: network.connection_count])
    # Without a gradient so far, as behind a dead unit, worths are 0: the magnitude decides among equals.
    order = np.lexsort((magnitude, worth(state) if rule != "magnitude" else magnitude))
    excess = network.parameter_count - parameters
    needed = next(n for n in range(len(order) + 1) if freed_by(network.topology, order[:n]) >= excess)
    expected = network.parameter_count - (freed_by(network.topology, order[:needed]) if excess > 0 else 0)
    assert left.network.parameter_count == expected
    gone = set(range(network.connection_count)) - set(left.born[: left.network.connection_count].tolist())
    assert set(order[:needed].tolist() if excess > 0 else []) <= gone


def test_what_is_refined_and_sold_at_once_loses_whole_families() -> None:
    state = in_training(skip_network())
    edit = refine_input(state.network, 1, 4, 4)
    left = pruned(state.edited(edit), state.network.parameter_count + 40)
    kept = np.bincount(left.born, minlength=state.network.parameter_count)
    family = np.bincount(edit.origin)
    whole = (kept == 0) | (kept == family)
    assert np.count_nonzero(~whole) <= 1 < np.count_nonzero(kept == 0)


def test_what_cannot_be_sold() -> None:
    state = TrainState.fresh(skip_network())
    with pytest.raises(UserError, match="parameters is 3, but must be at least 4"):
        pruned(state, 3)
    with pytest.raises(UserError, match="rule is 'size', but must be one of w²·√v, magnitude"):
        pruned(state, 50, "size")


def test_a_sale_of_what_counts_for_nothing_changes_nothing() -> None:
    network = skip_network()
    idle = np.arange(0, network.connection_count, 8)
    flat(network)[torch.from_numpy(idle)] = 0.0
    state = TrainState.fresh(network)
    images = image_split(dtype=torch.float64).images
    left = pruned(state, network.parameter_count - len(idle), "magnitude")
    assert np.array_equal(left.network.topology.source, disconnect(network, idle).network.topology.source)
    assert torch.allclose(left.network(images), network(images), rtol=0, atol=1e-12)
