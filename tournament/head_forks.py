"""Forks of a model with attention heads on Ray workers: a task each, which comes back as it would from this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray
import torch
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from structnet.data.dataset import Dataset
from structnet.data.packing import unpack
from structnet.heads.contest import Fork, Heat, Trained, failed, run_fork
from structnet.heads.training import HeadState

RETRIES = 3


def fork_task(
    packed: Mapping[str, np.ndarray], device: str, state: HeadState, fork: Fork, heat: Heat
) -> Trained:
    """What a worker does; packed: the dataset, as it lies in the object store."""
    torch.set_num_threads(1)
    splits = unpack(packed, device)
    return run_fork(state, fork, heat, splits["train"], splits["validation"])


class RayForks:
    """Runs the forks of a heat side by side (structnet.heads.contest.RunForks).

    packed: a handle to the dataset. Inside a trial of Tune the tasks take the shares that its placement group has for
    them. A worker that dies is replaced; a fork that fails on its retries too is failed, and the others go on.
    """

    def __init__(
        self, packed: ray.ObjectRef[Any], device: str, *, cpus: float = 1.0, gpus: float = 0.0
    ) -> None:
        self.packed, self.device = packed, device
        group = ray.util.get_current_placement_group()
        strategy = PlacementGroupSchedulingStrategy(group) if group else None
        self.task = ray.remote(fork_task).options(
            num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, scheduling_strategy=strategy
        )

    def __call__(self, state: HeadState, forks: Sequence[Fork], heat: Heat, data: Dataset) -> list[Trained]:
        """What came of each, in their order."""
        shared = ray.put(state)
        handles = [self.task.remote(self.packed, self.device, shared, fork, heat) for fork in forks]
        return [self._result(handle, fork) for handle, fork in zip(handles, forks)]

    def _result(self, handle: ray.ObjectRef[Any], fork: Fork) -> Trained:
        try:
            found: Trained = ray.get(handle)
        except ray.exceptions.RayTaskError as error:
            return failed(fork, error.cause)
        except ray.exceptions.RayError as error:
            return failed(fork, error)
        return found
