"""The opponents of a grown network, trained on the same images: one that is fair, and one that is dense.

- the rival: RigL (Evci et al. 2020) at its size, for the parameter-steps that its whole run took, forks included;
- the dense baseline: a dense network of about its size, for as many steps as the winning line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

from structnet.errors import WorkFailed
from structnet.network.architecture import (
    Architecture,
    architecture_of,
    density_for,
    parameters_dense,
)
from structnet.network.pyramid import dense_architecture
from structnet.network.random_topology import least_density
from structnet.training.recipe import Recipe
from tournament.coordinator import Result
from tournament.final_phase import FULL_SHARE
from tournament.observer import Observer
from tournament.rules.score import policy_named
from tournament.rules.shapes import reference, with_hidden
from tournament.settings import Settings
from tournament.workers.fork import Measured
from tournament.workers.pool import Aside, Job, Outcome, Pool
from tournament.workers.work import Evolved, TrainDense, TrainRigl

# Shares of the line's rate: one that suits a sparse network can be too high for a dense one.
RATES = (1.0, 0.25)
Measures = tuple[Measured, Measured]


class Rival(NamedTuple):
    """architecture: the groups that its connections move in. found: None if it failed; then error says how."""

    architecture: tuple[int, ...]
    found: Evolved | None
    error: str


class DenseBaseline(NamedTuple):
    """architecture: one hidden group, or four of maps. measured, test: on validation and test."""

    architecture: tuple[int, ...]
    measured: Measured
    test: Measured


def rate_for(settings: Settings, architecture: Sequence[int], size: int) -> float:
    """The rate of a static number of parameters: the fewer, the higher, as for the sizes of a path."""
    share = FULL_SHARE * parameters_dense(architecture) / size
    return settings.learning_rate * math.sqrt(max(1.0, share))


def connected_shape(architecture: Sequence[int], size: int) -> Architecture:
    """The architecture, or one of narrower hidden groups: the widest in which `size` parameters connect every unit.

    Idle units take parameters from the others before they are folded away. Digits, validation, 80 parameters, means of
    8 rng_seeds: 86 % in 64-23-10, which is this shape, and 63 % in 64-32-10.
    """
    whole = architecture_of(architecture)
    hidden = whole[1:-1]
    widest = max(hidden)
    for most in range(widest, 1, -1):
        shape = with_hidden(whole, [max(1, units * most // widest) for units in hidden])
        if density_for(shape, size) >= least_density(shape):
            return shape
    return with_hidden(whole, [1 for _ in hidden])


class BaselineAhead(Observer):
    """Begins the baseline when growth ends, beside the final phase, of which one worker is enough.

    What it will be is known then: what the final phase is to leave, and when. Where that turns out otherwise, what was
    begun is of no use.
    """

    def __init__(self, ends: Sequence[int], settings: Settings, workers: Pool) -> None:
        """ends: an architecture with these inputs and classes. settings: those of the tournament, fitted."""
        self._ends = ends
        self._settings, self._workers = settings, workers
        self._begun: tuple[list[Job[Measures]], Aside[Measures]] | None = None

    def growth_ended(self, parameters: int, step: int) -> None:
        """Begins, unless shapes compete: then this is the end of the first of two final phases."""
        if policy_named(self._settings.policy).contests:
            return
        jobs = _dense_jobs(self._ends, parameters, self._settings.recipe, self._settings, step)
        self._begun = jobs, self._workers.aside(jobs)

    def outcomes(self, jobs: list[Job[Measures]]) -> list[Outcome[Measures]] | None:
        """What came of these jobs; None where others were begun, or one failed."""
        if self._begun is None:
            return None
        begun, wait = self._begun
        if begun != jobs:
            return None
        outcomes = wait()
        return None if any(outcome.error for outcome in outcomes) else outcomes


def train_opponents(
    result: Result, settings: Settings, seed: Sequence[int], workers: Pool, ahead: BaselineAhead | None = None
) -> tuple[Rival, DenseBaseline]:
    """Trains both, side by side. A rival that fails loses nothing of the run.

    settings: those of the tournament, fitted. seed: the groups that it began with, at full resolution. ahead: that
    watched it. Raises structnet.errors.WorkFailed if no dense baseline ends.
    """
    rival, jobs = _rival_work(result, settings, seed), _jobs_after(result, settings)
    begun = ahead.outcomes(jobs) if ahead else None
    both: list[Job[Any]] = [Job(rival), *([] if begun else jobs)]
    outcome, *trained = workers.run(both)
    found = None if outcome.error else outcome.report
    return Rival(rival.architecture, found, outcome.error), _better(jobs, begun or trained)


def train_dense_baseline(result: Result, settings: Settings, workers: Pool) -> DenseBaseline:
    """The dense baseline alone; as `train_opponents`."""
    jobs = _jobs_after(result, settings)
    return _better(jobs, workers.run(jobs))


def _rival_work(result: Result, settings: Settings, seed: Sequence[int]) -> TrainRigl:
    """In the usual shape, at a rate that fits the size, and for the cost of the whole run."""
    size = result.network.parameter_count
    shape = connected_shape(reference(architecture_of(seed)), size)
    size = min(size, parameters_dense(shape))
    steps = max(1, round(result.progress.parameter_steps_all / size))
    recipe = _without_ages(result.progress.trained_by(settings.recipe))
    return TrainRigl(shape, size, recipe, steps, rate_for(settings, shape, size))


def _better(jobs: Sequence[Job[Measures]], outcomes: Sequence[Outcome[Measures]]) -> DenseBaseline:
    """Of the rates, the one that does better on validation."""
    finished = [outcome.report for outcome in outcomes if not outcome.error and outcome.report]
    if not finished:
        raise WorkFailed(f"the dense baseline failed: {outcomes[0].error}")
    work = cast(TrainDense, jobs[0].work)
    return DenseBaseline(work.architecture, *max(finished, key=lambda measures: measures[0].accuracy))


def _jobs_after(result: Result, settings: Settings) -> list[Job[Measures]]:
    network, progress = result.network, result.progress
    recipe = progress.trained_by(settings.recipe)
    shape = network.topology.architecture
    return _dense_jobs(shape, network.parameter_count, recipe, settings, progress.step)


def _dense_jobs(
    ends: Sequence[int], parameters: int, recipe: Recipe, settings: Settings, steps: int
) -> list[Job[Measures]]:
    """One for each rate. ends: an architecture with these inputs and classes."""
    shape, plain = dense_architecture(ends, parameters), _without_ages(recipe)
    return [Job(TrainDense(shape, plain, steps, share * settings.learning_rate)) for share in RATES]


def _without_ages(recipe: Recipe) -> Recipe:
    """Rates by age are for what grows: an opponent has one for all."""
    return replace(recipe, rates=None)
