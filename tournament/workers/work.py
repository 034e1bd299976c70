"""What a tournament asks of its contenders: one small dataclass for each kind of work, and what it reports.

Each runs a function of `tournament.workers.fork` on the dataset of a contender. States go in and out as arrays of their
own, beside the report, so that a pool can leave them where they are made.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from structnet.actions.base import Proposal
from structnet.experiments.baselines import Rigl, evolve_steps
from structnet.growth.scales import pruned, refine_input
from structnet.growth.triggers import Watches
from structnet.growth.utilisation import Utilisation, utilisation
from structnet.measure.answers import Answers, answers_of
from structnet.network.state import TrainState
from structnet.training.evaluation import evaluate
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine
from structnet.training.shrinking import Shrinking
from tournament.workers import fork, fork_cohorts
from tournament.workers.contender import Contender
from tournament.workers.fork import Arrays, ForkReport, Measured, Shrunk, Survey, SurveyPlan

Made = Sequence[Arrays | None]


@dataclass(frozen=True)
class TrainLine:
    """Trains the winning line on, at a constant rate. Reports (measure, what its trigger watches at every step)."""

    recipe: Recipe
    steps: int
    rate: float
    with_probe: bool = False
    watches: Watches = "loss"
    name: ClassVar[str] = "train_line"
    makes: ClassVar[int] = 1

    def run(
        self, contender: Contender, states: Sequence[Arrays]
    ) -> tuple[tuple[Measured, list[float]], Made]:
        (state,) = states
        shape = state["architecture"]
        measured, series, trained = fork.train_line(
            state,
            contender.split("train", shape),
            contender.split("validation", shape),
            contender.recipe(self.recipe, shape),
            self.steps,
            self.rate,
            self.with_probe,
            self.watches,
        )
        return (measured, series), [trained]


@dataclass(frozen=True)
class MakeSurvey:
    """Diagnoses the winning line and screens its growth sites. Reports what a round may choose from."""

    recipe: Recipe
    plan: SurveyPlan
    name: ClassVar[str] = "survey"
    makes: ClassVar[int] = 0

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[Survey, Made]:
        (state,) = states
        shape = state["architecture"]
        recipe = contender.recipe(self.recipe, shape)
        return fork.survey(state, contender.split("train", shape), recipe, self.plan), []


@dataclass(frozen=True)
class RunForks:
    """Starts and trains forks, as many as fit as one cohort; what fails is a report with an error and no state.

    forks: (which of the states, proposal). All states have the same inputs.
    """

    forks: tuple[tuple[int, Proposal | None], ...]
    recipe: Recipe
    steps: int
    rate: float
    with_probe: bool = False
    name: ClassVar[str] = "run_forks"

    @property
    def makes(self) -> int:
        return len(self.forks)

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[list[ForkReport], Made]:
        shape = states[0]["architecture"]
        results = fork_cohorts.run_forks(
            [(states[which], proposal) for which, proposal in self.forks],
            contender.split("train", shape),
            contender.split("validation", shape),
            contender.recipe(self.recipe, shape),
            self.steps,
            self.rate,
            self.with_probe,
            contender.name,
        )
        return [report for report, _ in results], [state for _, state in results]


@dataclass(frozen=True)
class Shrink:
    """A stretch of so many steps of the final phase. rate: of the whole phase, at its beginning.

    widths: as in structnet.growth.room.
    """

    recipe: Recipe
    shrinking: Shrinking
    steps: int
    rate: float
    widths: tuple[int, ...] = ()
    with_probe: bool = False
    name: ClassVar[str] = "shrink"
    makes: ClassVar[int] = 1

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[Shrunk, Made]:
        (state,) = states
        shape = state["architecture"]
        report, shrunk = fork.shrink(
            state,
            contender.split("train", shape),
            contender.split("validation", shape),
            contender.recipe(self.recipe, shape),
            self.shrinking,
            self.steps,
            self.rate,
            self.widths,
            self.with_probe,
        )
        return report, [shrunk]


@dataclass(frozen=True)
class Refine:
    """Gives a network finer images by this factor and prunes what is above `most` parameters, least worth first."""

    factor: int
    most: int
    with_probe: bool = False
    name: ClassVar[str] = "refine"
    makes: ClassVar[int] = 1

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[Measured, Made]:
        line = TrainState.from_arrays(states[0], contender.device)
        channels, height, width = contender.split("train", line.network.topology.architecture).shape
        refined = line.edited(refine_input(line.network, channels, height, width, self.factor))
        line = pruned(refined, self.most)
        validation = contender.split("validation", line.network.topology.architecture)
        return fork.measure(line, validation, with_probe=self.with_probe), [line.to_arrays()]


@dataclass(frozen=True)
class Measure:
    """The network on one split: train, validation or test."""

    split: str
    with_probe: bool = False
    name: ClassVar[str] = "measure"
    makes: ClassVar[int] = 0

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[Measured, Made]:
        line = TrainState.from_arrays(states[0], contender.device)
        seen = contender.split(self.split, line.network.topology.architecture)
        return fork.measure(line, seen, with_probe=self.with_probe), []


@dataclass(frozen=True)
class Answer:
    """What the network says of every image of one split: train, validation or test."""

    split: str
    name: ClassVar[str] = "answer"
    makes: ClassVar[int] = 0

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[Answers, Made]:
        network = TrainState.from_arrays(states[0], contender.device).network
        seen = contender.split(self.split, network.topology.architecture)
        found = evaluate(network, seen, with_logits=True)
        assert found.logits is not None
        return answers_of(found.logits), []


@dataclass(frozen=True)
class CountUnhealthy:
    """How many units of each group are saturated, and how many dead, on training images drawn by this seed."""

    rng_seed: int
    name: ClassVar[str] = "count_unhealthy"
    makes: ClassVar[int] = 0

    def run(
        self, contender: Contender, states: Sequence[Arrays]
    ) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], Made]:
        line = TrainState.from_arrays(states[0], contender.device)
        train = contender.split("train", line.network.topology.architecture)
        return fork.count_unhealthy(line, train, self.rng_seed), []


@dataclass(frozen=True)
class MeasureUtilisation:
    """What is left of the growths of these steps, and what it is worth on the validation set."""

    growths: tuple[int, ...]
    name: ClassVar[str] = "utilisation"
    makes: ClassVar[int] = 0

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[list[Utilisation], Made]:
        line = TrainState.from_arrays(states[0], contender.device)
        validation = contender.split("validation", line.network.topology.architecture)
        return utilisation(line, validation, self.growths), []


@dataclass(frozen=True)
class TrainDense:
    """A dense network from the beginning, annealed. Reports its measures on (validation, test)."""

    architecture: tuple[int, ...]
    recipe: Recipe
    steps: int
    rate: float
    name: ClassVar[str] = "train_dense"
    makes: ClassVar[int] = 0

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[tuple[Measured, Measured], Made]:
        measures = fork.train_dense(
            self.architecture,
            contender.splits["train"],
            contender.splits["validation"],
            contender.splits["test"],
            self.recipe,
            self.steps,
            self.rate,
        )
        return measures, []


@dataclass(frozen=True)
class Evolved:
    """What came of a training whose connections move. measured, test: on validation and test.

    parameters: at the end. parameter_steps: the parameter count summed over the steps.
    """

    measured: Measured
    test: Measured
    parameters: int
    parameter_steps: int


@dataclass(frozen=True)
class TrainRigl:
    """RigL (Evci et al. 2020) with so many parameters from the beginning, annealed. Reports what came of it.

    architecture: the groups that its connections move in. rate: at the beginning.
    """

    architecture: tuple[int, ...]
    parameters: int
    recipe: Recipe
    steps: int
    rate: float
    name: ClassVar[str] = "train_rigl"
    makes: ClassVar[int] = 0

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[Evolved, Made]:
        method = Rigl(self.architecture, self.parameters, self.steps, self.recipe.rng_seed)
        line = TrainState.fresh(method.start().to(contender.device))
        falling = cosine(self.rate, 0, self.steps)
        train = contender.splits["train"]
        line, _, spent = evolve_steps(line, method, train, self.recipe, self.steps, falling)
        measured, test = (fork.measure(line, contender.splits[split]) for split in ("validation", "test"))
        return Evolved(measured, test, line.network.parameter_count, spent.parameter_steps), []


@dataclass(frozen=True)
class TellProcess:
    """The id of the process that a contender is in."""

    name: ClassVar[str] = "process_id"
    makes: ClassVar[int] = 0

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[int, Made]:
        return os.getpid(), []
