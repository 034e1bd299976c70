"""Statistics: against values worked out by hand, and what a single number or equal ones come to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structnet.measure.statistics import (
    ConfidenceInterval,
    bootstrap_interval,
    mean_and_error,
    mean_and_spread,
    mean_interval,
    paired_lead,
    rank_correlation,
    shown_with_spread,
    t_quantile,
)

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9)


def test_mean_and_spread() -> None:
    assert mean_and_spread([1.0, 2.0, 3.0, 6.0]) == pytest.approx((3.0, math.sqrt(14 / 3)))
    assert mean_and_spread([0.7]) == (0.7, 0.0)
    assert shown_with_spread([0.5, 0.7], scale=100, digits=1) == "60.0 ± 14.1"


def test_the_error_of_a_single_number_is_infinite() -> None:
    assert mean_and_error([1.0, 3.0, 2.0]) == pytest.approx((2.0, 1 / math.sqrt(3)))
    assert mean_and_error([2.0]) == (2.0, math.inf)


def test_an_interval_is_that_of_student() -> None:
    """1, 2 and 3: spread 1; t with two degrees of freedom is 4.3027 at 95 %, and 6.2053 for two of them."""
    assert mean_interval([1, 2, 3]) == pytest.approx((2, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)
    assert mean_interval([1, 2, 3], comparisons=2).high == pytest.approx(2 + 6.2053 / 3**0.5, abs=1e-4)
    assert mean_interval([0.5]) == (0.5, -math.inf, math.inf)
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert t_quantile(0.99, 5) == pytest.approx(3.747, abs=1e-3)


@given(NUMBERS)
def test_an_interval_holds_its_mean_and_widens_with_the_comparisons(values: list[float]) -> None:
    one, many = mean_interval(values), mean_interval(values, comparisons=10)
    assert many.low <= one.low <= one.mean <= one.high <= many.high


def test_zero_outside_is_sure() -> None:
    for interval, above, below in (
        (ConfidenceInterval(2, 1, 3), True, False),
        (ConfidenceInterval(-2, -3, -1), False, True),
        (ConfidenceInterval(1, 0, 2), False, False),
        (ConfidenceInterval(-1, -2, 0), False, False),
    ):
        assert (interval.is_above_zero, interval.is_below_zero) == (above, below)


def test_an_interval_is_shown_with_signs() -> None:
    lead = ConfidenceInterval(0.0123, -0.001, 0.02)
    assert lead.shown(scale=100) == "+1.23 (-0.10 to +2.00)"
    assert lead.shown(digits=3, named=True) == "+0.012 (95 % interval -0.001 to +0.020)"


def test_leads_are_paired_by_rng_seed() -> None:
    lead = paired_lead({0: 5.0, 1: 7.0, 4: 1.0}, {1: 4.0, 0: 4.0, 9: 100.0})
    # 1 and 3: standard error 1; t with one degree of freedom is 12.706.
    assert lead == pytest.approx((2, 2 - 12.7062, 2 + 12.7062), abs=1e-4)
    assert paired_lead({0: 1.0}, {1: 1.0}) is None


def test_a_bootstrap_interval_is_that_of_the_resamples() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    rng = np.random.default_rng(3)
    found = bootstrap_interval(values, rng)
    resampled = values[np.random.default_rng(3).integers(5, size=(10_000, 5))].mean(axis=1)
    assert found == pytest.approx((6.2, *np.quantile(resampled, [0.025, 0.975])))
    assert bootstrap_interval(np.array([0.3, 0.3, 0.3]), rng) == pytest.approx((0.3, 0.3, 0.3))


def test_a_rank_correlation_is_that_of_spearman() -> None:
    assert rank_correlation([1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1)
    # One swap of neighbours: 1 - 6 Σ d² / (n (n² - 1)).
    assert rank_correlation([1, 2, 3, 4], [2, 1, 3, 4]) == pytest.approx(1 - 6 * 2 / 60)
    # Ties share their rank: 1.5, 1.5, 3 against 1, 2, 3.
    assert rank_correlation([5, 5, 7], [1, 2, 3]) == pytest.approx(math.sqrt(3) / 2)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) == 0
