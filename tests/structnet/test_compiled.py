"""Compiled steps: they compute what plain matrices and autograd do, on all three paths, with bits of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.compiled_cases import (
    NEVER,
    assert_same_bits,
    dense_links,
    linked,
    matrices_from,
    network_of,
    reference,
    state_of,
    topologies,
)
from helpers.training_cases import image_split
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from structnet.compiled.plan import is_dense
from structnet.network.propagation import flatten
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training import lockstep
from structnet.training.batches import batch_indices
from structnet.training.cohort import Cohort
from structnet.training.evaluation import evaluate
from structnet.training.lockstep import BLOCK, Lockstep
from structnet.training.loop import Diverged, train_steps
from structnet.training.rates import AgeRates
from structnet.training.recipe import DECAYS, Recipe
from structnet.training.schedules import constant, cosine

ACTIVATIONS = ("relu", "tanh", "sigmoid", "srelu")
AGES = AgeRates(matures_after=4, freezes_after=9)
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
# Fewer images than a block, one block, and several of which the last is not full or has a single image less.
BATCHES = (5, BLOCK, BLOCK + 1, 300)


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


# --- against plain matrices and autograd


@every_activation
@given(topologies(), st.integers(1, 40), st.integers(0, 99))
def test_logits_and_gradients_are_those_of_plain_matrices(
    activation: str, topology: Topology, images: int, rng_seed: int
) -> None:
    network = network_of(topology, rng_seed=rng_seed, activation=activation)
    assert network.is_compiled
    random = torch.Generator().manual_seed(rng_seed)
    inputs, weight = (
        torch.randn(images, size, generator=random, dtype=torch.float64)
        for size in (topology.architecture[0], topology.architecture[-1])
    )
    mine, own = inputs.clone().requires_grad_(), inputs.t().clone().requires_grad_()
    values = network.values.detach().clone().requires_grad_()
    logits, expected = network(mine), reference(network.topology, activation, values, own).t()
    assert_close(logits, expected)
    (logits * weight).sum().backward()
    (expected * weight).sum().backward()
    assert network.values.grad is not None and values.grad is not None
    assert_close(network.values.grad, values.grad)
    assert mine.grad is not None
    assert_close(mine.grad.t(), torch.zeros_like(own) if own.grad is None else own.grad)


@every_activation
@pytest.mark.parametrize("batch", BATCHES)
@settings(max_examples=5)  # of every batch
@given(topologies(inputs=16, classes=3))
def test_a_step_follows_the_gradient_of_the_cross_entropy(
    activation: str, batch: int, topology: Topology
) -> None:
    """Of the whole batch, however many blocks it is computed in."""
    split, recipe = image_split(400, dtype=torch.float64), Recipe(batch)
    state, norms = state_of(network_of(topology, activation=activation)), torch.empty(1)
    values = state.network.values.detach().clone().requires_grad_()
    losses = train_steps(state, split, recipe, 1, constant(1e-2), norms=norms)

    where = batch_indices(400, batch, recipe.rng_seed, 0)
    logits = reference(
        state.network.topology, activation, values, flatten(split.images[where], torch.float64)
    )
    loss = cross_entropy(logits.t(), split.labels[where])
    (gradient,) = torch.autograd.grad(loss, values)
    assert_close(losses[0], loss.detach())
    # Nothing but the gradient is in the first moment after one step.
    assert_close(state.optimizer.first / (1 - state.optimizer.beta1), gradient)
    assert_close(norms[0].double(), torch.linalg.vector_norm(gradient), 1e-6)
    rate = 1e-2 * gradient / (gradient.abs() + state.optimizer.epsilon)
    assert_close(state.network.values.detach(), values.detach() - rate, 1e-9)


@given(topologies(inputs=16, classes=3), st.integers(1, 299))
def test_parts_of_a_batch_add_up_to_its_gradient(topology: Topology, cut: int) -> None:
    """With the noise that the images have in the whole."""
    split = image_split(400, dtype=torch.float64)
    recipe = Recipe(300, input_dropout=0.3, shift=1, dropout=0.4, flip=True)
    alone = Lockstep.of(state_of(network_of(topology)))
    loss, gradient = alone.gradient_of_part(split, recipe, 7, slice(0, 300))
    parts = [alone.gradient_of_part(split, recipe, 7, part) for part in (slice(0, cut), slice(cut, 300))]
    assert sum(found for found, _ in parts) == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(sum(found for _, found in parts), gradient, rtol=1e-12, atol=1e-12)


# --- three paths


@every_activation
@settings(max_examples=8)
@given(
    topologies(inputs=16, classes=3, widest=6), st.sampled_from([8, 20, 150]), st.sampled_from(["", *DECAYS])
)
def test_three_paths_train_the_same_network(
    activation: str, topology: Topology, batch: int, decay: str
) -> None:
    """Compiled, and by both kernels of torch that CUDA has too, with all that a recipe can ask for."""
    split = image_split(170, dtype=torch.float64)
    noise = {"input_dropout": 0.2, "dropout": 0.3, "shift": 1, "flip": True}
    recipe = Recipe(batch, l1=1e-3, rng_seed=batch, weight_decay=0.5, **noise)
    recipe = replace(recipe, momentum=0.9, decay=decay) if decay else replace(recipe, rates=AGES)
    found = []
    for kernel in ("auto", "sparse_rows", "masked_dense"):
        state = state_of(network_of(topology, activation=activation, kernel=kernel), oldest=5)
        assert state.network.is_compiled == (kernel == "auto")
        norms = torch.empty(20, dtype=torch.float64)
        losses = train_steps(state, split, recipe, 20, cosine(1e-2, 5, 40), norms=norms)
        found.append((state, losses, norms, evaluate(state.network, split, with_logits=True)))
    (state, losses, norms, judged), *others = found
    for other, other_losses, other_norms, other_judged in others:
        assert (other.step, other.optimizer.step) == (state.step, state.optimizer.step) == (25, 20)
        assert_close(other.network.values.detach(), state.network.values.detach(), 1e-10)
        assert_close(other.optimizer.first, state.optimizer.first, 1e-10)
        assert_close(other.optimizer.second, state.optimizer.second, 1e-10)
        assert_close(other_losses.double(), losses.double(), 1e-6)
        assert_close(other_norms, norms, 1e-10)
        np.testing.assert_allclose(other_judged.log2_likelihood, judged.log2_likelihood, rtol=1e-9, atol=1e-9)
        assert other_judged.accuracy == judged.accuracy
        assert judged.logits is not None and other_judged.logits is not None
        assert_close(other_judged.logits, judged.logits, 1e-9)


# --- the same bits


def parts_of(steps: int, cuts: Sequence[int]) -> list[int]:
    """7, [3] -> [3, 4]."""
    return [stop - start for start, stop in pairwise([0, *sorted(cuts), steps])]


@pytest.mark.parametrize("batch", BATCHES)
@settings(max_examples=8)
@given(
    st.lists(topologies(inputs=16, classes=3), min_size=2, max_size=5),
    st.randoms(use_true_random=False),
    st.lists(st.integers(1, 6), unique=True, max_size=3),
    st.integers(1, 8),
)
def test_bits_depend_on_nothing_but_the_network(
    batch: int,
    shapes: list[Topology],
    random: object,
    cuts: list[int],
    at_once: int,
) -> None:
    """Alone in one go, and in company, any order, pieces of any length and calls of any number of steps."""
    split = image_split(400)
    recipe = Recipe(batch, l1=1e-3, input_dropout=0.2, shift=1, rates=AGES, weight_decay=0.5)
    states = [
        state_of(network_of(shape, rng_seed=seed, dtype=torch.float32), oldest=5)
        for seed, shape in enumerate(shapes)
    ]
    rates = 1e-2 / np.arange(1, len(states) + 1)
    alone = [state.copy() for state in states]
    losses = [
        train_steps(state, split, recipe, 7, lambda _, own=rate: own * 1.0)
        for state, rate in zip(alone, rates)
    ]

    order = list(range(len(states)))
    random.shuffle(order)  # type: ignore[attr-defined]
    together = Lockstep.together([states[index] for index in order])
    found, begin = [], 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lockstep, "STEPS", at_once)
        for steps in parts_of(7, cuts):
            found.append(together.train(split, recipe, steps, constant(1.0), begin, shares=rates[order])[0])
            begin += steps
    for place, index in enumerate(order):
        assert_same_bits(together.take(place, begin), alone[index])
        assert np.array_equal(np.concatenate(found, axis=1)[place], losses[index].numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(topologies(inputs=16, classes=3))
def test_frozen_parameters_do_not_move_by_a_bit(dtype: torch.dtype, topology: Topology) -> None:
    """Not by decay, nor by l1, nor by moments of their own; what is younger moves."""
    split = image_split(60, dtype=dtype)
    recipe = Recipe(20, l1=1e-2, input_dropout=0.1, rates=AGES, weight_decay=0.9)
    state = TrainState.fresh(network_of(topology, dtype=dtype))
    # Steps in which all are young, so that there are moments to move by.
    train_steps(state, split, recipe, 2, constant(0.03))
    state.step = 10
    is_old = np.random.default_rng(0).random(topology.parameters) < 0.5
    state.born[:] = np.where(is_old, 1, 10)
    before = state.network.values.detach().numpy().copy()
    train_steps(state, split, recipe, 3, constant(0.03))
    after = state.network.values.detach().numpy()
    assert np.array_equal(after[is_old], before[is_old])
    is_connection = np.arange(topology.parameters) < topology.connections
    assert np.all(after[~is_old & is_connection] != before[~is_old & is_connection])


# --- what diverges


def last_bias(state: TrainState) -> torch.Tensor:
    return state.network.topology.split(state.network.values.detach())[1][-1:]


NOT_FINITE: dict[str, Callable[[TrainState], None]] = {
    "a bias of the output": lambda state: last_bias(state).fill_(torch.nan),
    "an infinite bias": lambda state: last_bias(state).fill_(torch.inf),
    "first connections": lambda state: state.network.values.detach()[:10].fill_(torch.nan),
    "all connections": lambda state: state.network.values.detach()[: state.network.connection_count].fill_(
        torch.nan
    ),
    "everything, without an end": lambda state: state.network.values.detach().fill_(torch.inf),
    "moments": lambda state: state.optimizer.second.fill_(torch.nan),
}
every_end = pytest.mark.parametrize("end", list(NOT_FINITE))
# Blocks of 65 images, of which the last has 64.
UNEVEN = Recipe(BLOCK + 1, l1=1e-4)


@every_end
@every_activation
@pytest.mark.parametrize("dense_from", [1, NEVER])
def test_what_is_not_finite_is_seen(end: str, activation: str, dense_from: int) -> None:
    with matrices_from(dense_from):
        topology = linked([16, 9, 7, 3], [1.0, 0.3, 0.3, 1.0, 0.0, 1.0], np.random.default_rng(0))
        assert dense_links(topology) == (3 if dense_from == 1 else 0)
    state, split = (
        state_of(network_of(topology, activation=activation, dtype=torch.float32)),
        image_split(200),
    )
    NOT_FINITE[end](state)
    if end != "moments":
        judged = evaluate(state.network, split, with_logits=True)
        assert not np.isfinite(judged.loss) and not np.isfinite(judged.log2_likelihood).any()
    losses = Lockstep.together([state]).train(split, UNEVEN, 3, constant(1e-2), 0)[0]
    assert not np.isfinite(losses[0, 1:]).any()
    with pytest.raises(Diverged, match="within 3 steps of step 3"):
        train_steps(state, split, UNEVEN, 3, constant(1e-2))


@every_end
@pytest.mark.parametrize("dense_from", [1, NEVER])
@pytest.mark.parametrize("batch", [8, *BATCHES])
def test_a_neighbour_that_diverges_changes_no_bit(end: str, dense_from: int, batch: int) -> None:
    """Also of matrices, which are multiplied with all columns of a block, those without an image included."""
    rng = np.random.default_rng(1)
    shapes = [
        linked([16, 9, 7, 3], [1.0, 0.3, 0.3, 1.0, 0.0, 1.0], rng),
        linked([16, 12, 3], [0.9, 0.5, 0.9], rng),
        linked([16, 9, 7, 3], [0.2, 0.3, 0.3, 1.0, 0.0, 1.0], rng),
        linked([16, 3], [1.0], rng),
    ]
    split, recipe = image_split(331), replace(UNEVEN, batch_size=batch)
    states = [state_of(network_of(shape, rng_seed=3, dtype=torch.float32)) for shape in shapes]
    with matrices_from(dense_from):
        assert [dense_links(shape) for shape in shapes] == ([3, 3, 2, 1] if dense_from == 1 else [0] * 4)
    healthy = [0, 2, 3]
    alone = [states[index].copy() for index in healthy]
    for state in alone:
        train_steps(state, split, recipe, 4, constant(1e-2))
    for sick in (0, 1, 3):
        company = [state.copy() for state in states]
        company[sick] = states[1].copy()
        company[1] = states[sick].copy()
        NOT_FINITE[end](company[sick])
        together = Cohort(company, [1e-2] * 4)
        losses = together.train(split, recipe, 4, constant(1.0))
        judged = together.evaluate(split)
        assert together.diverged().tolist() == [index == sick for index in range(4)]
        assert not torch.isfinite(losses[sick]).all()
        assert not np.isfinite(judged.log2_likelihood[sick]).all()
        for place, own in ((index if index != sick else 1, state) for index, state in zip(healthy, alone)):
            assert_same_bits(together.take(place), own)
            mine = evaluate(own.network, split)
            assert np.array_equal(judged.log2_likelihood[place], mine.log2_likelihood)


# --- links as matrices


def test_the_rule_of_dense_links() -> None:
    """Nearly full ones, if they are large."""
    with matrices_from(2000, 0.5):
        assert is_dense(200, 20, 2000) and not is_dense(200, 20, 1999)
        assert is_dense(100, 100, 5000) and not is_dense(100, 100, 4999)
        assert not is_dense(40, 40, 1600)


@every_activation
@settings(max_examples=10)
@given(
    st.lists(st.sampled_from([1.0, 0.9, 0.6, 0.0]), min_size=6, max_size=6),
    st.sampled_from(BATCHES),
    st.integers(0, 99),
)
def test_matrices_compute_what_rows_do(
    activation: str, shares: list[float], batch: int, rng_seed: int
) -> None:
    """Full links, whose values are the matrix, and nearly full ones, whose matrix is made; beside sparse ones."""
    split = image_split(400, dtype=torch.float64)
    found = []
    for dense_from in (1, NEVER):
        with matrices_from(dense_from, 0.8):
            topology = linked([16, 9, 7, 3], shares, np.random.default_rng(rng_seed))
            network = network_of(topology, rng_seed=rng_seed, activation=activation)
            full = sum(share > 0.8 for share in shares)
            assert dense_links(topology) == (full if dense_from == 1 else 0)
        images = split.images[:50].clone().requires_grad_()
        logits = network(images)
        (logits * torch.arange(3)).sum().backward()
        state = state_of(network.fork())
        losses = train_steps(state, split, Recipe(batch, input_dropout=0.1), 4, constant(1e-2))
        judged = evaluate(state.network, split).log2_likelihood
        grown = state.network.values.detach(), losses, torch.from_numpy(judged)
        found.append((logits.detach(), network.values.grad, images.grad, *grown))
    for dense, rows in zip(*found):
        assert_close(dense, rows, 1e-12)


@pytest.mark.parametrize("batch", [1, *BATCHES])
def test_matrices_have_the_same_bits_in_company(batch: int) -> None:
    """Wherever in the joint vector the values of a matrix begin, and whoever is trained before."""
    split, rng = image_split(400), np.random.default_rng(2)
    states = [
        state_of(
            network_of(linked([16, width, 3], [share, 0.9, 1.0], rng), rng_seed=width, dtype=torch.float32)
        )
        for width, share in ((5, 0.1), (33, 1.0), (1, 1.0), (64, 0.9), (31, 0.7))
    ]
    with matrices_from(1):
        assert [dense_links(state.network.topology) for state in states] == [2, 3, 3, 3, 3]
    recipe = Recipe(batch, input_dropout=0.2)
    alone = [state.copy() for state in states]
    for state in alone:
        train_steps(state, split, recipe, 5, constant(1e-2))
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2]):
        together = Lockstep.together([states[index] for index in order])
        together.train(split, recipe, 5, constant(1e-2), 0)
        for place, index in enumerate(order):
            assert_same_bits(together.take(place, 5), alone[index])
