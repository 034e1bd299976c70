"""`grow --budget`: what it understands, the epochs that follow from it, and that a run keeps to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search.commands.grow.command import GrowOptions
from search.commands.grow.fitting import fitted_to, seed_network, settings_for
from search.commands.grow.job import budget_of
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from tournament.coordinator import Result, Tournament
from tournament.cost import Cost, epochs_within

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, (None, None)),
        ({"minutes": 3.0}, (None, 3.0)),
        ({"budget": "40M"}, (40e6, None)),
        ({"budget": "4e7"}, (40e6, None)),
        ({"budget": " 1.5 g "}, (1.5e9, None)),
        ({"budget": "800k", "minutes": 3.0}, (800e3, 3.0)),
        ({"budget": "5min"}, (None, 5.0)),
        ({"budget": "0.5 min"}, (None, 0.5)),
    ],
)
def test_what_a_budget_says(told: dict[str, Any], expected: tuple[float | None, float | None]) -> None:
    assert budget_of(GrowOptions(**told)) == expected


@pytest.mark.parametrize("budget", ["", "much", "0", "-4M", "5 hours", "4M M", "0min"])
def test_what_is_no_budget_is_refused(budget: str) -> None:
    with pytest.raises(UserError, match="such as 40M or 4e7, or minutes such as 5min"):
        budget_of(GrowOptions(budget=budget))


def test_minutes_are_said_once() -> None:
    with pytest.raises(UserError, match="give one of them"):
        budget_of(GrowOptions(budget="5min", minutes=3.0))


@given(st.floats(0.5, 1e6), st.floats(0.5, 1e6))
def test_as_many_epochs_as_both_limits_pay_for(parameter_steps: float, seconds: float) -> None:
    def cost_of(epochs: int) -> Cost:
        return Cost(parameter_steps=3.0 * epochs, seconds=0.5 * epochs)

    expected = min(int(parameter_steps / 3), int(seconds / 0.5))
    assert epochs_within(cost_of, parameter_steps, seconds) == min(expected, 2**16)
    assert epochs_within(cost_of, parameter_steps, None) == min(int(parameter_steps / 3), 2**16)


def grown(data: Dataset, **told: Any) -> tuple[GrowOptions, Result]:
    options = fitted_to(GrowOptions(architecture="input,32,classes", density=0.05, **told), data)
    seed = seed_network(options, data, 0)
    return options, Tournament(seed, data, settings=settings_for(options, 0)).run()


@pytest.mark.parametrize("policy", ["shape", "score"])
def test_a_run_costs_its_budget_and_epochs_follow(digits: Dataset, policy: str) -> None:
    epochs = []
    for budget in (3e5, 9e5):
        options, result = grown(digits, budget=f"{budget:g}", max_parameters=200, policy=policy)
        assert result.progress.parameter_steps_all == pytest.approx(budget, rel=0.1)
        epochs.append(options.epochs)
    assert epochs[1] > 2 * epochs[0]


def test_a_path_to_a_target_stays_near_its_budget(digits: Dataset) -> None:
    _, result = grown(digits, budget="200k", target_accuracy=0.9)
    assert result.progress.front
    assert result.progress.parameter_steps_all < 1.3 * 2e5


def test_minutes_bound_the_time(digits: Dataset) -> None:
    options, result = grown(digits, budget="0.03min", max_parameters=200)
    assert options.epochs > 40
    assert result.progress.seconds < 2 * 60 * 0.03


def test_a_budget_that_pays_for_nothing_is_refused(digits: Dataset) -> None:
    with pytest.raises(UserError, match="must pay for an epoch"):
        fitted_to(GrowOptions(budget="100", max_parameters=200), digits)
