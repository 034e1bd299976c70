"""Steps by torch: the same bits in any stretch, nothing waits for the host, what a CUDA graph replays."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cohort_cases import CASES, FACTOR, assert_same, pool, train_split
from helpers.compiled_cases import assert_same_bits, linked, network_of, state_of
from helpers.graph_cases import FakeGraph, FakeStream, OnHost, fake_graphs
from helpers.training_cases import image_split
from hypothesis import given
from hypothesis import strategies as st

from structnet.data.dataset import Scaling, Split
from structnet.network.optimizer import Adam
from structnet.network.state import TrainState
from structnet.training import torch_step
from structnet.training.augmentation import dropped, key_of, keys_of, moved
from structnet.training.batches import noise_seed, training_batch
from structnet.training.cohort import Cohort
from structnet.training.loop import train_steps
from structnet.training.rates import AgeRates
from structnet.training.recipe import DECAYS, Recipe
from structnet.training.schedules import constant, cosine
from structnet.training.tile import Tile, hidden_numbers
from structnet.training.torch_step import TorchSteps, dropout_of, loss_and_gradient, update

AGES = AgeRates(matures_after=4, freezes_after=40)
RICH = Recipe(16, 1e-3, 0.3, 1, AGES, rng_seed=5, weight_decay=0.5, dropout=0.4, flip=True)
RATE = cosine(1e-2, 0, 60)
every_kernel = pytest.mark.parametrize("kernel", ["sparse_rows", "masked_dense"])
DESCENT = [Recipe(16, 1e-3, 0.3, momentum=0.9, weight_decay=0.1, decay=decay) for decay in DECAYS]
every_recipe = pytest.mark.parametrize("recipe", [Recipe(16), RICH, *DESCENT], ids=["plain", "rich", *DECAYS])
seeds, numbers = st.integers(0, 2**63 - 1), st.integers(0, 10**9)


def fresh(
    kernel: str, dtype: torch.dtype = torch.float32, device: str = "cpu", activation: str = "relu"
) -> TrainState:
    topology = linked([16, 7, 5, 3], [0.5, 0.9, 0.2, 0.6, 0.3, 0.8], np.random.default_rng(0))
    state = state_of(network_of(topology, kernel=kernel, dtype=dtype, activation=activation), oldest=5)
    return TrainState.from_arrays(state.to_arrays(), device)


# --- stretches


@every_kernel
@every_recipe
@pytest.mark.parametrize("stretch", [7, 256])
def test_steps_at_once_are_single_steps(
    kernel: str, recipe: Recipe, stretch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, and those that `update` makes by numbers of the host, as for processes that share a batch."""
    monkeypatch.setattr(torch_step, "STRETCH", stretch)
    split, at_once, one_by_one, by_hand = image_split(), fresh(kernel), fresh(kernel), fresh(kernel)
    lengths = torch.empty(20)
    losses = train_steps(at_once, split, recipe, 20, RATE, norms=lengths)
    norms, values = torch.empty(1), by_hand.network.values.detach()
    for index, step in enumerate(range(5, 25)):
        single = train_steps(one_by_one, split, recipe, 1, RATE, norms=norms)
        inputs, labels = training_batch(split, recipe, step)
        dropout = dropout_of(by_hand.network, recipe, inputs, key_of(noise_seed(recipe), step))
        loss, gradient = loss_and_gradient(by_hand.network, values, inputs, labels, dropout)
        assert losses[index] == single == loss
        assert lengths[index] == norms == torch.linalg.vector_norm(gradient)
        connections, age = by_hand.network.connection_count, step - torch.from_numpy(by_hand.born)
        update(by_hand.optimizer, values, gradient, recipe, RATE(step), connections=connections, age=age)
    by_hand.step = 25
    assert at_once.optimizer.step == 20
    assert_same_bits(at_once, one_by_one)
    assert_same_bits(at_once, by_hand)


@every_kernel
@pytest.mark.parametrize("stretch", [7, 256])
def test_stretches_are_compiled_steps(kernel: str, stretch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_step, "STRETCH", stretch)
    split, found = image_split(dtype=torch.float64), []
    for name in (kernel, "auto"):
        state, norms = fresh(name, torch.float64), torch.empty(30, dtype=torch.float64)
        losses = train_steps(state, split, RICH, 30, RATE, norms=norms)
        found.append(
            (losses, norms, state.network.values.detach(), state.optimizer.first, state.optimizer.second)
        )
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_no_step_changes_nothing() -> None:
    state = fresh("sparse_rows")
    assert train_steps(state, image_split(), RICH, 0, RATE, norms=torch.empty(0)).shape == (0,)
    assert_same_bits(state, fresh("sparse_rows"))


def test_an_update_of_adam_is_a_move_by_its_corrections() -> None:
    gradient = torch.randn(9, generator=torch.Generator().manual_seed(0))
    one, other = Adam.for_values(gradient), Adam.for_values(gradient)
    values, moved = torch.zeros(9), torch.zeros(9)
    for step in range(1, 4):
        one.update(values, gradient, 1e-2)
        root, divisor = other.corrections(step)
        assert (root, divisor) == (math.sqrt(1 - 0.999**step), 1 - 0.9**step)
        rate, epsilon = torch.tensor([1e-2 * root / divisor, 1e-8 * root], dtype=torch.float64).float()
        other.move(moved, gradient, rate.expand(9), epsilon)
    assert torch.equal(values, moved)
    assert (one.step, other.step) == (3, 0)


# --- noise


@given(seeds, numbers, st.integers(0, 40))
def test_a_key_may_be_a_tensor(seed: int, step: int, first: int) -> None:
    random = torch.Generator().manual_seed(0)
    inputs, images = torch.rand(5, 9, generator=random), torch.rand(9, 1, 3, 5, generator=random)
    key = key_of(seed, step)
    on_device = torch.tensor([0, key])[1]
    assert torch.equal(dropped(inputs, 0.3, on_device, first), dropped(inputs, 0.3, key, first))
    assert torch.equal(moved(images, 2, on_device, first), moved(images, 2, key, first))


@given(seeds, numbers)
def test_keys_of_a_stretch_are_those_of_its_steps(seed: int, step: int) -> None:
    steps = range(step, step + 3)
    assert keys_of(seed, steps).tolist() == [key_of(seed, one) for one in steps]


# --- nothing waits for the host


def pixels(device: str) -> Split:
    stored = torch.arange(60 * 16).reshape(60, 1, 4, 4).to(torch.uint8)
    scaling = Scaling(torch.full((1, 1, 1), 100.0), torch.full((1, 1, 1), 50.0))
    return Split(stored, torch.arange(60) % 3, scaling).to(device)


def prepared(split: Split, recipe: Recipe, members: int, activation: str = "relu") -> TorchSteps:
    """A network, or a tile, on the meta device after its first step, which puts indices of links there."""
    state = fresh("masked_dense", device="meta", activation=activation)
    if members == 1:
        born = torch.from_numpy(state.born).to("meta")
        stretch = TorchSteps(state.network, state.optimizer, split, recipe, born=born)
    else:
        tile, shares = Tile([state] * members), np.linspace(1, 2, members)
        born, owner = torch.from_numpy(tile.born).to("meta"), torch.from_numpy(tile.owner).to("meta")
        numbers = torch.from_numpy(hidden_numbers(tile.topologies)).to("meta")
        stretch = TorchSteps(
            tile.network,
            tile.optimizer,
            split,
            recipe,
            born=born,
            shares=shares,
            owner=owner,
            numbers=numbers,
        )
    stretch.send(range(5, 10), RATE)
    stretch.step()
    return stretch


@every_recipe
@pytest.mark.parametrize("members", [1, 4])
@pytest.mark.parametrize("make", [lambda device: image_split().to(device), pixels], ids=["numbers", "pixels"])
@pytest.mark.parametrize("activation", ["relu", "srelu"])
def test_a_step_needs_nothing_from_the_host(
    make: Callable[[str], Split], members: int, recipe: Recipe, activation: str
) -> None:
    stretch = prepared(make("meta"), recipe, members, activation)
    with OnHost() as host:
        stretch.step()
    assert host.found == []


def test_what_comes_from_the_host_would_be_seen() -> None:
    """As where a scaling stays there."""
    stretch = prepared(replace(pixels("meta"), scaling=pixels("cpu").scaling), Recipe(16), 1)
    with OnHost() as host:
        stretch.step()
    assert host.found


@every_recipe
def test_steps_of_sparse_rows_read_no_number(recipe: Recipe) -> None:
    state, split = fresh("sparse_rows"), image_split()
    born = torch.from_numpy(state.born)
    stretch = TorchSteps(state.network, state.optimizer, split, recipe, born=born)
    stretch.send(range(5, 10), RATE)
    with OnHost() as host:
        stretch.step()
    assert host.found, "all of it lies there"
    assert not [name for name in host.found if "_local_scalar_dense" in name]


# --- CUDA graphs, of which a stand-in replays the same operations on the same memory


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[FakeGraph]:
    return fake_graphs(monkeypatch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_recipe
def test_a_recorded_step_is_every_step(
    recipe: Recipe, dtype: torch.dtype, graphs: list[FakeGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through several stretches, with losses and norms; the last stretch is shorter."""
    split, found = image_split(dtype=dtype), []
    monkeypatch.setattr(torch_step, "STRETCH", 40)
    for least in (torch_step.RECORDED_FROM, 10**9):
        monkeypatch.setattr(torch_step, "RECORDED_FROM", least)
        state, norms = fresh("masked_dense", dtype), torch.empty(90, dtype=dtype)
        found.append((state, train_steps(state, split, recipe, 90, RATE, norms=norms), norms))
    (state, losses, norms), (other, other_losses, other_norms) = found
    assert [graph.replays for graph in graphs] == [90 - torch_step.WARM_UP]
    assert torch.equal(losses, other_losses) and torch.equal(norms, other_norms)
    assert_same_bits(state, other)


@pytest.mark.parametrize("case", ["l1", "everything"])
def test_a_tile_is_recorded_too(case: str, graphs: list[FakeGraph]) -> None:
    states, rates = pool(case, "masked_dense")
    recipe, split = CASES[case][3], train_split(CASES[case][2])
    together, plain = Cohort(states, rates), Cohort(states, rates)
    losses = together.train(split, recipe, 35, FACTOR)
    assert [graph.replays for graph in graphs] == [35 - torch_step.WARM_UP]
    others = [plain.train(split, recipe, 5, FACTOR) for _ in range(7)]
    assert len(graphs) == 1, "five steps are too few"
    assert torch.equal(losses, torch.cat(others, dim=1))
    for place in range(len(states)):
        assert_same(together.take(place), plain.take(place))


def test_what_cannot_be_recorded_is_launched_step_by_step(
    graphs: list[FakeGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording: Any = torch.cuda.graph
    state, plain = fresh("masked_dense"), fresh("masked_dense")

    @contextmanager
    def failing(graph: FakeGraph, stream: FakeStream) -> Iterator[None]:
        with recording(graph, stream):
            yield
        raise RuntimeError("CUDA error: operation not permitted\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(torch.cuda, "graph", failing)
    with pytest.warns(UserWarning, match="could be recorded: CUDA error: operation not permitted$"):
        losses = train_steps(state, image_split(), RICH, 40, RATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        others = [train_steps(plain, image_split(), RICH, 20, RATE) for _ in range(2)]
    assert torch.equal(losses, torch.cat(others))
    assert_same_bits(state, plain)


def test_nothing_is_recorded_off_a_gpu() -> None:
    assert not torch_step._is_recordable(fresh("masked_dense").network)


# --- the scaling goes where the pixels do


def test_a_split_takes_its_scaling_along() -> None:
    moved = pixels("meta")
    assert moved.scaling is not None
    assert {moved.stored.device.type, moved.scaling.offset.device.type, moved.scaling.scale.device.type} == {
        "meta"
    }
    train_steps(fresh("sparse_rows"), pixels("cpu"), RICH, 2, constant(1e-2))
