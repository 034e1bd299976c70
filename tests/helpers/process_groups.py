"""Processes that compute together, each begun by one that has imported torch and what trains."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import set_forkserver_preload
from pathlib import Path

from torch.multiprocessing.spawn import start_processes

# What takes seconds of each process otherwise, the parts that others import late included.
IMPORTED = [
    "hypothesis",
    "pytest",
    "scipy.linalg",
    "structnet.compiled.step",
    "structnet.compiled.tap_step",
    "structnet.training.data_parallel",
    "torch._dynamo",
]


def run_together(worker: Callable[[int, str], None], folder: Path, processes: int) -> None:
    """worker(rank, folder) in each of so many processes; raises what one of them does."""
    set_forkserver_preload(IMPORTED)
    start_processes(worker, (str(folder),), nprocs=processes, start_method="forkserver")
