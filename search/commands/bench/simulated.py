"""Work without training, for measuring what everything around it costs: blocks that sleep, forks that are made up.

All else is as it is: a simulated block writes rows, snapshots and checkpoints where a real one does, a simulated fork
comes back with as many bits and as large a state. Numbers are drawn, but the same every time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import torch

from structnet.data.dataset import Dataset, Split
from structnet.network.architecture import hidden_units
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.training.cohort import CohortEvaluation
from structnet.training.recipe import Recipe
from structnet.trials.cohort import STRETCH_SECONDS, CohortWork
from structnet.trials.grid import Member
from tournament.workers.contender import Contender, Work
from tournament.workers.fork import Arrays, ForkReport, Measured
from tournament.workers.work import RunForks

R = TypeVar("R")

SHAPE, CLASSES = (1, 28, 28), 10
# What a block of BLOCK_COST takes on one core, about: a simulated one is so much shorter, and so are its stretches.
BLOCK_SECONDS = 30.0
SNAPSHOT_DENSITY = 0.01


def noise(train: int, validation: int, test: int) -> Dataset:
    """Images of the shape of MNIST without anything to learn."""
    rng = np.random.default_rng(0)

    def split(images: int) -> Split:
        pixels = torch.from_numpy(rng.random((images, *SHAPE), dtype=np.float32))
        return Split(pixels, torch.from_numpy(rng.integers(0, CLASSES, images)))

    names = tuple(str(label) for label in range(CLASSES))
    return Dataset("noise", split(train), split(validation), split(test), CLASSES, names, {})


class SimulatedCohort:
    """What CohortWork asks of a Cohort. An epoch of all members takes `seconds`, asleep."""

    def __init__(self, members: Sequence[Member], seconds: float, step: int = 0) -> None:
        self.members, self.seconds, self.step = list(members), seconds, step
        self.rng = np.random.default_rng(self.members[0].rng_seed)
        self.parameters = np.array([round(one.density * one.possible) + one.units for one in members])

    @property
    def bytes(self) -> list[int]:
        """About what networks of these sizes take."""
        return [5 * count for count in self.parameters.tolist()]

    @property
    def macs(self) -> list[int]:
        """About the multiply-adds of an image through them."""
        found: list[int] = self.parameters.tolist()
        return found

    @property
    def topologies(self) -> list[Member]:
        """Of a topology only its density is asked for, and a member has that."""
        return self.members

    def train(
        self, split: Split, recipe: Recipe, steps: int, schedule: Callable[[int], float]
    ) -> torch.Tensor:
        """Sleeps, and makes up a loss for each member."""
        time.sleep(self.seconds)
        self.step += steps
        return torch.from_numpy(self.rng.uniform(0.1, 2.3, (len(self.members), 1)))

    def evaluate(self, split: Split) -> CohortEvaluation:
        """Makes up losses and accuracies."""
        count = len(self.members)
        accuracy = self.rng.uniform(0.1, 0.98, count)
        return CohortEvaluation(self.rng.uniform(0.1, 2.3, count), accuracy, accuracy, np.empty((count, 0)))

    def unhealthy_units(self, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Makes up how many hidden units are saturated, and how many dead."""
        hidden = np.array([hidden_units(member.architecture) for member in self.members])
        return self.rng.integers(0, hidden // 4 + 1), self.rng.integers(0, hidden // 4 + 1)

    def diverged(self) -> np.ndarray:
        """None ever does."""
        return np.zeros(len(self.members), dtype=bool)

    def take(self, member: int) -> TrainState:
        """A small network whichever it is: the workers of a benchmark share a few cores, those of a cluster do not."""
        return TrainState.fresh(StructNet([self.members[member].architecture[0], CLASSES], SNAPSHOT_DENSITY))

    def keep(self, members: Iterable[int]) -> SimulatedCohort:
        """A cohort of these members only."""
        return SimulatedCohort([self.members[index] for index in members], self.seconds, self.step)

    def to_arrays(self) -> dict[str, Any]:
        """Hardly anything: a checkpoint is written by the worker, and the driver never looks into it."""
        unknown = dict.fromkeys(("activation", "kernel", "optimizer_step", "optimizer_options"))
        return {**unknown, "step": self.step, "parameters": self.parameters}


def stretch_epochs(epochs: int) -> int:
    """How many epochs of a block that takes BLOCK_SECONDS make a stretch."""
    return math.ceil(STRETCH_SECONDS / (BLOCK_SECONDS / epochs))


class SimulatedWork(CohortWork):
    """A block of which everything is real but the cohort. options["delay"]: seconds that it sleeps in all.

    It reports as often as a block that takes BLOCK_SECONDS.
    """

    def _start(self) -> None:
        self.alive = list(range(len(self.block.members)))
        seconds = float(self.options["delay"]) / self.epochs
        self.cohort = SimulatedCohort(self.block.members, seconds)  # type: ignore[assignment]

    def _is_stretch(self, seconds: float) -> bool:
        return self.epoch % stretch_epochs(self.epochs) == 0


class SimulatedContender(Contender):
    """A contender whose forks are done at once: measured on as many images, with the state that they began with."""

    def do(self, work: Work[R], states: Sequence[Arrays]) -> tuple[R, Sequence[Arrays | None]]:
        """Makes up the reports of forks; all other work is done as it is."""
        if not isinstance(work, RunForks):
            return super().do(work, states)
        rng = np.random.default_rng(len(work.forks))
        images = len(self.splits["validation"])
        reports = [
            ForkReport(Measured(0.5, 1.0, rng.normal(-1, 0.3, images)), 0.0, self.name) for _ in work.forks
        ]
        return cast(R, reports), [dict(states[which]) for which, _ in work.forks]
