"""Contender: holds the dataset on its device between rounds and does the work of tournament.fork.

A plain class: the tests call it directly, `tournament.pool` puts a Ray actor around it.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from structnet.actions.base import Proposal
from structnet.data import Dataset, Split
from structnet.errors import one_line
from structnet.shrinking import Shrinking
from structnet.train_state import TrainState
from structnet.training import Recipe
from tournament import fork
from tournament.fork import Arrays, Measured, Report, Survey

Result = tuple[Any, dict[str, Any] | None]
SPLITS = ("train", "validation", "test")


def pack(data: Dataset) -> dict[str, np.ndarray]:
    """A dataset as plain arrays, so that all workers of a machine share one copy in the object store."""
    packed = {}
    for name in SPLITS:
        split = getattr(data, name)
        packed[f"{name}_images"] = split.images.cpu().numpy()
        packed[f"{name}_labels"] = split.labels.cpu().numpy()
    return packed


def unpack(packed: dict[str, np.ndarray], device: str = "cpu") -> dict[str, Split]:
    """The splits of a packed dataset, on a CPU without a copy."""
    with warnings.catch_warnings():
        # Arrays from the object store are read-only; nothing here writes to the images.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {
            split: Split(
                torch.from_numpy(packed[f"{split}_images"]).to(device),
                torch.from_numpy(packed[f"{split}_labels"]).to(device),
            )
            for split in SPLITS
        }


class Contender:
    """Does one piece of work at a time. Every method returns (report, state arrays or None)."""

    def __init__(self, packed: dict[str, np.ndarray], device: str = "cpu", name: str = "contender-0") -> None:
        # One thread per worker: small sparse products lose more to starting threads than they win, and one
        # thread gives the same sums on every machine and with any number of workers.
        torch.set_num_threads(1)
        self.name = name
        self.splits = unpack(packed, device)

    def train_line(self, state: Arrays, recipe: Recipe, steps: int, rate: float, with_probe: bool) -> Result:
        """((measure, losses), state) after training on at a constant rate."""
        measured, losses, arrays = fork.train_line(
            state, self.splits["train"], self.splits["validation"], recipe, steps, rate, with_probe
        )
        return (measured, losses), arrays

    def survey(self, state: Arrays, recipe: Recipe, options: dict[str, Any]) -> tuple[Survey, None]:
        """What a round may choose from."""
        return fork.survey(state, self.splits["train"], recipe, **options), None

    def run_fork(
        self,
        state: Arrays,
        proposal: Proposal | None,
        recipe: Recipe,
        steps: int,
        rate: float,
        with_probe: bool = False,
    ) -> Result:
        """(report, state): a fork that diverges or raises is a report with an error, not a crash."""
        return self._reported(
            lambda: fork.run_fork(
                state,
                proposal,
                self.splits["train"],
                self.splits["validation"],
                recipe,
                steps,
                rate,
                with_probe,
            )
        )

    def shrink(self, state: Arrays, recipe: Recipe, shrinking: Shrinking, options: dict[str, Any]) -> Result:
        """((measure, parameter-steps, most parameters), state) after a stretch of the final phase."""
        measured, spent, largest, arrays = fork.shrink(
            state, self.splits["train"], self.splits["validation"], recipe, shrinking, **options
        )
        return (measured, spent, largest), arrays

    def measure(self, state: Arrays, split: str, with_probe: bool = False) -> tuple[Measured, None]:
        """The network on one split."""
        line = TrainState.from_arrays(state, self.splits[split].labels.device)
        return fork.measure(line, self.splits[split], with_probe=with_probe), None

    def train_dense(
        self, architecture: tuple[int, ...], recipe: Recipe, steps: int, rate: float
    ) -> tuple[tuple[Measured, Measured], None]:
        """The dense opponent on validation and test."""
        train, validation, test = (self.splits[name] for name in SPLITS)
        return fork.train_dense(architecture, train, validation, test, recipe, steps, rate), None

    def echo(self, state: Arrays, rebuild: bool = False) -> tuple[None, Arrays]:
        """The state as it came, or rebuilt and taken apart again: what sending a fork costs."""
        device = self.splits["train"].labels.device
        return None, TrainState.from_arrays(state, device).to_arrays() if rebuild else state

    def process_id(self) -> tuple[int, None]:
        return os.getpid(), None

    def _reported(self, work: Callable[[], tuple[Measured, dict[str, Any]]]) -> Result:
        started = time.perf_counter()
        try:
            measured, arrays = work()
        except Exception as error:  # whatever a fork raises must not end the experiment
            return Report(None, time.perf_counter() - started, self.name, one_line(error)), None
        return Report(measured, time.perf_counter() - started, self.name), arrays
