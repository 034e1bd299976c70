"""Credits: the formula by hand, and that no sequence of trades breaks the books."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from structnet.errors import UserError
from tournament.rules.ledger import Economy, Ledger


def ledger(balance: float | None = None, income: float = 0.05, refund: float = 0.5) -> Ledger:
    return Ledger.opened(Economy(income, balance, refund), 904, 79_510, chance=0.1)


def test_opens_with_the_parameters_of_the_seed_or_with_what_it_is_told() -> None:
    assert ledger().balance == 904
    assert ledger(50).balance == 50


def test_earns_by_accuracy_above_chance() -> None:
    book = ledger()
    # .05 · 79,510 · (.55 − .1) ÷ .9 · 200 ÷ 1,000
    assert book.earn(200, 0.55) == pytest.approx(397.55)
    assert book.balance == pytest.approx(904 + 397.55)


def test_a_network_at_chance_earns_nothing() -> None:
    assert ledger().earn(1000, 0.08) == 0


def test_pays_one_credit_a_parameter_and_refunds_less() -> None:
    book = ledger(100)
    assert book.trade(60) == (60, 0)
    assert book.trade(-20) == (0, 10)
    assert book.balance == 50


def test_refuses_what_it_cannot_pay() -> None:
    book = ledger(10)
    assert not book.affords(11)
    with pytest.raises(ValueError, match="cost more than"):
        book.trade(11)
    assert book.balance == 10


@given(st.lists(st.integers(-500, 500), max_size=30))
def test_buying_and_selling_never_makes_credits(trades: list[int]) -> None:
    book = ledger(1000)
    held = 0
    for added in trades:
        if book.affords(added) and held + added >= 0:
            book.trade(added)
            held += added
        assert book.balance >= 0
        assert book.balance + held <= 1000 + 1e-9


@pytest.mark.parametrize(
    "wrong", [{"income": -1}, {"refund": 1.0}, {"refund": -0.1}, {"opening_credits": -1}]
)
def test_refuses_economies_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="must"):
        Economy(**wrong)
