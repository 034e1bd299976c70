"""Scores, the bar and adoption, on numbers computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tournament.rules.score import (
    Gain,
    bar_for,
    gain_over,
    is_adoptable,
    is_informative,
    score,
    surplus,
)

EVERY = np.arange(4)


def test_gain_is_the_mean_paired_difference_to_the_better_control() -> None:
    fork = np.array([-1.0, -1.0, -2.0, -2.0])
    weak = np.array([-3.0, -3.0, -3.0, -3.0])
    better = np.array([-1.5, -2.0, -2.0, -2.5])
    gain = gain_over(fork, [weak, better], EVERY)
    assert gain.bits == pytest.approx(0.5)  # differences .5, 1, 0, .5
    # Sample variance of (.5, 1, 0, .5) is 1/6; the standard error divides it by 4 images.
    assert gain.standard_error == pytest.approx(np.sqrt(1 / 6 / 4))


def test_gain_looks_only_at_the_images_given() -> None:
    fork, control = np.array([0.0, 0.0, -9.0, -9.0]), np.array([-1.0, -1.0, 0.0, 0.0])
    assert gain_over(fork, [control], np.array([0, 1])).bits == pytest.approx(1.0)


def test_score_is_bits_per_thousand_parameters_with_a_floor() -> None:
    assert score(0.05, 500, floor=32) == pytest.approx(0.1)
    assert score(0.05, 1, floor=32) == pytest.approx(50 / 32)
    assert score(-0.02, -200, floor=32) == pytest.approx(-0.1)


def test_surplus_is_the_lower_bound_less_the_price() -> None:
    assert surplus(Gain(0.1, 0.02), 1000, price=0.03, z=2.0) == pytest.approx(0.1 - 0.04 - 0.03)
    assert surplus(Gain(-0.01, 0.0), -1000, price=0.03, z=2.0) == pytest.approx(0.02)


def test_large_validation_sets_are_halved_and_the_halves_swap() -> None:
    first, second = bar_for(6000, 1, forks=4), bar_for(6000, 2, forks=4)
    assert len(np.intersect1d(first.choosing, first.judging)) == 0
    assert len(first.choosing) + len(first.judging) == 6000
    assert np.array_equal(first.choosing, second.judging)


def test_every_round_has_a_share_of_five_percent_and_every_fork_one_of_that() -> None:
    # One-sided, by the t distribution of 2,999 and of 359 degrees of freedom: 5 % ÷ 2, ÷ 6, and ÷ 2 ÷ 5.
    assert bar_for(6000, 1, forks=4).z == pytest.approx(1.9608, abs=1e-3)
    assert bar_for(6000, 2, forks=4).z == pytest.approx(2.3951, abs=1e-3)
    small = bar_for(360, 1, forks=5)
    assert np.array_equal(small.choosing, small.judging)
    assert small.z == pytest.approx(2.5886, abs=1e-3)
    shares = [stats.t.sf(bar_for(6000, number, 1).z, 2999) for number in range(1, 200)]
    assert 0.049 < sum(shares) < 0.05


def test_growth_is_adopted_only_if_its_lower_bound_is_above_zero() -> None:
    assert is_adoptable(Gain(0.05, 0.02), 100, price=0.0, z=2.0)
    assert not is_adoptable(Gain(0.05, 0.03), 100, price=0.0, z=2.0)


def test_a_sale_is_adopted_only_if_its_loss_per_thousand_is_surely_below_the_price() -> None:
    # Upper bound of the loss: .01 + 2 · .005 = .02 bits for 1,000 parameters.
    assert is_adoptable(Gain(-0.01, 0.005), -1000, price=0.021, z=2.0)
    assert not is_adoptable(Gain(-0.01, 0.005), -1000, price=0.019, z=2.0)


def test_a_network_worse_than_the_label_frequencies_is_not_informative() -> None:
    rng = np.random.default_rng(0)
    knows, guesses = rng.normal(-1.0, 0.5, 400), rng.normal(-3.4, 0.5, 400)
    everything = np.arange(400)
    assert is_informative(knows, 3.32, everything, z=2.0)
    assert not is_informative(guesses, 3.32, everything, z=2.0)
