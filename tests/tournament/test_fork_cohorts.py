"""Forks in one cohort come out as they do one by one, to the bit, and what fails fails alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import pytest

from structnet import StructNet
from structnet.actions.base import Proposal
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.network.state import TrainState
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant
from tournament.workers import fork_cohorts
from tournament.workers.fork import Arrays, SurveyPlan, survey
from tournament.workers.fork_cohorts import ForkResult, run_forks

RECIPE = Recipe(batch_size=32, l1=5e-5)
STEPS, RATE = 12, 1e-2

Fork = tuple[Arrays, Proposal | None]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def line(data: Dataset, architecture: Sequence[int], density: float, steps: int = 20) -> Arrays:
    """A network in training, as arrays."""
    state = TrainState.fresh(StructNet(architecture, density, ensure_paths=True))
    train_steps(state, data.train, RECIPE, steps, constant(RATE))
    return state.to_arrays()


def growth(data: Dataset, state: Arrays, *actions: str) -> list[Proposal]:
    plan = SurveyPlan(actions, (20, 60), RATE, rng_seed=0, round_number=1, balance=1000, candidates=9)
    found = survey(state, data.train, RECIPE, plan)
    assert {proposal.action for proposal in found.proposals} == set(actions)
    assert found.controls
    return found.proposals + found.controls


def run(data: Dataset, forks: list[Fork], with_probe: bool = False) -> list[ForkResult]:
    return run_forks(forks, data.train, data.validation, RECIPE, STEPS, RATE, with_probe)


def one_by_one(data: Dataset, forks: list[Fork], with_probe: bool = False) -> list[ForkResult]:
    return [result for each in forks for result in run(data, [each], with_probe)]


def assert_same(together: list[ForkResult], alone: list[ForkResult]) -> None:
    assert len(together) == len(alone)
    for (report, arrays), (other, expected) in zip(together, alone):
        assert report.error == other.error
        assert (arrays is None) == (expected is None) == bool(report.error)
        if arrays is None or expected is None or report.measured is None or other.measured is None:
            continue
        assert arrays.keys() == expected.keys()
        for name, value in expected.items():
            assert np.array_equal(arrays[name], value), name
        assert np.array_equal(report.measured.bits, other.measured.bits)
        assert (report.measured.loss, report.measured.accuracy) == (
            other.measured.loss,
            other.measured.accuracy,
        )
        if other.measured.probe_bits is None:
            assert report.measured.probe_bits is None
        else:
            assert np.array_equal(report.measured.probe_bits, other.measured.probe_bits)


@pytest.fixture
def cohorts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many members every cohort had."""
    sizes = []
    build = fork_cohorts.Cohort

    def counted(states: Sequence[TrainState], rates: Sequence[float]) -> Any:
        sizes.append(len(states))
        return build(states, rates)

    monkeypatch.setattr(fork_cohorts, "Cohort", counted)
    return sizes


@pytest.mark.parametrize("architecture", [[64, 16, 10], [64, 12, 8, 10], [64, 10]])
@pytest.mark.parametrize("with_probe", [False, True])
def test_every_action_beside_every_other(
    digits: Dataset, cohorts: list[int], architecture: list[int], with_probe: bool
) -> None:
    state = line(digits, architecture, 0.1)
    actions = ["patch", "insert_layer"] + ["widen"] * (len(architecture) > 2)
    forks = [(state, None), *((state, proposal) for proposal in growth(digits, state, *actions))]
    together = run(digits, forks, with_probe)
    assert cohorts == [len(forks)], "of two depths, and yet in one"
    assert_same(together, one_by_one(digits, forks, with_probe))
    assert cohorts == [len(forks)], "one alone is no cohort"
    grown = [arrays["architecture"] for _, arrays in together if arrays]
    assert {len(sizes) for sizes in grown} == {len(architecture), len(architecture) + 1}
    assert all(min(sizes) > 0 for sizes in grown)


def test_survivors_train_on(digits: Dataset) -> None:
    state = line(digits, [64, 16, 10], 0.1)
    first = run(digits, [(state, proposal) for proposal in growth(digits, state, "insert_layer", "patch")])
    survivors: list[Fork] = [(arrays, None) for _, arrays in first if arrays]
    assert_same(run(digits, survivors), one_by_one(digits, survivors))


def test_a_dense_network_is_the_same_in_company(digits: Dataset, cohorts: list[int]) -> None:
    sparse, dense = (line(digits, [64, 8, 10], density, steps=0) for density in (0.1, 1.0))
    forks: list[Fork] = [(sparse, None), (dense, None), (sparse, None), (dense, None)]
    results = run(digits, forks)
    assert cohorts == [4]
    assert_same(results, one_by_one(digits, forks))
    state = TrainState.from_arrays(dense)
    train_steps(state, digits.train, RECIPE, STEPS, constant(RATE))
    for _, arrays in results[1::2]:
        assert arrays and np.array_equal(arrays["values"], state.network.values.detach().numpy())


@pytest.mark.parametrize("kernel", ["sparse_rows", "masked_dense"])
def test_a_network_keeps_the_kernel_it_was_given(digits: Dataset, cohorts: list[int], kernel: str) -> None:
    state = TrainState.fresh(StructNet([64, 8, 10], 0.1, kernel=kernel)).to_arrays()
    results = run(digits, [(state, None)] * 2)
    assert [arrays["kernel"] for _, arrays in results if arrays] == [kernel] * 2
    assert cohorts == [2]


def test_networks_that_cannot_join_do_not(digits: Dataset, cohorts: list[int]) -> None:
    relu, tanh = (
        TrainState.fresh(StructNet([64, 8, 10], 0.1, activation=name)).to_arrays()
        for name in ("relu", "tanh")
    )
    forks: list[Fork] = [(relu, None), (tanh, None), (relu, None), (tanh, None), (tanh, None)]
    assert_same(run(digits, forks), one_by_one(digits, forks))
    assert sorted(cohorts) == [2, 3]


@pytest.mark.parametrize("huge", [1e20, 1e38, float("nan")])
def test_a_fork_that_diverges_fails_alone(digits: Dataset, huge: float) -> None:
    state = line(digits, [64, 16, 10], 0.1)
    sick = {**state, "values": state["values"] * np.float32(huge)}
    patch = growth(digits, state, "patch")[0]
    forks: list[Fork] = [(state, None), (sick, None), (state, patch)]
    together = run(digits, forks)
    assert_same(together, one_by_one(digits, forks))
    assert [bool(report.error) for report, _ in together] == [False, True, False]
    assert "Diverged: training diverged within 12 steps of step" in together[1][0].error
    assert_same([together[0], together[2]], run(digits, [forks[0], forks[2]]))


def test_a_proposal_that_cannot_be_applied_fails_alone(digits: Dataset) -> None:
    state = line(digits, [64, 16, 10], 0.1)
    broken = Proposal("patch", "nowhere", 1, 0.0, plan={})
    forks: list[Fork] = [(state, None), (state, broken), (state, None)]
    together = run(digits, forks)
    assert_same(together, one_by_one(digits, forks))
    assert together[1] == (together[1][0], None)
    assert together[1][0].error.startswith("KeyError")


def test_a_measure_that_fails_fails_alone(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    state = line(digits, [64, 16, 10], 0.1)
    patch = growth(digits, state, "patch")[0]
    measure = fork_cohorts.measure_all

    def no_room_for_the_patched(states: Sequence[TrainState], *arguments: Any, **options: Any) -> Any:
        if any(one.network.parameter_count > len(state["values"]) for one in states):
            raise MemoryError("no room")
        return measure(states, *arguments, **options)

    monkeypatch.setattr(fork_cohorts, "measure_all", no_room_for_the_patched)
    results = run(digits, [(state, None), (state, patch), (state, None)])
    assert [report.error for report, _ in results] == ["", "MemoryError: no room", ""]
    assert [arrays is None for _, arrays in results] == [False, True, False]


def test_without_room_for_a_cohort_they_train_one_by_one(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = line(digits, [64, 16, 10], 0.1)
    forks: list[Fork] = [(state, proposal) for proposal in growth(digits, state, "patch")]
    expected = run(digits, forks)

    def full(self: Any, *arguments: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(fork_cohorts.Cohort, "train", full)
    assert_same(run(digits, forks), expected)


def test_seconds_are_shared_by_parameters(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (line(digits, [64, 8, 10], density, steps=0) for density in (0.1, 0.2))
    sizes = [TrainState.from_arrays(state).network.parameter_count for state in (small, large)]
    clock = count()
    monkeypatch.setattr(fork_cohorts.time, "perf_counter", lambda: float(next(clock)))
    results = run(digits, [(small, None), (large, None)])
    # A second for each edit, one for the cohort, and one for the measures of both.
    assert [report.seconds for report, _ in results] == pytest.approx(
        [1.5 + size / sum(sizes) for size in sizes]
    )
