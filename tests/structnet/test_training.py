"""Training: batches and noise by step alone, exact gradients, and a `fit` that keeps its promises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers.training_cases import flat, image_split, skip_network
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from structnet import StructNet
from structnet.data.dataset import Split
from structnet.errors import UserError
from structnet.network.edit import connect
from structnet.network.propagation import flatten, propagate
from structnet.network.state import TrainState
from structnet.training.batches import batch_indices, steps_per_epoch, training_batch
from structnet.training.evaluation import chance_accuracy, evaluate
from structnet.training.loop import Diverged, train_steps
from structnet.training.rates import AgeRates
from structnet.training.recipe import Recipe
from structnet.training.schedules import SCHEDULES, constant, cosine, linear
from structnet.training.torch_step import loss_and_gradient

# --- batches and noise


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_sees_no_image_twice(images: int, batch_size: int, rng_seed: int, epoch: int) -> None:
    per_epoch = steps_per_epoch(images, batch_size)
    steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
    batches = [batch_indices(images, batch_size, rng_seed, step) for step in steps]
    assert all(len(batch) == min(batch_size, images) for batch in batches)
    seen = np.concatenate(batches)
    assert len(np.unique(seen)) == len(seen)
    assert set(seen.tolist()) <= set(range(images))
    assert images - len(seen) < batch_size


def test_an_epoch_that_batches_fill_is_a_permutation_and_the_next_another() -> None:
    epochs = [
        np.concatenate([batch_indices(40, 8, 7, step) for step in range(start, start + 5)])
        for start in (0, 5, 10)
    ]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(40))
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 3


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    forwards = [batch_indices(50, 8, 1, step).tolist() for step in range(100)]
    for step in np.random.default_rng(0).permutation(100):  # more epochs than are kept in memory
        assert batch_indices(50, 8, 1, int(step)).tolist() == forwards[step]
    assert batch_indices(50, 8, 2, 0).tolist() != forwards[0]


def test_data_smaller_than_a_batch_is_one_batch() -> None:
    assert steps_per_epoch(5, 128) == 1
    for step in range(4):
        assert sorted(batch_indices(5, 128, 0, step).tolist()) == [0, 1, 2, 3, 4]


def test_a_plain_batch_is_the_images_themselves() -> None:
    split = image_split()
    inputs, labels = training_batch(split, Recipe(batch_size=7, rng_seed=3), 4)
    where = batch_indices(60, 7, 3, 4)
    assert torch.equal(inputs, split.images[where].reshape(7, 16).t())
    assert torch.equal(labels, split.labels[where])


def test_images_may_be_a_view_of_others() -> None:
    whole = image_split()
    view, copy = (
        Split(images, whole.labels) for images in (whole.images[..., ::2], whole.images[..., ::2].clone())
    )
    assert not view.images.is_contiguous()
    recipe = Recipe(batch_size=7, shift=1)
    assert torch.equal(training_batch(view, recipe, 4)[0], training_batch(copy, recipe, 4)[0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"input_dropout": 1.0},
        {"input_dropout": -0.1},
        {"l1": -1.0},
        {"shift": -1},
        {"weight_decay": -0.1},
        {"weight_decay": math.nan},
        {"weight_decay": math.inf},
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        Recipe(**wrong)


# --- steps


def test_loss_and_gradient_are_those_of_autograd() -> None:
    network, split = skip_network(), image_split(30, dtype=torch.float64)
    loss, gradient = loss_and_gradient(
        network, flat(network), flatten(split.images, torch.float64), split.labels
    )
    expected = functional.cross_entropy(network(split.images), split.labels)
    expected.backward()
    assert network.values.grad is not None
    assert torch.allclose(loss, expected.detach(), rtol=1e-12, atol=0)
    assert torch.allclose(gradient, network.values.grad, rtol=0, atol=1e-12)


def test_l1_pulls_connections_and_leaves_biases_free() -> None:
    """Adam's first moment after one step is a tenth of the gradient."""
    moments = {}
    for l1 in (0.0, 0.25):
        state = TrainState.fresh(skip_network())
        state.network.values.data[3] = 0.0
        signs = flat(state.network).sign()
        train_steps(state, image_split(dtype=torch.float64), Recipe(l1=l1, batch_size=20), 1, constant(1e-3))
        moments[l1] = state.optimizer.first
    connections = state.network.connection_count
    pull = moments[0.25] - moments[0.0]
    assert torch.allclose(pull[:connections], 0.1 * 0.25 * signs[:connections], rtol=0, atol=1e-12)
    assert torch.equal(moments[0.25][connections:], moments[0.0][connections:])


def test_weight_decay_shrinks_connections_beside_the_optimizer() -> None:
    """By rate × weight_decay × value, whatever the gradient; the biases and Adam's state are as without it."""
    states = {}
    for decay in (0.0, 0.5):
        states[decay] = TrainState.fresh(skip_network())
        recipe = Recipe(batch_size=20, weight_decay=decay)
        train_steps(states[decay], image_split(dtype=torch.float64), recipe, 1, constant(1e-2))
    start, plain, decayed = flat(skip_network()), flat(states[0.0].network), flat(states[0.5].network)
    connections = states[0.5].network.connection_count
    shrunk = plain[:connections] - 1e-2 * 0.5 * start[:connections]
    assert torch.allclose(decayed[:connections], shrunk, rtol=0, atol=1e-15)
    assert torch.equal(decayed[connections:], plain[connections:])
    assert torch.equal(states[0.5].optimizer.first, states[0.0].optimizer.first)
    assert torch.equal(states[0.5].optimizer.second, states[0.0].optimizer.second)


def test_weight_decay_is_that_of_torch() -> None:
    """50 steps along a schedule, against AdamW over the dense matrices of the same network, masked."""
    network, split = skip_network(), image_split(dtype=torch.float64)
    state, recipe, rate = TrainState.fresh(network.fork()), Recipe(20, weight_decay=0.1), cosine(1e-2, 0, 50)
    train_steps(state, split, recipe, 50, rate)

    flat_values = flat(network).clone()
    weights = torch.nn.Parameter(flat_values[: network.connection_count])
    biases = torch.nn.Parameter(flat_values[network.connection_count :])
    groups = [{"params": [weights], "weight_decay": 0.1}, {"params": [biases], "weight_decay": 0.0}]
    theirs = torch.optim.AdamW(groups, lr=1e-2)
    for step in range(50):
        inputs, labels = training_batch(split, recipe, step)
        values = torch.cat([weights.detach(), biases.detach()])
        gradient = loss_and_gradient(network, values, inputs, labels)[1]
        weights.grad, biases.grad = gradient[: len(weights)], gradient[len(weights) :]
        for group in theirs.param_groups:
            group["lr"] = rate(step)
        theirs.step()
    expected = torch.cat([weights.detach(), biases.detach()])
    assert torch.allclose(flat(state.network), expected, rtol=0, atol=1e-9)


def test_age_rates_scale_the_decay_too() -> None:
    steps = {}
    for rates in (None, AgeRates(young=0.5, established=0.5)):
        state = TrainState.fresh(skip_network())
        before = flat(state.network).clone()
        recipe = Recipe(batch_size=8, rates=rates, weight_decay=2.0)
        train_steps(state, image_split(dtype=torch.float64), recipe, 1, constant(1e-2))
        steps[rates] = flat(state.network) - before
    full, half = steps.values()
    assert torch.allclose(half, full / 2, rtol=0, atol=1e-12)


def test_norms_are_of_the_gradient_before_l1_and_change_nothing() -> None:
    split, recipe = image_split(dtype=torch.float64), Recipe(batch_size=20, l1=0.1, weight_decay=0.1)
    state, plain = TrainState.fresh(skip_network()), TrainState.fresh(skip_network())
    norms, expected = torch.empty(4, dtype=torch.float64), []
    for step in range(4):
        inputs, labels = training_batch(split, recipe, step)
        network = plain.network
        gradient = loss_and_gradient(network, flat(network), inputs, labels)[1]
        expected.append(float(gradient.square().sum().sqrt()))
        train_steps(plain, split, recipe, 1, constant(1e-2))
    train_steps(state, split, recipe, 4, constant(1e-2), norms=norms)
    assert norms.tolist() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(flat(state.network), flat(plain.network))


RICH = Recipe(
    batch_size=8,
    l1=1e-3,
    input_dropout=0.3,
    shift=1,
    rates=AgeRates(matures_after=6, freezes_after=40),
    rng_seed=5,
    weight_decay=0.05,
)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=5))
def test_training_in_pieces_is_training_in_one_go(pieces: list[int]) -> None:
    split, rate = image_split(), cosine(1e-2, 0, 40)
    whole, cut = TrainState.fresh(skip_network()), TrainState.fresh(skip_network())
    split = Split(split.images.double(), split.labels)
    losses = train_steps(whole, split, RICH, sum(pieces), rate)
    parts = [train_steps(cut, split, RICH, piece, rate) for piece in pieces]
    assert torch.equal(torch.cat(parts), losses)
    assert torch.equal(flat(cut.network), flat(whole.network))
    assert torch.equal(cut.optimizer.second, whole.optimizer.second)
    assert cut.step == whole.step == sum(pieces)


def test_the_losses_are_of_the_batch_before_the_step_and_without_l1() -> None:
    state, split = TrainState.fresh(skip_network()), image_split(dtype=torch.float64)
    recipe = Recipe(batch_size=20, l1=0.1)
    expected = []
    for _ in range(3):
        inputs, labels = training_batch(split, recipe, state.step)
        expected.append(functional.cross_entropy(state.network(inputs.t()), labels).item())
        copy = state.copy()
        losses = train_steps(copy, split, recipe, 1, constant(1e-2))
        assert losses.tolist() == pytest.approx(expected[-1:], rel=1e-6)
        state = copy
    assert len(set(expected)) == 3


REGULARISED: list[dict[str, Any]] = [{}, {"l1": 0.1}, {"weight_decay": 3.0}, {"l1": 0.1, "weight_decay": 3.0}]


@pytest.mark.parametrize("regularisation", REGULARISED, ids=str)
def test_what_is_frozen_does_not_move_by_a_bit(regularisation: dict[str, float]) -> None:
    rates = AgeRates(matures_after=2, freezes_after=4)
    recipe = Recipe(batch_size=8, rates=rates, **regularisation)
    state, split = TrainState.fresh(skip_network()), image_split(dtype=torch.float64)
    train_steps(state, split, recipe, 4, constant(1e-2))
    existing = state.network.topology
    units = np.arange(16)
    free = units[~existing.has(units, np.full(16, 27))]
    edit = connect(state.network, free, np.full(len(free), 27))
    state = state.edited(edit)
    before = flat(state.network).clone()
    train_steps(state, split, recipe, 3, constant(1e-2))
    changed = (flat(state.network) != before).numpy()
    assert np.array_equal(np.flatnonzero(changed), edit.new)
    assert len(edit.new) > 0


def test_age_rates_scale_the_step() -> None:
    steps = {}
    for rates in (None, AgeRates(young=0.5, established=0.5)):
        state = TrainState.fresh(skip_network())
        before = flat(state.network).clone()
        train_steps(
            state, image_split(dtype=torch.float64), Recipe(batch_size=8, rates=rates), 1, constant(1e-2)
        )
        steps[rates] = flat(state.network) - before
    full, half = steps.values()
    assert torch.allclose(half, full / 2, rtol=0, atol=1e-12)
    assert float(full.abs().max()) > 1e-3


def test_divergence_is_noticed() -> None:
    state = TrainState.fresh(skip_network(dtype=torch.float32))
    with pytest.raises(Diverged, match="diverged"):
        train_steps(state, image_split(), Recipe(batch_size=8), 20, constant(1e30))
    state = TrainState.fresh(skip_network(dtype=torch.float32))
    images = image_split()
    images.images[5, 0, 0, 0] = math.nan
    with pytest.raises(Diverged):
        train_steps(state, images, Recipe(batch_size=60), 1, constant(1e-3))


# --- evaluation


@pytest.mark.parametrize("block", [1, 7, 30, 2000])
def test_evaluate_is_the_plain_computation_whatever_the_block(block: int) -> None:
    network, split = skip_network(), image_split(30, dtype=torch.float64)
    measured = evaluate(network, split, block=block, with_features=True)
    with torch.no_grad():
        logits = network(split.images)
    losses = functional.cross_entropy(logits, split.labels, reduction="none")
    assert measured.loss == pytest.approx(float(losses.mean()), rel=1e-12)
    assert measured.accuracy == int((logits.argmax(dim=1) == split.labels).sum()) / 30
    assert np.allclose(measured.log2_likelihood, -losses.numpy() / math.log(2), rtol=1e-12, atol=0)
    assert measured.log2_likelihood.dtype == np.float64

    activations = propagate(network, flat(network), flatten(split.images, torch.float64))
    assert measured.features is not None
    assert measured.features.shape == (30, 9)  # both hidden groups feed the output, the input does not count
    assert np.allclose(measured.features, torch.cat(activations[1:3]).t().numpy(), rtol=0, atol=1e-12)
    assert evaluate(network, split, block=block).features is None


def test_features_are_of_the_groups_that_feed_the_output() -> None:
    split = image_split(30)
    plain = evaluate(StructNet([16, 5, 4, 3], density=0.5), split, with_features=True)
    assert plain.features is not None
    assert plain.features.shape == (30, 4)
    assert evaluate(StructNet([16, 3], density=0.5), split, with_features=True).features is None


def test_evaluate_never_mixes_up_splits() -> None:
    network = skip_network(dtype=torch.float32)
    images = torch.rand(40, 4, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 3, (20,), generator=torch.Generator().manual_seed(1))
    # Different images of one size, most of them views that start at the same address.
    views = [
        images[:20, :, :4],
        images[:20, :, ::2],
        images[::2, :, :4],
        images[::2, :, ::2],
        images[20:, :, :4],
        images[:20, :2],
        images[:20, ::2],
        images[:20, :, :4].clone(),
    ]
    for _ in range(2):
        for view in views:
            split = Split(view, labels)
            with torch.no_grad():
                expected = functional.cross_entropy(network(view.clone()), labels)
            assert evaluate(network, split, block=8).loss == pytest.approx(float(expected), rel=1e-5)


# --- schedules and summaries


def test_schedules() -> None:
    falling = cosine(0.4, 100, 200)
    assert [falling(step) for step in (0, 100, 150, 200, 300)] == pytest.approx([0.4, 0.4, 0.2, 0.0, 0.0])
    assert falling(125) == pytest.approx(0.4 * (2 + math.sqrt(2)) / 4)
    line = linear(0.4, 100, 200)
    assert [line(step) for step in (0, 100, 150, 175, 200, 300)] == pytest.approx([0.4, 0.4, 0.2, 0.1, 0, 0])
    floored = cosine(0.4, 0, 10, floor=0.5)
    assert [floored(step) for step in (0, 5, 10, 11)] == pytest.approx([0.4, 0.3, 0.2, 0.2])
    assert [constant(0.3)(step) for step in (0, 10**6)] == [0.3, 0.3]
    assert SCHEDULES["constant"](0.3, 0, 10)(9) == 0.3
    assert SCHEDULES["cosine"](0.3, 0, 10)(5) == pytest.approx(0.15)


def test_chance_accuracy_is_the_share_of_the_commonest_class() -> None:
    assert chance_accuracy(torch.tensor([0, 2, 2, 1]), 5) == 0.5
    assert chance_accuracy(torch.tensor([4]), 5) == 1.0
