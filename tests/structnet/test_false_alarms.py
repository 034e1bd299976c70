"""False alarms: series whose steps fall or do not fall for certain, and triggers whose alarms can be counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structnet.experiments.false_alarms import AlarmCount, alarms_of, count_alarms, falling_steps
from structnet.growth.triggers import FixedInterval, Patience, Plateau


def counted(losses: np.ndarray, interval: int = 50, **options: float) -> AlarmCount:
    falls = falling_steps(losses, horizon=100, least=options.get("least", 0.03))
    return count_alarms(alarms_of(FixedInterval(interval), losses, every=10), falls)


def test_history_begins_anew_after_an_alarm() -> None:
    assert alarms_of(FixedInterval(30), np.ones(100), every=10) == [30, 60, 90]
    assert alarms_of(FixedInterval(25), np.ones(100), every=10) == [
        30,
        60,
        90,
    ]  # asked after every tenth step only
    assert alarms_of(FixedInterval(101), np.ones(100), every=10) == []


def test_history_begins_anew_after_the_longest_wait() -> None:
    """Patience of 40 steps needs 48: never there within 40, there again and again within 50."""
    flat = np.ones(200)
    assert alarms_of(Patience(40), flat, every=10, longest=40) == []
    assert alarms_of(Patience(40), flat, every=10, longest=50) == [50, 100, 150, 200]


def test_a_straight_fall_has_only_false_alarms() -> None:
    """1,000 steps to half, at least 1/20 a hundred: 801 steps can be told, 17 alarms fall on them."""
    found = counted(np.linspace(2.0, 1.0, 1000))
    assert found == AlarmCount(falling_steps=801, false_alarms=17)  # 100, 150, … 900
    assert found.false_per_thousand == pytest.approx(1000 * 17 / 801)
    assert math.isnan(found.other_per_thousand)


def test_a_flat_loss_has_none() -> None:
    for losses in (np.ones(1000), np.linspace(1.0, 1.5, 1000), np.linspace(1.0, 0.9, 1000)):
        found = counted(
            losses
        )  # the last falls by a tenth in all, 1 % in a hundred steps: too little to count
        assert found == AlarmCount(other_steps=801, other_alarms=17)
        assert math.isnan(found.false_per_thousand)
    assert counted(np.linspace(1.0, 0.9, 1000), least=0.005).falling_steps == 801


def test_a_knee_divides_the_steps() -> None:
    """Falls for 500 steps, then is flat. Means of 100 before and after differ by 3 % until 71 steps past the knee."""
    losses = np.concatenate([np.linspace(2.0, 1.0, 500), np.ones(500)])
    falls = falling_steps(losses, horizon=100, least=0.03)
    last = int(np.flatnonzero(falls == 1)[-1])
    # h steps behind it the 100 losses before are above 1 by the mean of a ramp of 100 − h steps of 1/499.
    h = last - 500
    above = [(100 - k) * (99 - k) / 2 / 499 / 100 for k in (h, h + 1)]
    assert above[0] / (1 + above[0]) > 0.03 >= above[1] / (1 + above[1])
    assert (falls[100 : last + 1] == 1).all()
    assert (falls[last + 1 : 901] == 0).all()
    assert np.isnan(falls[:100]).all()
    assert np.isnan(falls[901:]).all()


def test_a_fall_that_noise_could_be_is_none() -> None:
    rng = np.random.default_rng(0)
    falls = falling_steps(1 + 0.5 * rng.standard_normal(2000), horizon=100, least=0.01)
    assert (falls == 1).sum() < 0.08 * (falls >= 0).sum()  # 2.3 % expected; neighbours are not independent
    steep = falling_steps(
        np.linspace(3, 1, 500) * (1 + 0.1 * rng.standard_normal(500)), horizon=100, least=0.01
    )
    assert (steep == 1).sum() > 0.95 * (steep >= 0).sum()


@given(st.integers(0, 199), st.integers(2, 100))
def test_short_runs_tell_nothing(steps: int, horizon: int) -> None:
    falls = falling_steps(np.linspace(2, 1, steps), horizon=horizon, least=0.01)
    assert falls.shape == (steps + 1,)
    assert np.isfinite(falls).sum() == max(0, steps - 2 * horizon + 1)


def test_counts_of_runs_add_up() -> None:
    total = sum([AlarmCount(10, 20, 1, 2), AlarmCount(30, 40, 3, 4)], AlarmCount())
    assert total == AlarmCount(40, 60, 4, 6)
    assert (total.false_per_thousand, total.other_per_thousand) == (100, 100)


def test_the_plateau_fires_once_on_the_knee_of_an_exponential_and_then_behind_it() -> None:
    """After 3 time constants the loss still falls by more than 3 % in 100 steps: one false alarm a run."""
    total = AlarmCount()
    for seed in range(5):
        rng = np.random.default_rng(seed)
        losses = (0.5 + 2 * np.exp(-np.arange(3000) / 300)) * (1 + 0.05 * rng.standard_normal(3000))
        falls = falling_steps(losses, horizon=100, least=0.03)
        total += count_alarms(alarms_of(Plateau(), losses, every=20), falls)
    assert total.false_alarms == 5
    assert total.other_alarms >= 5
