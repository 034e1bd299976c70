"""Contender: holds the dataset on its device between rounds and does the work of tournament.workers.fork.

A plain class: the tests call it directly, `tournament.workers.pool` puts a Ray actor around it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from structnet.actions.base import Proposal
from structnet.data.datasets import Dataset, Split
from structnet.growth.scales import pooled_split, refine_input, sold, zoom
from structnet.growth.triggers import Watches
from structnet.growth.utilisation import Utilisation, utilisation
from structnet.network.state import TrainState
from structnet.training.loop import Recipe
from structnet.training.shrinking import Shrinking
from tournament.workers import fork, fork_cohorts
from tournament.workers.fork import Arrays, Measured, Report, Survey

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
    """Does one piece of work at a time.

    Every method returns (report, state arrays or None); `run_forks` a list of each. A network of fewer inputs than the
    images have pixels sees them average-pooled.
    """

    def __init__(self, packed: dict[str, np.ndarray], device: str = "cpu", name: str = "contender-0") -> None:
        # One thread per worker: small sparse products lose more to starting threads than they win, and one
        # thread gives the same sums on every machine and with any number of workers.
        torch.set_num_threads(1)
        self.name = name
        self.splits = unpack(packed, device)
        self._pooled: dict[tuple[str, int], Split] = {}

    def _split(self, name: str, architecture: Sequence[int]) -> Split:
        """A split as a network of these groups sees it; pooled once for every resolution."""
        split = self.splits[name]
        factor = zoom(split.images.shape[1:], architecture[0])
        if factor == 1:
            return split
        if (name, factor) not in self._pooled:
            self._pooled[name, factor] = pooled_split(split, factor)
        return self._pooled[name, factor]

    def _recipe(self, recipe: Recipe, architecture: Sequence[int]) -> Recipe:
        """The recipe at the resolution of such a network: shifts are told in pixels of the data."""
        return replace(
            recipe, shift=recipe.shift // zoom(self.splits["train"].images.shape[1:], architecture[0])
        )

    def train_line(
        self,
        state: Arrays,
        recipe: Recipe,
        steps: int,
        rate: float,
        with_probe: bool,
        watches: Watches = "loss",
    ) -> Result:
        """((measure, series of what the trigger watches), state) after training on at a constant rate."""
        shape = state["architecture"]
        train, validation = self._split("train", shape), self._split("validation", shape)
        measured, series, arrays = fork.train_line(
            state, train, validation, self._recipe(recipe, shape), steps, rate, with_probe, watches
        )
        return (measured, series), arrays

    def survey(self, state: Arrays, recipe: Recipe, options: dict[str, Any]) -> tuple[Survey, None]:
        """What a round may choose from."""
        shape = state["architecture"]
        return fork.survey(state, self._split("train", shape), self._recipe(recipe, shape), **options), None

    def run_forks(
        self,
        forks: Sequence[tuple[int, Proposal | None]],
        recipe: Recipe,
        steps: int,
        rate: float,
        with_probe: bool,
        *states: Arrays,
    ) -> tuple[list[Report], list[dict[str, Any] | None]]:
        """(reports, states) of forks, as many as fit as one cohort; what fails is a report with an error.

        forks: (which of the states, proposal). All states have the same inputs.
        """
        shape = states[0]["architecture"]
        results = fork_cohorts.run_forks(
            [(states[which], proposal) for which, proposal in forks],
            self._split("train", shape),
            self._split("validation", shape),
            self._recipe(recipe, shape),
            steps,
            rate,
            with_probe,
            self.name,
        )
        return [report for report, _ in results], [state for _, state in results]

    def shrink(self, state: Arrays, recipe: Recipe, shrinking: Shrinking, options: dict[str, Any]) -> Result:
        """((measure, parameter-steps, most parameters), state) after a stretch of the final phase."""
        shape = state["architecture"]
        train, validation = self._split("train", shape), self._split("validation", shape)
        measured, spent, largest, arrays = fork.shrink(
            state, train, validation, self._recipe(recipe, shape), shrinking, **options
        )
        return (measured, spent, largest), arrays

    def refine(self, state: Arrays, factor: int, most: int, with_probe: bool = False) -> Result:
        """(measure, state) on images finer by this factor.

        What is above `most` parameters is sold, connections of least worth first.
        """
        line = TrainState.from_arrays(state, self.splits["train"].labels.device)
        channels, height, width = self._split("train", line.network.architecture).images.shape[1:]
        line = sold(line.edited(refine_input(line.network, channels, height, width, factor)), most)
        validation = self._split("validation", line.network.architecture)
        return fork.measure(line, validation, with_probe=with_probe), line.to_arrays()

    def measure(self, state: Arrays, split: str, with_probe: bool = False) -> tuple[Measured, None]:
        """The network on one split."""
        line = TrainState.from_arrays(state, self.splits[split].labels.device)
        seen = self._split(split, line.network.architecture)
        return fork.measure(line, seen, with_probe=with_probe), None

    def utilisation(self, state: Arrays, steps: Sequence[int]) -> tuple[list[Utilisation], None]:
        """What is left of the growths of these steps, and what it is worth on the validation set."""
        line = TrainState.from_arrays(state, self.splits["train"].labels.device)
        return utilisation(line, self._split("validation", line.network.architecture), steps), None

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
