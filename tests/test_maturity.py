"""Factors of maturity: ratios of sums, shrunk as stated, never below the floor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tournament.maturity import FLOOR, Audit, learn


def test_nothing_audited_is_a_factor_of_one() -> None:
    assert learn([]).factor("widen", 50) == 1.0
    known = learn([Audit("widen", 50, 0.1, 0.4)])
    assert known.factor("widen", 200) == 1.0


def test_factors_by_hand() -> None:
    """The average short gain is 0.1, so a prior of two audits weighs 0.2 bits.

    All: (0.9 + 0.2) ÷ (0.3 + 0.2) = 2.2. Widen: (0.8 + 0.44) ÷ (0.1 + 0.2); patch: (0.1 + 0.44) ÷ (0.2 + 0.2).
    """
    audits = [Audit("widen", 50, 0.1, 0.8), Audit("patch", 50, 0.15, 0.1), Audit("patch", 50, 0.05, 0.0)]
    found = learn(audits, prior=2)
    assert found.factor("skip", 50) == pytest.approx(2.2)
    assert found.factor("widen", 50) == pytest.approx(1.24 / 0.3)
    assert found.factor("patch", 50) == pytest.approx(0.54 / 0.4)


def test_lengths_of_heat_are_apart() -> None:
    found = learn([Audit("widen", 50, 0.1, 0.4), Audit("widen", 200, 0.3, 0.4)], prior=0)
    assert found.factor("widen", 50) == pytest.approx(4.0)
    assert found.factor("widen", 200) == pytest.approx(4 / 3)


def test_many_audits_outweigh_the_prior() -> None:
    few, many = (
        learn([Audit("widen", 50, 0.1, 0.5)] * n + [Audit("patch", 50, 0.1, 0.1)] * n) for n in (1, 500)
    )
    assert few.factor("widen", 50) < many.factor("widen", 50)
    assert many.factor("widen", 50) == pytest.approx(5.0, rel=0.02)
    assert many.factor("patch", 50) == pytest.approx(1.0, rel=0.05)


def test_what_only_lost_is_not_written_off() -> None:
    assert learn([Audit("clone", 50, 0.1, -9.0)]).factor("clone", 50) == FLOOR


def test_a_loss_in_the_heat_says_nothing_of_how_gains_grow() -> None:
    gains = [Audit("insert_layer", 50, 0.1, 0.3), Audit("patch", 50, 0.2, 0.2)]
    losses = [Audit("insert_layer", 50, -0.1, 0.4), Audit("clone", 50, -0.2, -0.2)]
    assert learn(gains + losses) == learn(gains)
    assert learn(losses).factor("insert_layer", 50) == 1.0


gains = st.one_of(st.floats(-5, -1e-6), st.just(0.0), st.floats(1e-6, 5))
audits = st.lists(
    st.builds(Audit, st.sampled_from(["a", "b", "c"]), st.sampled_from([50, 200]), gains, gains)
)


@given(audits, st.floats(0.01, 100))
def test_factors_are_finite_above_the_floor_and_the_same_in_other_units(
    found: list[Audit], unit: float
) -> None:
    mine = learn(found)
    theirs = learn([audit._replace(short=unit * audit.short, long=unit * audit.long) for audit in found])
    for action in "abcd":
        for steps in (50, 200):
            factor = mine.factor(action, steps)
            assert factor >= FLOOR
            assert factor < float("inf")
            assert theirs.factor(action, steps) == pytest.approx(factor, rel=1e-6)
