"""Forks cost credits: what a round may try, that it is paid for, and that deciding stays a small part of a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from structnet import StructNet
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.training.recipe import Recipe
from tournament import Economy, Tournament
from tournament.allowance import (
    DECIDING,
    FEWEST,
    Deciding,
    allowance_of,
    most_to_decide,
    most_within,
    price_of,
)
from tournament.coordinator import Result
from tournament.final_phase import whole_cost
from tournament.settings import Settings
from tournament.winning_line import WinningLine
from tournament.workers.pool import InlinePool

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def settings(**options: Any) -> Settings:
    given: dict[str, Any] = {
        "policy": "score",
        "epochs": 40,
        "round_steps": 20,
        "heat_steps": 40,
        "candidates": 8,
        "learning_rate": 0.01,
        "max_parameters": 400,
        "recipe": Recipe(batch_size=32),
    }
    return Settings(**{**given, **options})


def seed() -> StructNet:
    return StructNet([64, 16, 10], 0.1, rng_seed=0, ensure_paths=True)


def line_of(data: Dataset, **options: Any) -> WinningLine:
    line = WinningLine(seed(), data, settings(**options), InlinePool(data))
    line.start(seed())
    return line


def grow(data: Dataset, **options: Any) -> Result:
    return Tournament(seed(), data, settings=settings(**options)).run()


# --- what a round may try


def test_what_a_round_takes_at_most_by_hand() -> None:
    # 8 forks: 10 steps for them, 30 for three; beside them the twin, as large as a fork, and one control.
    most = 10 * (1.5 * 9 + 1) + 30 * (1.5 * 4 + 1)
    assert most_to_decide(settings(), 8, 40, 100, survey_steps=5) == pytest.approx(100 * (5 + most))
    # Two forks in one heat; an audit of one for twice as long, and both controls with it.
    audited = settings(audits=1, audit_factor=2.0)
    most = 40 * (1.5 * 3 + 1) + 80 * (2 + 1.5)
    assert most_to_decide(audited, 2, 40, 100, survey_steps=0) == pytest.approx(100 * most)


@given(st.integers(1, 40), st.floats(0, 500))
def test_as_many_as_the_limit_covers_or_none(most: int, limit: float) -> None:
    forks = most_within(lambda count: 10.0 * count, most, limit)
    assert forks == 0 or (10 * forks <= limit and forks >= min(FEWEST, most))
    assert forks == most or 10 * max(forks + 1, min(FEWEST, most)) > limit


def test_the_price_lets_all_that_is_earned_buy_a_fifth_of_the_run(digits: Dataset) -> None:
    line = line_of(digits)
    assert price_of(line_of(digits, economy=Economy(fork_price=3.0))) == 0.003
    earned = line.seed_parameters + 0.05 * (64 * 16 + 16 * 10 + 26) * line.growth_stop / 1000
    bought = earned / price_of(line)
    assert bought / (bought + whole_cost(line, 400)) == pytest.approx(DECIDING)


def test_only_half_of_the_balance_goes_into_a_round(digits: Dataset) -> None:
    line = line_of(digits, economy=Economy(fork_price=1.0))
    line.ledger.balance = 1e9
    rich = allowance_of(line)
    assert rich.forks == 8
    line.ledger.balance = 2 * rich.credits
    assert allowance_of(line).forks == 8
    line.ledger.balance = 2 * rich.credits - 1e-3
    assert allowance_of(line).forks == 7
    line.ledger.balance = 0.0
    assert allowance_of(line) == (0, 0.0, 0.0)


def test_what_was_held_and_not_needed_comes_back(digits: Dataset) -> None:
    line = line_of(digits, economy=Economy(fork_price=2.0, opening_credits=100))
    deciding = Deciding(line, 60.0)
    assert line.ledger.balance == 40
    line.progress.spend(100, 150, winning=False)
    line.progress.spend(100, 900, winning=True)  # not deciding
    assert deciding.settled() == pytest.approx(2 * 15)
    assert line.ledger.balance == pytest.approx(70)
    with pytest.raises(ValueError, match="credits are more than"):
        Deciding(line, 71.0)


# --- runs


@pytest.fixture(scope="module")
def priced(digits: Dataset) -> Result:
    return grow(digits, epochs=120, economy=Economy(income=0.1))


def test_growth_pauses_to_save_and_goes_on(priced: Result) -> None:
    rounds = [row for row in priced.rounds if row["forks_afforded"] is not None]
    paused = [row for row in rounds if row["forks_afforded"] == 0]
    played = [row for row in rounds if row["forks_afforded"]]
    assert paused and played
    assert all(row["decision"] == "unaffordable" and not row["candidates"] for row in paused)
    assert all(row["credits_deciding"] > 0 for row in played)
    assert any(row["forks_afforded"] < 8 for row in played)
    assert min(row["round"] for row in paused) < max(row["round"] for row in played)
    assert priced.progress.pauses == len(paused)


def test_what_forks_cost_is_in_the_books(priced: Result) -> None:
    price = 0.0
    for before, after in zip(priced.rounds, priced.rounds[1:]):
        change = after["credits_earned"] + after["credits_refunded"] - after["credits_spent"]
        assert before["balance"] + change == pytest.approx(after["balance"])
        assert after["balance"] >= 0
        beside = [row["parameter_steps_all"] - row["parameter_steps"] for row in (before, after)]
        if after["credits_deciding"]:
            found = after["credits_deciding"] / (beside[1] - beside[0])
            assert price == 0 or found == pytest.approx(price)
            price = found
    assert price > 0


def test_deciding_takes_a_fifth_at_most_and_more_where_it_is_free(digits: Dataset, priced: Result) -> None:
    # A short run is dear to decide in, and its credits alone would buy more.
    for result in (priced, grow(digits, economy=Economy(income=0.1))):
        assert 0 < result.rounds[-1]["share_deciding"] <= DECIDING
    free = grow(digits, epochs=120, economy=Economy(income=0.1, fork_price=0.0))
    assert free.rounds[-1]["share_deciding"] > DECIDING
    assert all(not row["credits_deciding"] for row in free.rounds)


def test_shapes_are_not_tried_on_credit(digits: Dataset) -> None:
    options: dict[str, Any] = {"policy": "shape", "rounds": 3, "max_parameters": 150}
    tried = grow(digits, **options)
    assert tried.candidates
    assert tried.rounds[1]["credits_deciding"] > 0
    poor = grow(digits, **options, economy=Economy(opening_credits=100))
    assert not poor.candidates
    assert "other shapes cost more to try than 100 credits" in poor.progress.reason


# --- a budget


@pytest.mark.parametrize(
    "options",
    [
        {"policy": "shape", "rounds": 3, "max_parameters": 150},
        {"policy": "shape", "rounds": 0, "max_parameters": 150},
        {"policy": "score", "rounds": 4, "economy": Economy(income=0.1)},
    ],
)
def test_a_run_costs_its_budget(digits: Dataset, options: dict[str, Any]) -> None:
    for budget in (4e5, 8e5):
        progress = grow(digits, **options, budget=budget).progress
        assert progress.parameter_steps_all == pytest.approx(budget, rel=0.1)
        if options["policy"] == "shape":
            # A short way comes before the long one, whatever the budget.
            assert progress.cycles == 2
            assert 0.6 * budget < progress.final_cost < 0.9 * budget


def test_a_path_ends_when_its_budget_is_used_up(digits: Dataset) -> None:
    options: dict[str, Any] = {"policy": "shape", "rounds": 0, "max_parameters": None, "target_accuracy": 0.9}
    whole = grow(digits, **options)
    cut = grow(digits, **options, budget=0.3 * whole.progress.parameter_steps_all)
    assert 1 <= len(cut.progress.front) < len(whole.progress.front)
    # An epoch is the least that a size gets.
    assert cut.progress.parameter_steps_all < 0.45 * whole.progress.parameter_steps_all
