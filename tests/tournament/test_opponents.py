"""The opponents of a grown network: the size, length and rate of each, and what becomes of one that fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from structnet import StructNet
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.errors import WorkFailed
from structnet.experiments.baselines import evolve_steps
from structnet.experiments.methods import METHODS
from structnet.network.architecture import density_for, parameters_dense
from structnet.network.pyramid import dense_architecture
from structnet.network.random_topology import least_density
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training.evaluation import evaluate
from structnet.training.rates import AgeRates
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine
from tournament import Result, Settings, Tournament
from tournament.opponents import (
    BaselineAhead,
    connected_shape,
    rate_for,
    train_dense_baseline,
    train_opponents,
)
from tournament.workers.pool import InlinePool, Job, Outcome
from tournament.workers.work import Shrink, TrainDense, TrainRigl


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


SEED = (64, 32, 10)


def test_the_rival_is_rigl_of_the_grown_size_for_the_cost_of_the_run(grown: Result, digits: Dataset) -> None:
    """Trained here once more, as the study of tournaments does it."""
    size, cost = grown.network.parameter_count, grown.progress.parameter_steps_all
    method = METHODS["rigl"](SEED, size, round(cost / size), rng_seed=4)
    falling = cosine(rate_for(SETTINGS, SEED, size), 0, method.steps)
    line, _, spent = evolve_steps(
        TrainState.fresh(method.start()), method, digits.train, SETTINGS.recipe, method.steps, falling
    )
    expected = evaluate(line.network, digits.validation), evaluate(line.network, digits.test)

    workers = Watched(digits)
    rival, dense = train_opponents(grown, SETTINGS, SEED, workers)
    assert rival.architecture == SEED and rival.found and not rival.error
    assert rival.found.parameters == line.network.parameter_count == size
    assert rival.found.parameter_steps == spent.parameter_steps
    assert abs(rival.found.parameter_steps - cost) <= size / 2
    assert rival.found.measured.accuracy == expected[0].accuracy > 0.5
    assert rival.found.test.accuracy == expected[1].accuracy
    alone = train_dense_baseline(grown, SETTINGS, workers)
    assert (dense.architecture, dense.test.loss) == (alone.architecture, alone.test.loss)
    workers.close()


def test_the_rival_pays_for_everything_that_the_run_tried(grown: Result, digits: Dataset) -> None:
    """Forks that were thrown away cost the run steps that are not on its line."""
    progress = replace(grown.progress, parameter_steps_all=5 * grown.progress.parameter_steps)
    workers = Watched(digits)
    rival, _ = train_opponents(replace(grown, progress=progress), SETTINGS, SEED, workers)
    workers.close()
    assert rival.found
    cost = progress.parameter_steps_all
    assert abs(rival.found.parameter_steps - cost) <= grown.network.parameter_count / 2


def test_the_rival_has_the_batches_of_the_end_and_one_rate_for_all(grown: Result, digits: Dataset) -> None:
    progress = replace(grown.progress, smaller_batches=[[1, 16], [2, 8]])
    settings = replace(SETTINGS, recipe=replace(SETTINGS.recipe, rates=AgeRates(matures_after=9)))
    workers = Watched(digits)
    train_opponents(replace(grown, progress=progress), settings, SEED, workers)
    workers.close()
    assert [type(job.work) for job in workers.jobs] == [TrainRigl, TrainDense, TrainDense]
    assert {job.work.recipe for job in workers.jobs} == {replace(SETTINGS.recipe, batch_size=8)}


@pytest.mark.parametrize(
    ("seed", "size", "expected"),
    [
        (SEED, None, (64, 32, 10)),
        ((64, 10), 3000, (64, 100, 10)),  # no hidden group, and so the usual one
        ((64, 4, 10), 3000, (64, 100, 10)),
        (SEED, 80, (64, 23, 10)),
        (SEED, 99_999, (64, 32, 10)),  # more than it can have
    ],
)
def test_the_rival_moves_in_the_usual_shape(
    grown: Result, digits: Dataset, seed: tuple[int, ...], size: int | None, expected: tuple[int, ...]
) -> None:
    network = grown.network if size is None else Sized(size)
    workers = Watched(digits)
    cheap = replace(grown.progress, parameter_steps_all=200_000)
    found, _ = train_opponents(
        replace(grown, network=network, progress=cheap),  # type: ignore[arg-type]
        SETTINGS,
        seed,
        workers,
    )
    workers.close()
    assert found.architecture == expected and found.found
    assert found.found.parameters == min(network.parameter_count, parameters_dense(expected))


class Sized:
    """All that opponents know of a network."""

    topology = Topology((64, 16, 10), np.empty(0, np.int32), np.empty(0, np.int32))

    def __init__(self, size: int) -> None:
        self.parameter_count = size


def test_no_more_units_than_so_many_parameters_connect() -> None:
    # A hidden unit takes a bias, a way in and a way out; an output a bias.
    assert connected_shape((2, 100, 2), 3 * 20 + 2) == (2, 20, 2)
    assert connected_shape((2, 100, 2), 3 * 20 + 1) == (2, 19, 2)
    assert connected_shape((2, 100, 2), 302) == (2, 100, 2)
    assert connected_shape((2, 100, 2), 3) == (2, 1, 2)
    for size in (400, 700, 1000):
        shape = connected_shape((784, 300, 100, 10), size)
        assert shape[1] // shape[2] in (2, 3)
        assert density_for(shape, size) >= least_density(shape)


def test_the_fewer_parameters_the_higher_the_rate_of_the_rival() -> None:
    dense = 64 * 32 + 32 * 10 + 42
    assert rate_for(SETTINGS, SEED, dense) == 0.02
    assert rate_for(SETTINGS, SEED, round(dense / 6 / 4)) == pytest.approx(0.04, rel=0.01)


def test_a_rival_that_diverges_loses_nothing(grown: Result, digits: Dataset) -> None:
    workers = Watched(digits)
    workers.run([Job(TrainRigl(SEED, 300, SETTINGS.recipe, 50, rate=1e30))])
    assert workers.reports == [None]
    workers.failing = 1
    rival, dense = train_opponents(grown, SETTINGS, SEED, workers)
    workers.close()
    assert rival.found is None and rival.error == "Diverged: lost"
    assert dense.measured.accuracy > 0


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


def test_a_tournament_does_not_train_them(digits: Dataset) -> None:
    """Sweeps and studies run many tournaments, and compare none of them with its opponents."""
    workers = Watched(digits)
    network = StructNet([64, 16, 10], density=0.2, rng_seed=4, ensure_paths=True)
    Tournament(network, digits, settings=SETTINGS, pool=workers).run()
    workers.close()
    kinds = {type(job.work) for job in workers.jobs}
    assert Shrink in kinds and not kinds & {TrainDense, TrainRigl}


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
    _, found = train_opponents(grown, SETTINGS, SEED, workers, ahead)
    workers.close()
    assert sorted(job.work.name for job in workers.jobs) == ["train_dense", "train_dense", "train_rigl"]
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
    _, found = train_opponents(grown, SETTINGS, SEED, workers, ahead)
    workers.close()
    assert [job.work.name for job in workers.jobs].count("train_dense") == 4
    assert found.test.loss == train_dense_baseline(grown, SETTINGS, pool).test.loss


def test_nothing_is_begun_where_shapes_compete(digits: Dataset) -> None:
    """There growth is followed by two final phases, and the first one is what is announced."""
    workers = Watched(digits)
    ahead = BaselineAhead((64, 10), replace(SETTINGS, policy="shape"), workers)
    ahead.growth_ended(300, 100)
    assert ahead._begun is None
    workers.close()
