"""Averaged gradients of several processes, against one process on the joined batch and against torch's own DDP."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers.process_groups import run_together
from helpers.training_cases import image_split
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from structnet import StructNet
from structnet.errors import UserError
from structnet.network.state import TrainState
from structnet.training.augmentation import key_of
from structnet.training.batches import noise_seed, training_batch
from structnet.training.data_parallel import Share, agree, check_share, train_shared_steps
from structnet.training.loop import train_steps
from structnet.training.rates import AgeRates
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant
from structnet.training.torch_step import dropout_of, loss_and_gradient

torch.set_num_threads(1)

WORKERS, STEPS = 2, 12
FEW = 8  # images, fewer than a batch has
# All that an update does, so that what has to be done to the sum and not to the shares is seen.
RECIPE = Recipe(
    batch_size=12,
    l1=1e-3,
    input_dropout=0.2,
    shift=1,
    rates=AgeRates(matures_after=4, freezes_after=9),
    rng_seed=3,
    weight_decay=0.5,
    dropout=0.4,
    flip=True,
)
UNDROPPED = replace(RECIPE, l1=0.0, dropout=0.0)

KERNELS = ["auto", "sparse_rows"]
every_kernel = pytest.mark.parametrize("kernel", KERNELS)


def network(kernel: str = "auto", rng_seed: int = 5) -> StructNet:
    return StructNet([16, 9, 3], 0.4, rng_seed=rng_seed, kernel=kernel).to(torch.float64)


def worker(rank: int, folder: str) -> None:
    """What one process computes, left behind as arrays."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORKERS)
    share, split = Share(rank, WORKERS), image_split(dtype=torch.float64)
    found: dict[str, Any] = {}

    part = share.of(RECIPE.batch_size)
    # What DistributedDataParallel averages: autograd by itself knows of no dropout.
    inputs, labels = training_batch(split, UNDROPPED, 0, part)
    model = DistributedDataParallel(network())
    cross_entropy(model(inputs.t()), labels).backward()
    found["ddp"] = model.module.values.grad
    for kernel in KERNELS:
        # Without decay and moments the first moment is the gradient, but for a factor.
        once = TrainState.fresh(network(kernel))
        undropped = TrainState.fresh(network(kernel))
        train_shared_steps(undropped, split, UNDROPPED, 1, constant(0.01), share)
        found[f"{kernel} undropped"] = undropped.optimizer.first / (1 - undropped.optimizer.beta1)
        plain = replace(RECIPE, l1=0.0)
        found[f"{kernel} loss"] = train_shared_steps(once, split, plain, 1, constant(0.01), share)
        found[f"{kernel} gradient"] = once.optimizer.first / (1 - once.optimizer.beta1)

        state = TrainState.fresh(network(kernel))
        found[f"{kernel} losses"] = train_shared_steps(state, split, RECIPE, STEPS, constant(0.01), share)
        found[f"{kernel} values"] = state.network.values.detach()
        found[f"{kernel} steps"] = torch.tensor([state.step, state.optimizer.step])

        few = TrainState.fresh(network(kernel))
        train_shared_steps(few, image_split(FEW, dtype=torch.float64), RECIPE, STEPS, constant(0.01), share)
        found[f"{kernel} few"] = few.network.values.detach()

    other = TrainState.fresh(network())
    train_steps(other, split, RECIPE, 2 + rank, constant(0.01))
    agree(other)
    found["agreed"], found["second"] = other.network.values.detach(), other.optimizer.second
    found["steps"] = torch.tensor([other.step, other.optimizer.step])
    np.savez(f"{folder}/{rank}.npz", **{name: np.asarray(value) for name, value in found.items()})
    dist.barrier()  # on a busy machine the one that ends first would otherwise take the other's connection along
    dist.destroy_process_group()
    os._exit(0)  # DistributedDataParallel keeps the threads of the group, which at times abort an orderly end


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    folder: Path = tmp_path_factory.mktemp("processes")
    run_together(worker, folder, WORKERS)
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(WORKERS)]


@every_kernel
def test_the_gradient_is_that_of_the_joined_batch(found: list[dict[str, np.ndarray]], kernel: str) -> None:
    alone, split = network(), image_split(dtype=torch.float64)
    inputs, labels = training_batch(split, RECIPE, 0)
    dropout = dropout_of(alone, RECIPE, inputs, key_of(noise_seed(RECIPE), 0))
    loss, gradient = loss_and_gradient(alone, alone.values.detach(), inputs, labels, dropout)
    for process in found:
        np.testing.assert_allclose(process[f"{kernel} gradient"], gradient, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(process[f"{kernel} loss"][0], loss, rtol=1e-12)
    # One value for every connection that exists and every bias, and for nothing else.
    assert len(found[0][f"{kernel} gradient"]) == alone.parameter_count < alone.parameters_dense


@every_kernel
def test_the_gradient_is_that_of_distributed_data_parallel(
    found: list[dict[str, np.ndarray]], kernel: str
) -> None:
    for process in found:
        np.testing.assert_allclose(process[f"{kernel} undropped"], process["ddp"], rtol=1e-12, atol=1e-15)


@every_kernel
def test_all_processes_train_the_network_that_one_would(
    found: list[dict[str, np.ndarray]], kernel: str
) -> None:
    state = TrainState.fresh(network(kernel))
    losses = train_steps(state, image_split(dtype=torch.float64), RECIPE, STEPS, constant(0.01))
    for process in found:
        np.testing.assert_allclose(process[f"{kernel} values"], state.network.values.detach(), rtol=1e-9)
        np.testing.assert_allclose(process[f"{kernel} losses"], losses, rtol=1e-9)
        assert process[f"{kernel} steps"].tolist() == [STEPS, STEPS]
    assert np.array_equal(found[0][f"{kernel} values"], found[1][f"{kernel} values"])


def test_all_processes_go_on_from_the_state_of_the_first(found: list[dict[str, np.ndarray]]) -> None:
    state = TrainState.fresh(network())
    train_steps(state, image_split(dtype=torch.float64), RECIPE, 2, constant(0.01))
    for process in found:
        assert np.array_equal(process["agreed"], state.network.values.detach())
        assert np.array_equal(process["second"], state.optimizer.second)
        assert process["steps"].tolist() == [2, 2]


@every_kernel
def test_a_split_smaller_than_a_batch_is_shared_all_the_same(
    found: list[dict[str, np.ndarray]], kernel: str
) -> None:
    """No process reads behind the last image."""
    state = TrainState.fresh(network(kernel))
    train_steps(state, image_split(FEW, dtype=torch.float64), RECIPE, STEPS, constant(0.01))
    for process in found:
        np.testing.assert_allclose(process[f"{kernel} few"], state.network.values.detach(), rtol=1e-9)


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    check_share(128, 4)
    with pytest.raises(
        UserError,
        match="must be a multiple of the 3 workers, so that each has the same part of a batch: take 126",
    ):
        check_share(128, 3)
