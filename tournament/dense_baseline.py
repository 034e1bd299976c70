"""The dense opponent of a grown network: of about its size, trained on the same batches for as many steps."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from structnet.errors import WorkFailed
from structnet.network.topology import dense_opponent
from tournament.coordinator import Result
from tournament.settings import Settings
from tournament.workers.fork import Measured
from tournament.workers.pool import Job, Pool

# Shares of the line's rate: one that suits a sparse network can be too high for a dense one.
RATES = (1.0, 0.25)


class Opponent(NamedTuple):
    """architecture: one hidden group. measured, test: on validation and test."""

    architecture: tuple[int, ...]
    measured: Measured
    test: Measured


def train_opponent(result: Result, settings: Settings, workers: Pool) -> Opponent:
    """Trains it at two rates; the one that does better on validation counts.

    settings: those of the tournament, fitted. Raises structnet.errors.WorkFailed if neither training ends.
    """
    architecture = dense_opponent(result.network.architecture, result.network.parameter_count)
    # Rates by age are for what grows: a dense network has nothing new.
    recipe = replace(settings.recipe, rates=None)
    rates = [share * settings.learning_rate for share in RATES]
    jobs = [Job("train_dense", (architecture, recipe, result.progress.step, rate)) for rate in rates]
    outcomes = workers.run(jobs)
    finished = [outcome.report for outcome in outcomes if not outcome.error]
    if not finished:
        raise WorkFailed(f"the dense opponent failed: {outcomes[0].error}")
    return Opponent(architecture, *max(finished, key=lambda measured: measured[0].accuracy))
