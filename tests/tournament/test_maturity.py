"""Rises: ratios of sums, shrunk as stated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tournament.audits import Audit, learn
from tournament.rules.score import Gain


def test_nothing_audited_is_no_rise() -> None:
    assert learn([]).rise("widen", 50) == 0.0
    assert learn([Audit("widen", 100, 50, 0.1, 0.4)]).rise("widen", 200) == 0.0


def test_rises_by_hand() -> None:
    """The average size is 200, so a prior of two audits weighs 400 parameters.

    All: 500 ÷ (600 + 400) = 0.5. Widen: (600 + 400 · 0.5) ÷ (100 + 400); patch: (−100 + 200) ÷ (500 + 400).
    """
    audits = [
        Audit("widen", 100, 50, -0.1, 0.5),
        Audit("patch", 300, 50, 0.2, 0.1),
        Audit("patch", 200, 50, 0.1, 0.1),
    ]
    found = learn(audits, prior=2)
    assert found.rise("skip", 50) == pytest.approx(0.5)
    assert found.rise("widen", 50) == pytest.approx(800 / 500)
    assert found.rise("patch", 50) == pytest.approx(100 / 900)


def test_lengths_of_heat_are_apart() -> None:
    audits = [Audit("widen", 100, 50, 0.1, 0.4), Audit("widen", 100, 200, 0.3, 0.4)]
    found = learn(audits, prior=0)
    assert found.rise("widen", 50) == pytest.approx(3.0)
    assert found.rise("widen", 200) == pytest.approx(1.0)


def test_many_audits_outweigh_the_prior() -> None:
    few, many = (
        learn([Audit("widen", 100, 50, 0.1, 0.5)] * n + [Audit("patch", 100, 50, 0.1, 0.1)] * n)
        for n in (1, 1000)
    )
    assert 0 < few.rise("patch", 50) < few.rise("widen", 50) < many.rise("widen", 50)
    assert many.rise("widen", 50) == pytest.approx(4.0, rel=0.01)
    assert many.rise("patch", 50) == pytest.approx(0.0, abs=0.02)


def test_a_loss_can_mature_into_a_gain_and_what_frees_parameters_stays() -> None:
    gain = Gain(-0.1, 0.02)
    assert gain.matured(0.5, 400).bits == pytest.approx(0.1)
    assert gain.matured(0.5, 400).standard_error == 0.02
    assert gain.matured(0.5, -400) == gain


gains = st.floats(-5, 5)
audits = st.lists(
    st.builds(Audit, st.sampled_from("abc"), st.integers(1, 1000), st.sampled_from([50, 200]), gains, gains)
)


@given(audits, st.floats(0.01, 100))
def test_rises_are_within_what_was_seen_and_scale_with_the_unit(found: list[Audit], unit: float) -> None:
    mine = learn(found)
    theirs = learn([audit._replace(short=unit * audit.short, long=unit * audit.long) for audit in found])
    seen = [0.0] + [1000 * (audit.long - audit.short) / audit.parameters for audit in found]
    for action in "abcd":
        for steps in (50, 200):
            rise = mine.rise(action, steps)
            assert min(seen) - 1e-9 <= rise <= max(seen) + 1e-9
            assert theirs.rise(action, steps) == pytest.approx(unit * rise, rel=1e-6, abs=1e-9)
