"""Averaged gradients of several processes, against one process on the joined batch and against torch's own DDP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers.training_cases import image_split
from torch.multiprocessing.spawn import spawn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from structnet import StructNet
from structnet.errors import UserError
from structnet.network.state import TrainState
from structnet.training.data_parallel import Share, agree, check_share
from structnet.training.loop import Recipe, constant, loss_and_gradient, train_steps, training_batch

torch.set_num_threads(1)

WORKERS, STEPS = 2, 12
RECIPE = Recipe(batch_size=12, l1=1e-3, input_dropout=0.2, shift=1, rng_seed=3)


def network(rng_seed: int = 5) -> StructNet:
    return StructNet([16, 9, 3], 0.4, rng_seed=rng_seed).to(torch.float64)


def worker(rank: int, folder: str) -> None:
    """What one process computes, left behind as arrays."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORKERS)
    share, split, state = Share(rank, WORKERS), image_split(dtype=torch.float64), TrainState.fresh(network())
    found: dict[str, Any] = {}
    batch = training_batch(split, RECIPE, 0)
    found["loss"], found["gradient"] = share.gradient(state.network, state.network.values.detach(), *batch)

    part = slice(rank * 6, (rank + 1) * 6)
    model = DistributedDataParallel(network())
    cross_entropy(model(batch[0][:, part].t()), batch[1][part]).backward()
    found["ddp"] = model.module.values.grad

    found["losses"] = train_steps(state, split, RECIPE, STEPS, constant(0.01), gradient_of=share.gradient)
    found["values"] = state.network.values.detach()

    other = TrainState.fresh(network())
    train_steps(other, split, RECIPE, 2 + rank, constant(0.01))
    agree(other)
    found["agreed"], found["second"] = other.network.values.detach(), other.optimizer.second
    found["steps"] = torch.tensor([other.step, other.optimizer.step])
    np.savez(f"{folder}/{rank}.npz", **{name: np.asarray(value) for name, value in found.items()})
    dist.barrier()  # on a busy machine the one that ends first would otherwise take the other's connection along
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    folder: Path = tmp_path_factory.mktemp("processes")
    spawn(worker, (str(folder),), nprocs=WORKERS)
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(WORKERS)]


def test_the_gradient_is_that_of_the_joined_batch(found: list[dict[str, np.ndarray]]) -> None:
    alone, split = network(), image_split(dtype=torch.float64)
    loss, gradient = loss_and_gradient(alone, alone.values.detach(), *training_batch(split, RECIPE, 0))
    for process in found:
        np.testing.assert_allclose(process["gradient"], gradient, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(process["loss"], loss, rtol=1e-12)
    # One value for every connection that exists and every bias, and for nothing else.
    assert len(found[0]["gradient"]) == alone.parameter_count < alone.parameters_dense


def test_the_gradient_is_that_of_distributed_data_parallel(found: list[dict[str, np.ndarray]]) -> None:
    for process in found:
        np.testing.assert_allclose(process["gradient"], process["ddp"], rtol=1e-12, atol=1e-15)


def test_all_processes_train_the_network_that_one_would(found: list[dict[str, np.ndarray]]) -> None:
    state = TrainState.fresh(network())
    losses = train_steps(state, image_split(dtype=torch.float64), RECIPE, STEPS, constant(0.01))
    for process in found:
        np.testing.assert_allclose(process["values"], state.network.values.detach(), rtol=1e-9)
        np.testing.assert_allclose(process["losses"], losses, rtol=1e-9)
    assert np.array_equal(found[0]["values"], found[1]["values"])


def test_all_processes_go_on_from_the_state_of_the_first(found: list[dict[str, np.ndarray]]) -> None:
    state = TrainState.fresh(network())
    train_steps(state, image_split(dtype=torch.float64), RECIPE, 2, constant(0.01))
    for process in found:
        assert np.array_equal(process["agreed"], state.network.values.detach())
        assert np.array_equal(process["second"], state.optimizer.second)
        assert process["steps"].tolist() == [2, 2]


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    check_share(128, 4)
    with pytest.raises(
        UserError,
        match="must be a multiple of the 3 workers, so that each has the same part of a batch: take 126",
    ):
        check_share(128, 3)
