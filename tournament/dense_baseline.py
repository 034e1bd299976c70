"""The dense baseline of a grown network: of about its size, trained on the same batches for as many steps."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from structnet.errors import WorkFailed
from structnet.network.topology import dense_architecture
from structnet.training.recipe import Recipe
from tournament.coordinator import Result
from tournament.observer import Observer
from tournament.settings import Settings
from tournament.workers.fork import Measured
from tournament.workers.pool import Aside, Job, Outcome, Pool
from tournament.workers.work import TrainDense

# Shares of the line's rate: one that suits a sparse network can be too high for a dense one.
RATES = (1.0, 0.25)
Measures = tuple[Measured, Measured]


class DenseBaseline(NamedTuple):
    """architecture: one hidden group. measured, test: on validation and test."""

    architecture: tuple[int, ...]
    measured: Measured
    test: Measured


class BaselineAhead(Observer):
    """Begins the baseline when growth ends, beside the final phase, of which one worker is enough.

    What it will be is known then: what the final phase is to leave, and when. Where that turns out otherwise, what was
    begun is of no use.
    """

    def __init__(self, ends: tuple[int, int], settings: Settings, workers: Pool) -> None:
        """ends: inputs and classes. settings: those of the tournament, fitted."""
        self._ends = ends
        self._settings, self._workers = settings, workers
        self._begun: tuple[list[Job[Measures]], Aside[Measures]] | None = None

    def growth_ended(self, parameters: int, step: int) -> None:
        """Begins."""
        jobs = _jobs(dense_architecture(self._ends, parameters), self._settings.recipe, self._settings, step)
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


def train_dense_baseline(
    result: Result, settings: Settings, workers: Pool, ahead: BaselineAhead | None = None
) -> DenseBaseline:
    """Trains it at two rates; the one that does better on validation counts.

    settings: those of the tournament, fitted. ahead: that watched it. Raises structnet.errors.WorkFailed if neither
    training ends.
    """
    architecture = dense_architecture(result.network.architecture, result.network.parameter_count)
    recipe = result.progress.trained_by(settings.recipe)
    jobs = _jobs(architecture, recipe, settings, result.progress.step)
    outcomes = (ahead.outcomes(jobs) if ahead else None) or workers.run(jobs)
    finished = [outcome.report for outcome in outcomes if not outcome.error and outcome.report]
    if not finished:
        raise WorkFailed(f"the dense baseline failed: {outcomes[0].error}")
    return DenseBaseline(architecture, *max(finished, key=lambda measures: measures[0].accuracy))


def _jobs(
    architecture: tuple[int, ...], recipe: Recipe, settings: Settings, steps: int
) -> list[Job[Measures]]:
    # Rates by age are for what grows: a dense network has nothing new.
    plain = replace(recipe, rates=None)
    return [Job(TrainDense(architecture, plain, steps, share * settings.learning_rate)) for share in RATES]
