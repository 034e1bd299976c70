"""Feature maps in training: bits of their own, clean borders, all that a recipe asks for, and what diverges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.compiled_cases import assert_same_bits, state_of
from helpers.map_networks import random_architecture, random_images, random_map_network
from helpers.map_reference import step_of
from helpers.training_cases import image_split
from hypothesis import given
from hypothesis import strategies as st

from structnet import StructNet
from structnet.data.dataset import Split
from structnet.errors import UserError
from structnet.network.architecture import Architecture, sizes_of
from structnet.network.block_normalisation import block_width
from structnet.network.propagation import propagate
from structnet.network.state import TrainState
from structnet.training.batches import training_batch
from structnet.training.cohort import Cohort
from structnet.training.evaluation import columns, evaluate
from structnet.training.loop import Diverged, train_steps
from structnet.training.members import alone, together
from structnet.training.rates import AgeRates
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant
from structnet.training.tap_lockstep import TapLockstep
from structnet.training.torch_step import dropout_of

AGES = AgeRates(matures_after=4, freezes_after=9)
NOISE = {"input_dropout": 0.2, "shift": 1, "flip": True}
RICH = Recipe(33, l1=1e-3, rates=AGES, weight_decay=0.5, **NOISE)
seeds = st.integers(0, 2**32 - 1)
every_kernel = pytest.mark.parametrize("kernel", ["auto", "masked_dense"])


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


# For the images of `image_split`.
SHAPES = [
    sizes_of("1@4,3@4,2@2,3"),
    Architecture((1, 2, 4, 3), ((4, 4), (2, 3), (1, 1), (1, 1)), window=3, flat=[1]),
    sizes_of("1@4,4@3x2,flat,3"),
]


def made(
    shape: int = 0, *, normalised: bool = True, dtype: torch.dtype = torch.float64, kernel: str = "auto"
) -> StructNet:
    """The same network every time."""
    rng = np.random.default_rng(shape)
    return random_map_network(
        rng, SHAPES[shape], normalised=normalised, share=0.5, dtype=dtype, kernel=kernel
    )


def drawn(rng_seed: int, *, normalised: bool) -> StructNet:
    """A random network for the images of `image_split`."""
    rng = np.random.default_rng(rng_seed)
    shape = random_architecture(rng, (4, 4))
    own = Architecture([1, *shape[1:-1], 3], shape.sides, shape.window, shape.flat)
    return random_map_network(rng, own, normalised=normalised, share=0.5)


def assert_same_training(one: TrainState, other: TrainState) -> None:
    assert_same_bits(one, other)
    if one.network.statistics is None:
        assert other.network.statistics is None
    else:
        assert other.network.statistics is not None
        np.testing.assert_array_equal(one.network.statistics.numpy(), other.network.statistics.numpy())


# --- the same bits


@given(st.lists(seeds, min_size=2, max_size=5), st.booleans(), st.sampled_from([1, 31, 33, 100]))
def test_a_member_has_the_same_bits_alone_and_beside_others(
    members: list[int], is_normal: bool, batch: int
) -> None:
    split, recipe = image_split(120), replace(RICH, batch_size=batch)
    states = [state_of(drawn(seed, normalised=is_normal), oldest=5, rng_seed=seed) for seed in members]
    expected = []
    for state in states:
        own = state.copy()
        losses = train_steps(own, split, recipe, 6, constant(1e-2))
        expected.append((own, losses, evaluate(own.network, split)))
    company = together(states)
    losses = company.train(split, recipe, 6, constant(1e-2), 5)[0]
    judged = company.judge(split)
    for place, (own, own_losses, evaluation) in enumerate(expected):
        np.testing.assert_array_equal(losses[place], own_losses.numpy())
        assert_same_training(company.take(place, 11), own)
        np.testing.assert_array_equal(judged.log2_likelihood[place], evaluation.log2_likelihood)


@pytest.mark.parametrize("end", ["taps", "biases", "everything, without an end", "moments"])
@pytest.mark.parametrize("sick", [0, 1, 2])
def test_a_neighbour_that_diverges_changes_no_bit(end: str, sick: int) -> None:
    """Also where it leaves NaN on rows that are the border of the others' maps."""
    split = image_split(120)
    states = [state_of(made(shape, dtype=torch.float32)) for shape in range(3)]
    healthy = {place: states[place].copy() for place in range(3) if place != sick}
    for state in healthy.values():
        train_steps(state, split, RICH, 4, constant(1e-2))
    network = states[sick].network
    connections, values = network.connection_count, network.values.detach()
    if end == "moments":
        states[sick].optimizer.second.fill_(torch.nan)
    elif end == "taps":
        values[:connections].fill_(torch.nan)
    elif end == "biases":
        values[connections:].fill_(torch.nan)
    else:
        values.fill_(torch.inf)
    cohort = Cohort(states, [1e-2] * 3)
    losses, judged = cohort.train(split, RICH, 4, constant(1.0)), cohort.evaluate(split)
    assert cohort.diverged().tolist() == [place == sick for place in range(3)]
    assert not torch.isfinite(losses[sick, 1:]).any() and not np.isfinite(judged.loss[sick])
    for place, state in healthy.items():
        assert_same_training(cohort.take(place), state)
        mine = evaluate(state.network, split)
        np.testing.assert_array_equal(judged.log2_likelihood[place], mine.log2_likelihood)


@given(seeds, st.booleans(), st.sampled_from([5, 33, 64]))
def test_borders_stay_clean(rng_seed: int, is_normal: bool, batch: int) -> None:
    """Many steps in one workspace are as many in a fresh one each, and so are splits of several blocks."""
    split, recipe = image_split(120), replace(RICH, batch_size=batch)
    state = state_of(drawn(rng_seed, normalised=is_normal), oldest=5)
    stepwise = state.copy()
    losses = train_steps(state, split, recipe, 20, constant(1e-2))
    single = [train_steps(stepwise, split, recipe, 1, constant(1e-2)) for _ in range(20)]
    assert torch.equal(losses, torch.cat(single))
    assert_same_training(state, stepwise)
    every = evaluate(state.network, split).log2_likelihood
    pieces = [
        evaluate(state.network, Split(split.images[start : start + 30], split.labels[start : start + 30]))
        for start in range(0, 120, 30)
    ]
    np.testing.assert_array_equal(every, np.concatenate([piece.log2_likelihood for piece in pieces]))


@given(seeds, st.sampled_from([None, True]))
def test_a_network_is_judged_as_its_folded_one_computes(rng_seed: int, normalised: bool | None) -> None:
    rng = np.random.default_rng(rng_seed)
    network = random_map_network(rng, normalised=normalised, dtype=torch.float64)
    split = random_images(rng, network.topology.architecture, 70, torch.float64)
    folded = network.folded()
    assert folded.statistics is None and folded.parameter_count == network.parameter_count
    expected = propagate(folded, folded.values.detach(), columns(split, 0, 70))[-1]
    judged = evaluate(network, split, with_logits=True)
    assert judged.logits is not None
    assert_close(judged.logits, expected)
    assert judged.loss == pytest.approx(
        float(torch.nn.functional.cross_entropy(expected.t(), split.labels)), rel=1e-10
    )
    assert_close(network(split.images).detach().t(), expected)


def test_what_training_changes_is_put_back() -> None:
    state, split = state_of(made(dtype=torch.float32)), image_split()
    before = state.copy()
    steps = alone(state)
    assert isinstance(steps, TapLockstep)
    undo = steps.undoing()
    steps.train(split, RICH, 3, constant(1e-2), 0)
    assert before.network.statistics is not None and state.network.statistics is not None
    assert not torch.equal(state.network.statistics, before.network.statistics)
    undo()
    assert_same_training(state, before)


# --- what a recipe asks for


def gradient_of(network: StructNet, split: Split, recipe: Recipe) -> torch.Tensor:
    """By which a step of plain descent, at a rate of 1, moves."""
    state = state_of(network.fork())
    train_steps(state, split, replace(recipe, momentum=0.0), 1, constant(1.0))
    moved: torch.Tensor = network.values.detach() - state.network.values.detach()
    return moved


@every_kernel
@pytest.mark.parametrize("batch", [20, 50])
@pytest.mark.parametrize(
    "noise",
    [{"shift": 2}, {"flip": True}, {"input_dropout": 0.3}, NOISE],
    ids=["shift", "flip", "dropout", "all"],
)
def test_noise_of_inputs_is_that_of_the_images(noise: dict[str, float], batch: int, kernel: str) -> None:
    """The step is that of images which have been moved, turned and thinned out beforehand."""
    network = made(kernel=kernel)
    split, recipe = image_split(60, dtype=torch.float64), Recipe(batch, **noise)
    inputs, labels = training_batch(split, recipe, 0)
    images = inputs.t().reshape(batch, 1, 4, 4)
    assert not torch.equal(images, training_batch(split, Recipe(batch), 0)[0].t().reshape(batch, 1, 4, 4))
    expected = step_of(network, images, labels, block_width(batch))[1]
    found = gradient_of(network, split, recipe)
    assert_close(found, expected)
    assert not torch.isclose(found, gradient_of(network, split, Recipe(batch))).all()


@every_kernel
def test_l1_pulls_at_taps_and_leaves_biases(kernel: str) -> None:
    network, split = made(kernel=kernel), image_split(dtype=torch.float64)
    pulled = gradient_of(network, split, Recipe(20, l1=0.25)) - gradient_of(network, split, Recipe(20))
    connections = network.connection_count
    assert_close(pulled[:connections], 0.25 * network.values.detach()[:connections].sign())
    assert not pulled[connections:].any()


@every_kernel
@pytest.mark.parametrize("decay", ["decoupled", "coupled", "bare"])
def test_weight_decay_shrinks_taps(decay: str, kernel: str) -> None:
    """By a tenth of each, at a rate of 1; coupled and bare ones shrink biases too."""
    network, split = made(kernel=kernel), image_split(dtype=torch.float64)
    values, connections = network.values.detach(), network.connection_count
    plain = gradient_of(network, split, Recipe(20))
    found = gradient_of(network, split, Recipe(20, momentum=0.0, weight_decay=0.1, decay=decay)) - plain
    assert_close(found[:connections], 0.1 * values[:connections])
    biases = torch.zeros_like(values[connections:]) if decay == "decoupled" else 0.1 * values[connections:]
    assert_close(found[connections:], biases)


@every_kernel
def test_momentum_carries_a_gradient_on(kernel: str) -> None:
    network, split = made(kernel=kernel), image_split(30, dtype=torch.float64)
    state = state_of(network.fork())
    recipe = Recipe(30, momentum=0.5)  # all images in every step, and in one block
    train_steps(state, split, recipe, 1, constant(0.1))
    after = state.network.fork()
    first = (network.values.detach() - after.values.detach()) / 0.1
    train_steps(state, split, recipe, 1, constant(0.1))
    second = (after.values.detach() - state.network.values.detach()) / 0.1
    assert_close(first, gradient_of(network, split, recipe))
    assert_close(second, 0.5 * first + gradient_of(after, split, recipe), 1e-9)


@every_kernel
def test_what_is_old_is_frozen(kernel: str) -> None:
    network, split = made(kernel=kernel), image_split(dtype=torch.float64)
    state = state_of(network.fork())
    state.step = 20
    is_old = np.random.default_rng(0).random(network.parameter_count) < 0.5
    state.born[:] = np.where(is_old, 0, 20)
    train_steps(state, split, Recipe(20, rates=AGES), 3, constant(1e-2))
    moved = (state.network.values.detach() != network.values.detach()).numpy()
    assert not moved[is_old].any()
    assert moved[~is_old & (gradient_of(network, split, Recipe(60)) != 0).numpy()].all()


@every_kernel
def test_dropout_of_maps_is_refused(kernel: str) -> None:
    shape = sizes_of("1@4,2@2,3")
    network, split = StructNet(shape, density=1.0, kernel=kernel), image_split()
    message = (
        "dropout is 0.5, but must be 0 for 1@4,2@2,3, whose units are feature maps: leave it out, or drop"
    )
    with pytest.raises(UserError, match=message):
        train_steps(TrainState.fresh(network), split, Recipe(8, dropout=0.5), 1, constant(1e-2))
    with pytest.raises(UserError, match=message):
        dropout_of(network, Recipe(8, dropout=0.5), columns(split, 0, 8), 1)
    with pytest.raises(UserError, match=message):
        Cohort([TrainState.fresh(network)], [1e-2]).train(split, Recipe(8, dropout=0.5), 1, constant(1.0))
    plain = StructNet([16, 3], density=1.0, kernel=kernel)
    train_steps(TrainState.fresh(plain), split, Recipe(8, dropout=0.5), 1, constant(1e-2))


# --- what diverges


@every_kernel
@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("where", ["taps", "biases", "all"])
def test_what_is_not_finite_is_seen(where: str, normalised: bool, number: float, kernel: str) -> None:
    network, split = made(normalised=normalised, dtype=torch.float32, kernel=kernel), image_split()
    values, connections = network.values.detach(), network.connection_count
    part = {"taps": slice(0, connections), "biases": slice(connections, None), "all": slice(None)}[where]
    values[part] = number
    assert not np.isfinite(evaluate(network, split).loss)
    with pytest.raises(Diverged, match="within 3 steps of step 3"):
        train_steps(TrainState.fresh(network), split, Recipe(33), 3, constant(1e-2))


# --- the split has to fit


def test_images_of_other_sides_are_refused() -> None:
    state = TrainState.fresh(StructNet(sizes_of("1@5,2@3,3"), density=1.0))
    with pytest.raises(UserError, match="the images have 16 numbers each, but the network has 25 inputs"):
        train_steps(state, image_split(), Recipe(8), 1, constant(1e-2))
