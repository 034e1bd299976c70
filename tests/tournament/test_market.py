"""The market: its price over time, and that trading at a constant price ends."""

from __future__ import annotations

import pytest

from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.network.network import StructNet
from tournament import Tournament
from tournament.rules.ledger import Economy
from tournament.rules.score import OPENING_SHARE, POLICIES, Gain, price_at


def test_the_price_rises_from_a_tenth_to_the_whole_and_stays() -> None:
    assert price_at(0.01, 0, 400) == pytest.approx(0.001)
    assert price_at(0.01, 150, 400) == pytest.approx(0.01 * OPENING_SHARE**0.5)
    assert price_at(0.01, 300, 400) == 0.01
    assert price_at(0.01, 5000, 400) == 0.01
    rising = [price_at(0.01, step, 400) for step in range(0, 401, 10)]
    assert rising == sorted(rising)


def test_at_one_price_nothing_is_both_bought_and_sold() -> None:
    proves = POLICIES["surplus"].proves
    for worth in (0.001, 0.005, 0.02):
        buys = proves(Gain(worth, 1e-4), 1000, 0.005, 2.0)
        sells = proves(Gain(-worth, 1e-4), -1000, 0.005, 2.0)
        assert not (buys and sells)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def traded(data: Dataset, price: float, rounds: int, heat_steps: int = 20) -> Tournament:
    """A market of at most so many rounds, with all the credits it can want."""
    tournament = Tournament(
        StructNet([64, 16, 10], 0.1, rng_seed=0, ensure_paths=True),
        data,
        economy=Economy(opening_credits=1e6),
        policy="surplus",
        price=price,
        rounds=rounds,
        epochs=rounds,
        growth_share=1.0,
        round_steps=10,
        heat_steps=heat_steps,
        candidates=6,
    )
    tournament.result = tournament.run()  # type: ignore[attr-defined]
    return tournament


def test_trading_ends_by_itself_within_its_bound(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tournament.rules.score.OPENING_SHARE", 1.0)
    price = 0.3
    tournament = traded(digits, price, 80)  # far more rounds than it should need
    rounds = tournament.rounds
    assert {row["price"] for row in rounds} == {price}
    assert tournament.line.progress.reason == "nothing significant was left in 3 rounds"
    trades = [row for row in rounds if row["decision"] == "adopted"]
    assert trades
    won = [row for row in tournament.candidates if row["won"]]
    assert all(row["surplus"] > 0 for row in won)
    # Each raises the objective, information − price × parameters ÷ 1000, which ends at H(Y) at the most.
    least = min(row["surplus"] for row in won)
    assert len(trades) <= (tournament.line.entropy + price * rounds[0]["parameters"] / 1000) / least


def test_the_market_does_not_rest_before_its_price_is_whole(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is worth too little to buy at a tenth of the price may still be worth selling at all of it."""
    tournament = traded(digits, 0.5, 1)
    line = tournament.line
    line.progress.phase, line.progress.quiet_rounds, line.progress.round = "growing", 3, 0
    line.progress.step = line.growth_stop // 10
    assert next(tournament.reasons_to_stop(), "") == ""
    monkeypatch.setattr("tournament.rules.score.OPENING_SHARE", 1.0)
    assert next(tournament.reasons_to_stop()) == "nothing significant was left in 3 rounds"


@pytest.mark.parametrize("overshoot", [None, 300])
def test_the_final_phase_overshoots_as_far_as_it_may(digits: Dataset, overshoot: int | None) -> None:
    result = Tournament(
        StructNet([64, 16, 10], 0.1, rng_seed=0, ensure_paths=True),
        digits,
        economy=Economy(opening_credits=500),
        policy="score",
        max_parameters=200,
        overshoot=overshoot,
        rounds=0,
        epochs=3,
    ).run()
    largest = result.progress.final_largest
    assert (250 < largest <= 300) if overshoot else largest > 500
    final = result.rounds[-1]
    assert final["parameters"] <= 200
    assert final["credits_spent"] == largest - result.progress.final_size


def test_a_higher_price_makes_a_smaller_network(digits: Dataset) -> None:
    cheap, dear = traded(digits, 0.02, 10, 80), traded(digits, 2.0, 10, 80)
    assert dear.line.parameters < cheap.line.parameters
    assert dear.rounds[0]["price"] < dear.rounds[-1]["price"] == 2.0
