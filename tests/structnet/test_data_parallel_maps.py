"""Feature maps trained by several processes: parts are whole blocks, so that all is what one process would come to."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers.map_networks import random_map_network
from helpers.process_groups import run_together
from helpers.training_cases import image_split
from hypothesis import given
from hypothesis import strategies as st

from structnet.errors import UserError
from structnet.network.architecture import Architecture
from structnet.network.block_normalisation import BLOCK, block_width
from structnet.network.state import TrainState
from structnet.training.data_parallel import (
    Share,
    agree,
    check_blocks,
    check_share,
    train_shared_steps,
)
from structnet.training.loop import train_steps
from structnet.training.members import alone
from structnet.training.rates import AgeRates
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant

torch.set_num_threads(1)

WORKERS, STEPS, IMAGES = 2, 8, 140
NOISE = {"input_dropout": 0.2, "shift": 1, "flip": True}
RATES = AgeRates(matures_after=4, freezes_after=9)
# In four blocks of 32, four of 25, and two of 17 and 16 images.
BATCHES = (128, 100, 33)
KERNELS = ("auto", "masked_dense")
SHAPE = Architecture((1, 3, 2, 3), ((4, 4), (4, 4), (2, 2), (1, 1)), flat=[2])


def recipe(batch: int) -> Recipe:
    return Recipe(batch, l1=1e-3, rates=RATES, rng_seed=3, weight_decay=0.5, **NOISE)


def fresh(kernel: str, *, normalised: bool = True) -> TrainState:
    network = random_map_network(
        np.random.default_rng(0), SHAPE, normalised=normalised, share=0.6, kernel=kernel, dtype=torch.float64
    )
    return TrainState.fresh(network)


def numbers(state: TrainState) -> np.ndarray:
    """All that training changes."""
    kept = state.network.statistics
    parts = [state.network.values.detach(), state.optimizer.first, state.optimizer.second]
    return torch.cat([*parts, *([] if kept is None else [kept.view(-1)])]).numpy()


def worker(rank: int, folder: str) -> None:
    """What one process computes, left behind as arrays."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORKERS)
    share, split = Share(rank, WORKERS), image_split(IMAGES, dtype=torch.float64)
    found: dict[str, np.ndarray] = {}
    for kernel in KERNELS:
        for batch in BATCHES:
            state = fresh(kernel)
            losses = train_shared_steps(state, split, recipe(batch), STEPS, constant(0.01), share)
            found[f"{kernel} {batch}"], found[f"{kernel} {batch} losses"] = numbers(state), losses.numpy()
        few = fresh(kernel)
        train_shared_steps(few, image_split(8, dtype=torch.float64), recipe(128), 3, constant(0.01), share)
        found[f"{kernel} few"] = numbers(few)
        plain = fresh(kernel, normalised=False)
        train_shared_steps(plain, split, recipe(20), 3, constant(0.01), share)
        found[f"{kernel} plain"] = numbers(plain)
    other = fresh("auto")
    train_steps(other, split, recipe(20), 2 + rank, constant(0.01))
    agree(other)
    found["agreed"] = numbers(other)
    np.savez(f"{folder}/{rank}.npz", **found)
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    folder: Path = tmp_path_factory.mktemp("processes")
    run_together(worker, folder, WORKERS)
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(WORKERS)]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("batch", BATCHES)
def test_all_processes_train_the_network_that_one_would(
    found: list[dict[str, np.ndarray]], batch: int, kernel: str
) -> None:
    """Its statistics included."""
    state, split = fresh(kernel), image_split(IMAGES, dtype=torch.float64)
    losses = train_steps(state, split, recipe(batch), STEPS, constant(0.01))
    for process in found:
        np.testing.assert_allclose(process[f"{kernel} {batch}"], numbers(state), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(process[f"{kernel} {batch} losses"], losses, rtol=1e-9)
    assert np.array_equal(found[0][f"{kernel} {batch}"], found[1][f"{kernel} {batch}"])


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_process_may_have_no_block(found: list[dict[str, np.ndarray]], kernel: str) -> None:
    """Of a split that is smaller than a batch, and than a block."""
    state = fresh(kernel)
    train_steps(state, image_split(8, dtype=torch.float64), recipe(128), 3, constant(0.01))
    for process in found:
        np.testing.assert_allclose(process[f"{kernel} few"], numbers(state), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_normalising_a_part_is_any_images(found: list[dict[str, np.ndarray]], kernel: str) -> None:
    state = fresh(kernel, normalised=False)
    train_steps(state, image_split(IMAGES, dtype=torch.float64), recipe(20), 3, constant(0.01))
    for process in found:
        np.testing.assert_allclose(process[f"{kernel} plain"], numbers(state), rtol=1e-9, atol=1e-12)


def test_all_processes_go_on_from_the_state_of_the_first(found: list[dict[str, np.ndarray]]) -> None:
    state = fresh("auto")
    train_steps(state, image_split(IMAGES, dtype=torch.float64), recipe(20), 2, constant(0.01))
    for process in found:
        assert np.array_equal(process["agreed"], numbers(state))


@given(st.integers(0, 2**32 - 1), st.sampled_from([33, 64, 100, 129]))
def test_parts_of_a_batch_add_up_to_its_gradient(rng_seed: int, batch: int) -> None:
    """With the noise, and the statistics, that the images have in the whole."""
    network = random_map_network(np.random.default_rng(rng_seed), SHAPE, dtype=torch.float64)
    members, width = alone(TrainState.fresh(network)), block_width(batch)
    split, steps = image_split(IMAGES, dtype=torch.float64), Recipe(batch, **NOISE)
    loss, whole = members.gradient_of_part(split, steps, 7, slice(0, batch))
    bounds = [0, width, batch]
    parts = [
        members.gradient_of_part(split, steps, 7, slice(start, stop)) for start, stop in pairwise(bounds)
    ]
    assert sum(found for found, _ in parts) == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(sum(found for _, found in parts), whole, rtol=1e-12, atol=1e-12)
    behind = 0 if network.statistics is None else 2 * network.topology.bias_count
    assert len(whole) == network.parameter_count + behind


@given(st.integers(1, 300), st.integers(1, 7))
def test_parts_are_whole_blocks_and_all_of_the_batch(images: int, workers: int) -> None:
    width = block_width(images)
    parts = [Share(rank, workers).of(images, width) for rank in range(workers)]
    assert [part.start for part in parts] + [images] == [0] + [part.stop for part in parts]
    for part in parts:
        assert part.start <= part.stop
        assert part.start % width == 0 or part.start == images


def test_a_batch_whose_blocks_cannot_be_shared_is_refused() -> None:
    for batch, workers in ((128, 4), (128, 2), (64, 2), (100, 4), (33, 2)):
        check_blocks(batch, workers)
    with pytest.raises(
        UserError,
        match="batch_size is 96, but feature maps are normalised by blocks of 32 images, and each of the 2 workers "
        "must have as many blocks as the others: take 64",
    ):
        check_blocks(96, 2)
    with pytest.raises(UserError, match=r"by blocks of 12 images, .* 2 workers .*: take 64"):
        check_blocks(12, 2)
    with pytest.raises(UserError, match="must have as many blocks as the others: take 64"):
        train_shared_steps(fresh("auto"), image_split(), Recipe(12), 1, constant(0.01), Share(0, 2))


@given(st.integers(1, 2000), st.integers(1, 9))
def test_what_is_offered_instead_is_accepted(batch: int, workers: int) -> None:
    try:
        check_blocks(batch, workers)
    except UserError as error:
        offered = int(str(error).rpartition("take ")[2])
        assert offered % BLOCK == 0
        check_blocks(offered, workers)
        check_share(offered, workers)


def test_a_network_alone_is_a_process_of_one() -> None:
    """One network of one shape goes through both ways to the same numbers."""
    one, other, split = fresh("auto"), fresh("auto"), image_split(IMAGES, dtype=torch.float64)
    train_steps(one, split, recipe(100), 1, constant(0.01))
    members = alone(other)
    _, gradient = members.gradient_of_part(split, recipe(100), 0, slice(0, 100))
    members.apply_gradient(gradient, recipe(100), 0.01, 0)
    np.testing.assert_allclose(numbers(other), numbers(one), rtol=1e-12, atol=1e-15)
