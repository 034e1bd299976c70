"""Feature maps by torch: the numbers of compiled taps, steps that a graph can hold, and cohorts member by member."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from helpers.compiled_cases import assert_same_bits, state_of
from helpers.graph_cases import FakeGraph, OnHost, fake_graphs
from helpers.map_networks import random_images, random_map_network
from helpers.training_cases import image_split
from hypothesis import given, settings
from hypothesis import strategies as st

from structnet import StructNet
from structnet.network import map_link
from structnet.network.architecture import Architecture, sizes_of
from structnet.network.propagation import backpropagate, propagate
from structnet.network.state import TrainState
from structnet.training import torch_step
from structnet.training.cohort import Cohort
from structnet.training.evaluation import evaluate
from structnet.training.loop import train_steps
from structnet.training.memory import bytes_per_image
from structnet.training.rates import AgeRates
from structnet.training.recipe import DECAYS, Recipe
from structnet.training.schedules import constant, cosine
from structnet.training.tile import Tile, join
from structnet.training.torch_step import TorchSteps

KERNELS = ["masked_dense", "sparse_rows"]
every_kernel = pytest.mark.parametrize("kernel", KERNELS)
NOISE = {"input_dropout": 0.2, "shift": 1, "flip": True}
RICH = Recipe(33, l1=1e-3, rates=AgeRates(4, 40), weight_decay=0.5, **NOISE)
RATE = cosine(1e-2, 0, 100)
seeds = st.integers(0, 2**32 - 1)
# Maps that are read by maps, with a stride and over it, by their means and at their positions.
SHAPE = Architecture((1, 3, 2, 4, 3), ((4, 4), (4, 4), (2, 2), (1, 1), (1, 1)), flat=[2])


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def by(kernel: str, network: StructNet) -> StructNet:
    """The same network computed by another kernel."""
    kept = None if network.statistics is None else network.statistics.clone()
    return StructNet.from_parts(
        network.topology,
        network.values.detach().clone(),
        activation=network.activation,
        kernel=kernel,
        statistics=kept,
    )


def fresh(
    rng_seed: int = 0,
    *,
    kernel: str = "masked_dense",
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    normalised: bool = True,
) -> TrainState:
    network = random_map_network(
        np.random.default_rng(rng_seed), SHAPE, normalised=normalised, share=0.6, kernel=kernel, dtype=dtype
    )
    return TrainState.from_arrays(state_of(network, oldest=5).to_arrays(), device)


def assert_same_training(one: TrainState, other: TrainState) -> None:
    assert_same_bits(one, other)
    assert one.network.statistics is not None and other.network.statistics is not None
    assert torch.equal(one.network.statistics, other.network.statistics)


# --- the numbers of compiled taps


@every_kernel
@given(seeds, st.integers(1, 9), st.sampled_from(["relu", "tanh", "sigmoid"]))
def test_activations_errors_and_gradients_are_those_of_compiled_taps(
    kernel: str, rng_seed: int, images: int, activation: str
) -> None:
    """Of a network in use."""
    rng = np.random.default_rng(rng_seed)
    network = random_map_network(rng, activation=activation, dtype=torch.float64)
    other, values, shape = by(kernel, network), network.values.detach(), network.topology.architecture
    assert network.is_compiled and not other.is_compiled
    inputs = torch.from_numpy(rng.standard_normal((shape.inputs, images)))
    mine, its = (propagate(one, values, inputs) for one in (network, other))
    for expected, found in zip(mine, its):
        assert_close(found, expected)
    error = torch.from_numpy(rng.standard_normal((shape[-1], images)))
    gradient, errors = backpropagate(network, values, mine, error, input_error=True)
    found_gradient, found_errors = backpropagate(other, values, its, error, input_error=True)
    assert_close(found_gradient, gradient)
    for expected_error, found_error in zip(errors[1:], found_errors[1:]):
        assert (found_error is None) == (expected_error is None)
        if expected_error is not None and found_error is not None:
            assert_close(found_error, expected_error)
    assert errors[0] is not None
    assert_close(torch.zeros_like(inputs) if found_errors[0] is None else found_errors[0], errors[0])
    assert backpropagate(other, values, its, error)[1][0] is None


@every_kernel
@pytest.mark.parametrize("text", ["1@3,2", "1@3,flat,2", "2@5x4,3@3x2,2", "1@4,2@4,2@4,2"])
def test_rows_of_a_single_image_follow_each_other(text: str, kernel: str) -> None:
    """Where a turned, spread out or cut off tensor would pass for one that is not."""
    rng, shape = np.random.default_rng(0), sizes_of(text)
    network = random_map_network(rng, shape, normalised=True, share=0.9, dtype=torch.float64)
    other, values = by(kernel, network), network.values.detach()
    inputs = torch.from_numpy(rng.standard_normal((shape.inputs, 1)))
    error = torch.from_numpy(rng.standard_normal((2, 1)))
    mine, its = (propagate(one, values, inputs) for one in (network, other))
    errors = backpropagate(network, values, mine, error, input_error=True)[1]
    found = backpropagate(other, values, its, error, input_error=True)[1]
    for row, expected in zip([*its, *found], [*mine, *errors]):
        assert row is not None and expected is not None and row.is_contiguous()
        assert_close(row, expected)


@every_kernel
@settings(max_examples=8)
@given(seeds, st.sampled_from([8, 31, 70]), st.sampled_from(["", *DECAYS]))
def test_thirty_steps_are_those_of_compiled_taps(kernel: str, rng_seed: int, batch: int, decay: str) -> None:
    """With all that a recipe can ask for: losses, norms, values, moments, statistics, and logits behind them."""
    rng = np.random.default_rng(rng_seed)
    network = random_map_network(rng, dtype=torch.float64)
    split = random_images(rng, network.topology.architecture, 100, torch.float64)
    descent = {"momentum": 0.9, "decay": decay} if decay else {"rates": AgeRates(4, 30)}
    recipe = Recipe(batch, l1=1e-3, rng_seed=batch, weight_decay=0.1, **NOISE, **descent)
    found = []
    for one in (network.fork(), by(kernel, network)):
        state, norms = state_of(one, oldest=5), torch.empty(30, dtype=torch.float64)
        losses = train_steps(state, split, recipe, 30, cosine(1e-2, 5, 40), norms=norms)
        found.append((state, losses, norms, evaluate(state.network, split, with_logits=True)))
    (state, losses, norms, judged), (other, other_losses, other_norms, other_judged) = found
    assert_close(other_losses, losses, 1e-6)
    assert_close(other_norms, norms, 1e-6)
    assert_close(other.network.values.detach(), state.network.values.detach(), 1e-6)
    assert_close(other.optimizer.first, state.optimizer.first, 1e-6)
    assert_close(other.optimizer.second, state.optimizer.second, 1e-6)
    if network.statistics is not None:
        assert other.network.statistics is not None and state.network.statistics is not None
        assert_close(other.network.statistics, state.network.statistics, 1e-6)
    assert judged.logits is not None and other_judged.logits is not None
    assert_close(other_judged.logits, judged.logits, 1e-5)


@every_kernel
def test_autograd_goes_through_torch_as_well(kernel: str) -> None:
    rng = np.random.default_rng(1)
    network = random_map_network(rng, SHAPE, normalised=True, activation="tanh", dtype=torch.float64)
    other = by(kernel, network)
    images = torch.from_numpy(rng.standard_normal((5, 1, 4, 4)))
    found = []
    for one in (network, other):
        seen = images.clone().requires_grad_()
        (one(seen) ** 2).sum().backward()
        assert one.values.grad is not None and seen.grad is not None
        found.append((one.values.grad, seen.grad))
    for expected, mine in zip(*found):
        assert_close(mine, expected)


def test_convolutions_are_computed_with_all_bits_and_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a GPU would be allowed to leave out elsewhere."""
    found = []

    def looked_at(*arguments: torch.Tensor, **options: tuple[int, int]) -> torch.Tensor:
        backend = torch.backends.cudnn
        found.append((backend.allow_tf32, backend.deterministic, backend.benchmark))
        return torch.nn.functional.conv2d(*arguments, **options)

    before = torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(map_link, "conv2d", looked_at)
    state = fresh()
    train_steps(state, image_split(), Recipe(8), 1, RATE)
    assert set(found) == {(False, True, False)}
    assert torch.backends.cudnn.allow_tf32 == before


# --- nothing waits for the host, and a graph can hold a step


@pytest.mark.parametrize("recipe", [Recipe(33), RICH], ids=["plain", "rich"])
@pytest.mark.parametrize("normalised", [True, False])
def test_a_step_needs_nothing_from_the_host(normalised: bool, recipe: Recipe) -> None:
    state, split = fresh(device="meta", normalised=normalised), image_split().to("meta")
    born = torch.from_numpy(state.born).to("meta")
    steps = TorchSteps(state.network, state.optimizer, split, recipe, born=born)
    steps.send(range(5, 10), RATE)
    steps.step()  # which puts indices of links there
    with OnHost() as host:
        steps.step()
    assert host.found == []


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeGraph]]:
    yield fake_graphs(monkeypatch)


@pytest.mark.parametrize("batch", [20, 33])
def test_a_recorded_step_is_every_step(
    batch: int, graphs: list[FakeGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statistics included, which are changed where they lie."""
    recipe, found = Recipe(batch, **NOISE), []
    for least in (torch_step.RECORDED_FROM, 10**9):
        monkeypatch.setattr(torch_step, "RECORDED_FROM", least)
        state = fresh()
        found.append((state, train_steps(state, image_split(), recipe, 40, RATE)))
    (state, losses), (other, other_losses) = found
    assert [graph.replays for graph in graphs] == [40 - torch_step.WARM_UP]
    assert torch.equal(losses, other_losses)
    assert_same_training(state, other)


def test_which_networks_can_be_recorded() -> None:
    """Not on a CPU; on a GPU those whose plain links are dense, as convolutions are."""
    names = {pair: link.kernel_name for pair, link in fresh(kernel="sparse_rows").network.links.items()}
    assert names[0, 1] == names[1, 2] == "convolution"
    assert names[2, 3] == names[3, 4] == "sparse_rows"
    assert {link.kernel_name for link in fresh().network.links.values()} == {"convolution", "masked_dense"}


# --- cohorts


def members(kernel: str) -> list[TrainState]:
    return [fresh(seed, kernel=kernel) for seed in range(3)]


@every_kernel
def test_members_of_a_cohort_are_trained_one_after_the_other(kernel: str) -> None:
    """A tile each, with the same bits as alone, and a learning rate of its own."""
    states, rates = members(kernel), [1e-2, 3e-2, 1e-3]
    cohort = Cohort(states, rates)
    assert [len(part.topologies) for part in cohort.parts] == [1, 1, 1]
    split = image_split()
    losses, judged = cohort.train(split, RICH, 6, constant(0.5)), cohort.evaluate(image_split(40, 1))
    for place, (state, rate) in enumerate(zip(states, rates)):
        own = state.copy()
        own_losses = train_steps(own, split, RICH, 6, constant(0.5 * rate))
        assert torch.equal(losses[place], own_losses)
        assert_same_training(cohort.take(place), own)
        evaluated = evaluate(own.network, image_split(40, 1))
        np.testing.assert_allclose(judged.log2_likelihood[place], evaluated.log2_likelihood, rtol=1e-5)
    kept = cohort.keep([2])
    kept.train(split, RICH, 2, constant(0.5))
    assert kept.step == 13


def test_a_tile_takes_back_what_it_has_trained() -> None:
    state = fresh()
    tile = Tile([state])
    undo = tile.undoing()
    tile.train(image_split(), RICH, 3, RATE, 5, shares=np.ones(1))
    trained = tile.take(0, 8)
    assert trained.network.statistics is not None and state.network.statistics is not None
    assert not torch.equal(trained.network.statistics, state.network.statistics)
    undo()
    assert_same_training(tile.take(0, 5), state)


def test_networks_of_maps_are_not_joined() -> None:
    states = members("masked_dense")
    with pytest.raises(ValueError, match="networks of feature maps cannot be joined: make a tile of each"):
        Tile(states)
    topology, (places,) = join([states[0].network.topology])
    assert topology is states[0].network.topology
    assert places.tolist() == list(range(topology.parameters))


# --- memory


@pytest.mark.parametrize("kernel", ["auto", "masked_dense"])
def test_an_image_takes_its_maps(kernel: str) -> None:
    """At least input, activations and errors, in bytes of float32."""
    network = StructNet(sizes_of("1@28,8@14,10"), density=1.0, kernel=kernel)
    least = 4 * (784 + 2 * 8 * 196)
    assert least < bytes_per_image(network) < 20 * least
    evaluated = evaluate(
        StructNet(sizes_of("1@4,2@2,3"), density=1.0, kernel=kernel), image_split(300), with_logits=True
    )
    assert evaluated.logits is not None and evaluated.logits.shape == (3, 300)
