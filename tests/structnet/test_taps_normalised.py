"""Feature maps in training: normalised by blocks of images, compiled and by torch, and what is kept of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.compiled_cases import state_of
from helpers.map_networks import random_images, random_map_network
from helpers.map_reference import step_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from structnet import StructNet
from structnet.compiled.normalise import FOLLOWED
from structnet.data.dataset import Split
from structnet.measure.diagnosis import diagnose
from structnet.network.architecture import sizes_of
from structnet.network.block_normalisation import block_width
from structnet.network.normalisation import first_statistics
from structnet.network.state import TrainState
from structnet.training.batches import batch_indices
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant

KERNELS = ["auto", "masked_dense", "sparse_rows"]
every_kernel = pytest.mark.parametrize("kernel", KERNELS)
# Images of a batch -> of each of its blocks.
BLOCKS = {
    1: [1],
    31: [31],
    32: [32],
    33: [17, 16],
    64: [32, 32],
    65: [22, 22, 21],
    100: [25, 25, 25, 25],
}


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def stepped(
    network: StructNet, split: Split, recipe: Recipe, step: int = 0
) -> tuple[TrainState, torch.Tensor, torch.Tensor]:
    """The state after a step, its loss, and its gradient: by plain descent at a rate of 1."""
    state = state_of(network.fork(), oldest=step)
    loss = train_steps(state, split, recipe, 1, constant(1.0))
    return state, loss[0], network.values.detach() - state.network.values.detach()


PLAIN = {"momentum": 0.0}


@every_kernel
def test_a_step_is_that_of_torchs_own_layers(kernel: str) -> None:
    """Convolution, batch normalisation and what it keeps, tanh, and a classifier of all positions."""
    shape = sizes_of("2@5x4,3x3,3@5x4,flat,2")
    network = StructNet(shape, density=1.0, rng_seed=1, activation="tanh", kernel=kernel).to(torch.float64)
    split = random_images(np.random.default_rng(0), shape, 6, torch.float64)
    taps, rest = network.values.detach()[:54], network.values.detach()[54:]
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding="same", bias=False),
        nn.BatchNorm2d(3, momentum=FOLLOWED),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(60, 2),
    ).to(torch.float64)
    with torch.no_grad():
        model[0].weight.copy_(taps.view(3, 2, 3, 3))
        model[4].weight.copy_(rest[:120].view(2, 60))
        model[4].bias.zero_()
    expected = nn.functional.cross_entropy(model(split.images), split.labels)
    expected.backward()

    state, loss, gradient = stepped(network, split, Recipe(6, **PLAIN))
    assert_close(loss, expected.detach(), 1e-12)
    parts = [model[0].weight, model[4].weight, model[1].bias, model[4].bias]
    assert_close(gradient, torch.cat([part.grad.reshape(-1) for part in parts]), 1e-12)
    assert state.network.statistics is not None
    mean, variance = state.network.statistics[:, :3]
    assert_close(mean, model[1].running_mean, 1e-12)
    # Torch keeps the variance of a sample, of 6 · 20 numbers.
    assert_close(variance - 0.9, (model[1].running_var - 0.9) * 119 / 120, 1e-12)


@every_kernel
def test_a_map_of_one_value_is_brought_to_zero(kernel: str) -> None:
    """Its variance is 0, and no derivative passes."""
    shape = sizes_of("1@3,1@3,2")
    network = StructNet(shape, density=1.0, kernel=kernel).to(torch.float64)
    split = Split(torch.zeros(4, 1, 3, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 1]))
    state, loss, gradient = stepped(network, split, Recipe(4, **PLAIN))
    assert float(loss) == pytest.approx(np.log(2))
    assert not gradient[: network.connection_count].any() and torch.isfinite(gradient).all()
    assert state.network.statistics is not None
    assert state.network.statistics[:, 0].tolist() == [0.0, pytest.approx(0.9)]


# --- blocks


@every_kernel
@pytest.mark.parametrize("batch", list(BLOCKS))
@settings(max_examples=4)  # of every batch and kernel
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_a_step_is_normalised_by_blocks(kernel: str, batch: int, rng_seed: int, is_drawn: bool) -> None:
    """Loss, gradient and statistics: each block by its own images, and counted by them."""
    rng = np.random.default_rng(rng_seed)
    drawn = None if is_drawn else sizes_of("1@5x4,2@5x4,3@3x2,2")
    network = random_map_network(rng, drawn, normalised=True, kernel=kernel, dtype=torch.float64)
    shape = network.topology.architecture
    split = random_images(rng, shape, 100, torch.float64)
    state, loss, gradient = stepped(network, split, Recipe(batch, **PLAIN))
    where = batch_indices(100, batch, 0, 0)
    assert block_width(batch) == BLOCKS[batch][0]
    expected_loss, expected, seen = step_of(
        network, split.images[where], split.labels[where], BLOCKS[batch][0]
    )
    assert_close(loss, expected_loss)
    assert_close(gradient, expected)
    assert network.statistics is not None and state.network.statistics is not None
    kept = network.statistics.clone()
    for group, found in seen.items():
        units = network.topology.units_of(group)
        here = slice(units.start - shape[0], units.stop - shape[0])
        kept[:, here] = (1 - FOLLOWED) * kept[:, here] + FOLLOWED * found
    assert_close(state.network.statistics, kept)


@every_kernel
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 33, 100]))
@settings(max_examples=8)
def test_a_step_need_not_normalise(kernel: str, rng_seed: int, batch: int) -> None:
    rng = np.random.default_rng(rng_seed)
    network = random_map_network(rng, normalised=False, kernel=kernel, dtype=torch.float64)
    split = random_images(rng, network.topology.architecture, 100, torch.float64)
    state, loss, gradient = stepped(network, split, Recipe(batch, **PLAIN))
    where = batch_indices(100, batch, 0, 0)
    expected_loss, expected, _ = step_of(network, split.images[where], split.labels[where], batch)
    assert_close(loss, expected_loss)
    assert_close(gradient, expected)
    assert state.network.statistics is None


def test_a_last_block_that_is_smaller_counts_by_its_images() -> None:
    """By hand: 33 images of one pixel that matters, in blocks of 17 and 16."""
    shape = sizes_of("1@2x1,3x3,1@2x1,2")
    network = StructNet(shape, density=1.0).to(torch.float64)
    with torch.no_grad():
        network.values.zero_()
        network.values[4] = 1.0  # the centre of the window
    pixels = torch.arange(66, dtype=torch.float64).view(33, 1, 2, 1)
    split = Split(pixels, torch.zeros(33, dtype=torch.int64))
    state = TrainState.fresh(network)
    train_steps(state, split, Recipe(33), 1, constant(0.0))
    order = pixels[batch_indices(33, 33, 0, 0)]
    first, last = order[:17], order[17:]
    mean = (17 * first.mean() + 16 * last.mean()) / 33
    variance = (17 * first.var(correction=0) + 16 * last.var(correction=0)) / 33
    assert network.statistics is not None
    assert_close(network.statistics[:, 0], torch.stack([0.1 * mean, 0.9 + 0.1 * variance]), 1e-12)


@every_kernel
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=5)
def test_neurons_are_not_normalised(kernel: str, rng_seed: int) -> None:
    rng = np.random.default_rng(rng_seed)
    network = random_map_network(
        rng, sizes_of("1@4,2@2,3,2"), normalised=True, kernel=kernel, dtype=torch.float64
    )
    split = random_images(rng, network.topology.architecture, 50, torch.float64)
    before = network.statistics
    state = state_of(network.fork())
    train_steps(state, split, Recipe(40), 3, constant(1e-2))
    assert before is not None and state.network.statistics is not None
    assert torch.equal(state.network.statistics[:, 2:], before[:, 2:])
    assert not torch.isclose(state.network.statistics[:, :2], before[:, :2]).any()


def test_a_network_begins_with_means_of_0_and_variances_of_1() -> None:
    network = StructNet([1, 2, 2])
    assert network.statistics is None and first_statistics(network.topology) is None
    network = StructNet(sizes_of("1@2,2@2,2"))
    assert network.statistics is not None
    assert network.statistics.tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]


# --- by torch as compiled


@given(st.integers(0, 2**32 - 1), st.sampled_from([7, 40]))
def test_torch_diagnoses_what_compiled_passes_do(rng_seed: int, images: int) -> None:
    rng = np.random.default_rng(rng_seed)
    network = random_map_network(rng, dtype=torch.float64)
    split = random_images(rng, network.topology.architecture, images, torch.float64)
    other = StructNet.from_parts(
        network.topology, network.values.detach(), kernel="masked_dense", statistics=network.statistics
    )
    mine, its = (diagnose(one, split.images, split.labels) for one in (network, other))
    assert mine.loss == pytest.approx(its.loss, rel=1e-10)
    assert_close(its.gradient, mine.gradient)
    for one, another in zip(its.activations, mine.activations):
        assert_close(one, another)
    for found, expected in zip(its.errors, mine.errors):
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert_close(found, expected)
    if network.statistics is None:
        assert mine.statistics is None and its.statistics is None
    else:
        np.testing.assert_allclose(its.statistics, mine.statistics, rtol=1e-10, atol=1e-10)
