"""The dense baseline of a grown network: of about its size, trained on the same batches for as many steps."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from structnet.errors import WorkFailed
from structnet.network.topology import dense_architecture
from tournament.coordinator import Result
from tournament.settings import Settings
from tournament.workers.fork import Measured
from tournament.workers.pool import Job, Pool
from tournament.workers.work import TrainDense

# Shares of the line's rate: one that suits a sparse network can be too high for a dense one.
RATES = (1.0, 0.25)


class DenseBaseline(NamedTuple):
    """architecture: one hidden group. measured, test: on validation and test."""

    architecture: tuple[int, ...]
    measured: Measured
    test: Measured


def train_dense_baseline(result: Result, settings: Settings, workers: Pool) -> DenseBaseline:
    """Trains it at two rates; the one that does better on validation counts.

    settings: those of the tournament, fitted. Raises structnet.errors.WorkFailed if neither training ends.
    """
    architecture = dense_architecture(result.network.architecture, result.network.parameter_count)
    # Rates by age are for what grows: a dense network has nothing new.
    recipe = replace(result.progress.trained_by(settings.recipe), rates=None)
    rates = [share * settings.learning_rate for share in RATES]
    outcomes = workers.run(
        [Job(TrainDense(architecture, recipe, result.progress.step, rate)) for rate in rates]
    )
    finished = [outcome.report for outcome in outcomes if not outcome.error and outcome.report]
    if not finished:
        raise WorkFailed(f"the dense baseline failed: {outcomes[0].error}")
    return DenseBaseline(architecture, *max(finished, key=lambda measures: measures[0].accuracy))
