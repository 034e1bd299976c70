"""The dense baseline: its size, its length, and the better of two rates by validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from structnet import StructNet
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.errors import WorkFailed
from structnet.network.topology import dense_architecture, parameters_dense
from structnet.training.recipe import Recipe
from tournament import Result, Settings, Tournament
from tournament.dense_baseline import BaselineAhead, train_dense_baseline
from tournament.workers.pool import InlinePool, Job, Outcome
from tournament.workers.work import Shrink, TrainDense


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def pool(digits: Dataset) -> Iterator[InlinePool]:
    found = InlinePool(digits)
    yield found
    found.close()


SETTINGS = Settings(epochs=3, rounds=0, learning_rate=0.02, recipe=Recipe(batch_size=32, rng_seed=4))


@pytest.fixture(scope="module")
def grown(digits: Dataset, pool: InlinePool) -> Result:
    network = StructNet([64, 16, 10], density=0.2, rng_seed=4, ensure_paths=True)
    return Tournament(network, digits, settings=SETTINGS, pool=pool).run()


def test_it_is_the_dense_network_that_is_nearest_in_size(grown: Result, pool: InlinePool) -> None:
    found = train_dense_baseline(grown, SETTINGS, pool)
    assert found.architecture == dense_architecture([64, 16, 10], grown.network.parameter_count)
    assert abs(parameters_dense(found.architecture) - grown.network.parameter_count) <= 75 / 2
    assert dense_architecture([784, 100, 10], 4000) == (784, 5, 10)
    assert dense_architecture([64, 16, 10], 300) == (64, 4, 10)


class Watched(InlinePool):
    """Runs the jobs, and keeps them with what came of them; the first of them fails, or all, if told so."""

    def __init__(self, data: Dataset, failing: int = 0) -> None:
        super().__init__(data)
        self.failing = failing
        self.jobs: list[Job[Any]] = []
        self.reports: list[Any] = []

    def run(self, jobs: Sequence[Job[Any]], on_done: Any = None) -> list[Outcome[Any]]:
        outcomes = [
            replace(outcome, error="Diverged: lost") if place < self.failing else outcome
            for place, outcome in enumerate(super().run(jobs, on_done))
        ]
        self.jobs += jobs
        self.reports += [outcome.report for outcome in outcomes]
        return outcomes


def test_the_better_of_two_rates_on_validation_counts_after_as_many_steps(
    grown: Result, digits: Dataset
) -> None:
    workers = Watched(digits)
    found = train_dense_baseline(grown, SETTINGS, workers)
    workers.close()
    assert [(job.work.steps, job.work.rate) for job in workers.jobs] == [
        (grown.progress.step, 0.02),
        (grown.progress.step, 0.005),
    ]
    (fast, _), (slow, _) = workers.reports
    assert fast.accuracy != slow.accuracy
    assert (found.measured, found.test) == max(workers.reports, key=lambda pair: pair[0].accuracy)


def test_a_tournament_does_not_train_it(digits: Dataset) -> None:
    """Sweeps and studies run many tournaments, and compare none of them with it."""
    workers = Watched(digits)
    network = StructNet([64, 16, 10], density=0.2, rng_seed=4, ensure_paths=True)
    Tournament(network, digits, settings=SETTINGS, pool=workers).run()
    workers.close()
    kinds = {type(job.work) for job in workers.jobs}
    assert Shrink in kinds and TrainDense not in kinds


def test_one_rate_is_enough_and_none_is_not(grown: Result, digits: Dataset) -> None:
    workers = Watched(digits, failing=1)
    assert train_dense_baseline(grown, SETTINGS, workers).measured.accuracy == workers.reports[1][0].accuracy
    workers.failing = 2
    with pytest.raises(WorkFailed, match="the dense baseline failed: Diverged: lost"):
        train_dense_baseline(grown, SETTINGS, workers)
    workers.close()


def test_what_was_begun_when_growth_ended_is_taken(grown: Result, digits: Dataset, pool: InlinePool) -> None:
    workers = Watched(digits)
    ahead = BaselineAhead((64, 10), SETTINGS, workers)
    ahead.growth_ended(grown.network.parameter_count, grown.progress.step)
    found = train_dense_baseline(grown, SETTINGS, workers, ahead)
    workers.close()
    assert len(workers.jobs) == 2
    expected = train_dense_baseline(grown, SETTINGS, pool)
    assert found.architecture == expected.architecture
    assert (found.measured.loss, found.test.loss) == (expected.measured.loss, expected.test.loss)


@pytest.mark.parametrize(("more", "later", "failing"), [(100, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_it_is_trained_again_if_it_turned_out_otherwise_or_was_lost(
    grown: Result, digits: Dataset, pool: InlinePool, more: int, later: int, failing: int
) -> None:
    """More parameters than were foreseen, or steps; or a rate that failed, perhaps with its worker."""
    workers = Watched(digits, failing)
    ahead = BaselineAhead((64, 10), SETTINGS, workers)
    ahead.growth_ended(grown.network.parameter_count + more, grown.progress.step + later)
    begun = ahead._begun
    assert begun is not None
    begun = begun[0], (lambda outcomes: lambda: outcomes)(begun[1]())
    ahead._begun, workers.failing = begun, 0
    found = train_dense_baseline(grown, SETTINGS, workers, ahead)
    workers.close()
    assert len(workers.jobs) == 4
    assert found.test.loss == train_dense_baseline(grown, SETTINGS, pool).test.loss
