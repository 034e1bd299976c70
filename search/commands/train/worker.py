"""What every worker of `structnet train` does: its part of every batch, an epoch at a time.

Worker 0 alone measures, writes the rows of the epochs and keeps a snapshot of the last two: what a restart of the
workers, or `--resume`, goes on from. Ray Train itself stores nothing of the network.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray.train
import torch
from ray.train.torch import get_device

from structnet.data.dataset import Dataset, Split
from structnet.data.packing import unpack
from structnet.errors import UserError
from structnet.network.state import TrainState
from structnet.storage.snapshot import list_snapshots, load_snapshot, remove_snapshot, save_snapshot
from structnet.storage.tables import TableWriter
from structnet.training.batches import steps_per_epoch
from structnet.training.data_parallel import Share, agree, train_shared_steps
from structnet.training.evaluation import evaluate
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine
from tournament.workers.cluster import cap_gpu_memory

NETWORK = "train"
KEPT = 2


@dataclass(frozen=True)
class Plan:
    """The training of one network: a cosine over all epochs. results and folder: where rows and snapshots go."""

    epochs: int
    learning_rate: float
    recipe: Recipe
    results: str
    experiment: str
    folder: str
    device: str
    gpus_per_worker: float


def newest_state(folder: str, per_epoch: int | None = None) -> TrainState | None:
    """The newest snapshot that can be read, or None; one that was cut short is passed over.

    per_epoch: steps of an epoch from here on. A snapshot of an epoch of fewer, larger batches is then at the step at
    which that epoch ends with these, so that what is left to train is as many passes as before.
    """
    for name in reversed(list_snapshots(folder)):
        try:
            state = load_snapshot(f"{folder}/{name}").state
        except UserError:
            continue
        if per_epoch is not None:
            state.step = int(name.rpartition("-")[2]) * per_epoch
        return state
    return None


def train_loop(plan: Plan, start: list[Any], packed: list[Any], about: dict[str, Any]) -> None:
    """Trains from the newest snapshot, or from `start`, to the end.

    start: a handle to the arrays of a TrainState, in a list so that it travels as a handle. packed: the same for the
    dataset. about: the rest of the dataset.
    """
    torch.set_num_threads(1)
    cap_gpu_memory(plan.device, plan.gpus_per_worker)
    context = ray.train.get_context()
    share = Share(context.get_world_rank(), context.get_world_size())
    device = get_device() if plan.device.startswith("cuda") else torch.device("cpu")
    splits: dict[str, Any] = unpack(ray.get(packed[0]), str(device))
    data = Dataset(**about, **splits)
    state = TrainState.from_arrays(ray.get(start[0]), device)
    per_epoch = steps_per_epoch(len(data.train), plan.recipe.batch_size)
    if share.rank == 0 and (found := newest_state(plan.folder, per_epoch)):
        state = TrainState.from_arrays(found.to_arrays(), device)
    agree(state)
    while state.step < plan.epochs * per_epoch:
        _epoch(state, data, plan, share, per_epoch)


def _epoch(state: TrainState, data: Dataset, plan: Plan, share: Share, steps: int) -> None:
    """One pass over the training images; the others wait while worker 0 measures and writes."""
    began = time.perf_counter()
    falling = cosine(plan.learning_rate, 0, plan.epochs * steps)
    losses = train_shared_steps(state, data.train, plan.recipe, steps, falling, share)
    epoch = state.step // steps
    if share.rank == 0:
        row = _measured(state, data.validation, epoch, losses, falling(state.step - 1))
        row["seconds"] = time.perf_counter() - began
        # The row first: who dies before the snapshot trains the epoch again and writes the same row.
        TableWriter(plan.results, plan.experiment).write("epochs", f"epoch-{epoch:05d}", [row])
        _keep(state, data, plan, epoch)
    ray.train.report({"epoch": epoch})


def _measured(
    state: TrainState, validation: Split, epoch: int, losses: torch.Tensor, rate: float
) -> dict[str, Any]:
    found = evaluate(state.network, validation)
    return {
        "trial": "",
        "network": NETWORK,
        "epoch": epoch,
        "parameters": state.network.parameter_count,
        "learning_rate": rate,
        "train_loss": float(np.mean(losses.tolist())),
        "loss": found.loss,
        "accuracy": found.accuracy,
    }


def _keep(state: TrainState, data: Dataset, plan: Plan, epoch: int) -> None:
    save_snapshot(
        f"{plan.folder}/epoch-{epoch:05d}",
        state,
        preprocessing=data.preprocessing,
        class_names=data.class_names,
    )
    for name in list_snapshots(plan.folder)[:-KEPT]:
        remove_snapshot(f"{plan.folder}/{name}")
