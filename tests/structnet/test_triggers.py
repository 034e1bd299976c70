"""When to grow: behind the knee of a falling loss, never on a steady fall, whatever the scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structnet.errors import UserError
from structnet.growth.triggers import (
    _FALLS,
    TRIGGERS,
    FixedInterval,
    GradientVariance,
    Patience,
    Plateau,
    Trigger,
    fitted_trigger,
)


def first_fire(trigger: Trigger, losses: np.ndarray, every: int = 10) -> int | None:
    """The number of steps after which the trigger fires first, asked every few steps as a run would."""
    return next((n for n in range(every, len(losses) + 1, every) if trigger.fires(losses[:n])), None)


def noisy(losses: np.ndarray, rng_seed: int, share: float = 0.05) -> np.ndarray:
    return losses * (1 + share * np.random.default_rng(rng_seed).standard_normal(len(losses)))


def exponential(time_constant: int) -> np.ndarray:
    return 0.5 + 2 * np.exp(-np.arange(8 * time_constant) / time_constant)


# --- contracts of every trigger

ALL: list[Trigger] = [FixedInterval(200), Plateau(), Patience(), GradientVariance()]
FIRING = {
    "FixedInterval": np.ones(200),
    "Plateau": np.ones(400),
    "Patience": np.ones(700),
    "GradientVariance": np.concatenate([np.tile([1.0, 1.1], 250), np.tile([1.0, 9.0], 25)]),
}


def test_the_registry_names_them_all() -> None:
    assert set(TRIGGERS.values()) == {type(trigger) for trigger in ALL}


@pytest.mark.parametrize("trigger", ALL, ids=lambda trigger: type(trigger).__name__)
def test_contract(trigger: Trigger) -> None:
    series = FIRING[type(trigger).__name__]
    assert trigger.fires(series) is True
    assert trigger.fires(series.tolist()) is True
    assert trigger.fires([]) is False
    assert trigger.fires(series[:1]) is False
    for bad in (np.nan, np.inf):
        diverged = series.copy()
        diverged[-1] = bad
        assert trigger.fires(diverged) is False
    assert trigger.watches in ("loss", "gradient_norm")


@given(
    trigger=st.sampled_from(ALL),
    curve=st.sampled_from([exponential(200), np.linspace(1.0, 0.98, 1600), np.ones(1600)]),
    rng_seed=st.integers(0, 1000),
    n=st.integers(120, 1600),
    factor=st.sampled_from([10.0, 1 / 3, 1e-6, 1024.0]),
)
def test_the_unit_of_the_loss_does_not_matter(
    trigger: Trigger, curve: np.ndarray, rng_seed: int, n: int, factor: float
) -> None:
    losses = noisy(curve[:n], rng_seed)
    assert trigger.fires(losses) == trigger.fires(factor * losses)


# --- interval


def test_interval_counts_steps() -> None:
    assert not FixedInterval(3).fires([1, 1])
    assert FixedInterval(3).fires([1, 1, 1])
    assert FixedInterval(3).fires([3, 2, 1, 0])


# --- plateau


@pytest.mark.parametrize("time_constant", [100, 300, 1000])
def test_plateau_fires_at_three_time_constants_without_noise(time_constant: int) -> None:
    fired = first_fire(Plateau(), exponential(time_constant))
    assert fired == pytest.approx(3 * time_constant, rel=0.05)


@pytest.mark.parametrize("time_constant", [100, 300])
def test_plateau_fires_behind_the_knee_with_noise(time_constant: int) -> None:
    """5 % noise, 50 seeds: always later than 2.5 time constants, always before 4."""
    for rng_seed in range(50):
        fired = first_fire(Plateau(), noisy(exponential(time_constant), rng_seed), every=20)
        assert fired is not None
        assert 2.5 * time_constant < fired < 4 * time_constant


@given(start=st.floats(0.1, 10), left=st.floats(0, 0.999), n=st.integers(120, 3000))
def test_plateau_never_fires_on_a_straight_fall(start: float, left: float, n: int) -> None:
    """However slow: left is the share of the loss that remains at the end."""
    assert not Plateau().fires(np.linspace(start, start * left, n))


@pytest.mark.parametrize(("noise", "allowed"), [(0.05, 0), (0.2, 2)])
def test_plateau_false_alarms_on_a_healthy_run(noise: float, allowed: int) -> None:
    """A steady fall from 2.3 to 0.3 in 1,500 steps, 200 seeds, asked 150 times each.

    The bound: no run of 200 with 5 % noise, at most 1 % of the runs with 20 %.
    """
    healthy = np.linspace(2.3, 0.3, 1500)
    alarms = sum(first_fire(Plateau(), noisy(healthy, seed, noise)) is not None for seed in range(200))
    assert alarms <= allowed


def test_plateau_fires_on_a_noisy_loss_that_does_not_fall() -> None:
    """On raw losses a fall every other step hides a plateau for ever; smoothed it shows."""
    fired = [first_fire(Plateau(), noisy(np.ones(4000), seed), every=40) or 4000 for seed in range(20)]
    assert np.median(fired) < 2500


@given(rise=st.floats(0, 3), level=st.floats(0, 5))
def test_plateau_fires_on_a_loss_that_is_flat_or_rises(rise: float, level: float) -> None:
    assert Plateau().fires(level + np.linspace(0, rise, 300))


def test_plateau_does_not_fire_while_a_bump_is_falling_again() -> None:
    """Up and back down since the growth: no fall on the whole, but a fall now."""
    bump = 1 + np.sin(np.linspace(0, np.pi, 600))
    assert not Plateau().fires(bump)


def test_plateau_waits_for_its_minimum() -> None:
    assert not Plateau().fires(np.ones(119))
    assert Plateau().fires(np.ones(120))
    assert not Plateau(minimum=500).fires(np.ones(499))


def test_plateau_slowdown_moves_the_knee() -> None:
    early, late = (first_fire(Plateau(slowdown=share), exponential(300)) for share in (0.6, 0.2))
    assert early is not None
    assert late is not None
    assert early < 800 < 1000 < late


def test_the_three_tests_agree_on_a_line_and_know_a_parabola() -> None:
    x = (np.arange(12) + 0.5) / 12
    for now, average in _FALLS:
        assert now @ (5 - 3 * x) == pytest.approx(3)
        assert average @ (5 - 3 * x) == pytest.approx(3)
    # (1 − x)²: the slope at x is 2 (1 − x). Fit: at 1. Windows: between the last two, 3/4, and from the
    # middle of the first to that of the last, 1/2. Halves: between 1/2 and 11/12, 7/24 from the end, and 1/2.
    expected = [(0, 1), (1 / 2, 1), (2 * 7 / 24, 1)]
    for (now, average), (late, mean) in zip(_FALLS, expected, strict=True):
        assert now @ (1 - x) ** 2 == pytest.approx(late)
        assert average @ (1 - x) ** 2 == pytest.approx(mean)


def test_two_of_three_must_agree() -> None:
    """The last block turns up: shares of the average fall are 0.44 (fit), 0.75 (windows), 0.82."""
    losses = np.repeat(np.array([12.0, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 4]), 20)
    blocks = losses[::20]
    assert [now @ blocks / (average @ blocks) for now, average in _FALLS] == pytest.approx(
        [0.441, 0.75, 0.824], abs=0.001
    )
    assert not Plateau(slowdown=0.6).fires(losses)
    assert Plateau(slowdown=0.78).fires(losses)


# --- patience


def test_patience_by_hand() -> None:
    """Blocks of 1: with patience 5, five steps without a loss below 99 % of the best before them."""
    patience = Patience(steps=5)
    assert not patience.fires([3, 2, 1, 2, 2, 2, 2])
    assert patience.fires([3, 2, 1, 2, 2, 2, 2, 2])
    assert patience.fires([3, 2, 1, 2, 2, 2, 2, 0.995])
    assert not patience.fires([3, 2, 1, 2, 2, 2, 2, 0.98])
    assert not patience.fires([0.003, 0.002, 0.001, 0.002, 0.002, 0.002, 0.002, 0.00098])


def test_patience_sees_through_noise() -> None:
    """A lucky batch is no new minimum."""
    for rng_seed in range(20):
        assert first_fire(Patience(), noisy(np.linspace(2.3, 0.3, 2000), rng_seed)) is None
        assert first_fire(Patience(), noisy(np.concatenate([exponential(100), np.full(1500, 0.5)]), rng_seed))


# --- gradient variance


def norms(rng_seed: int, n: int = 2000) -> np.ndarray:
    """A healthy run: the norm and its spread of 20 % fall together, to half."""
    return noisy(1 + np.exp(-np.arange(n) / 500), rng_seed, share=0.2)


def test_gradient_variance_false_alarms_on_a_healthy_run() -> None:
    """100 seeds of 2,000 steps, asked 200 times each: at most 1 % may fire."""
    assert sum(first_fire(GradientVariance(), norms(seed)) is not None for seed in range(100)) <= 1


def test_gradient_variance_fires_on_a_spike_and_only_upwards() -> None:
    for rng_seed in range(20):
        series = norms(rng_seed)
        rng = np.random.default_rng(rng_seed)
        spike, calm = series.copy(), series.copy()
        spike[-50:] = 1 + 2 * np.abs(rng.standard_normal(50))
        calm[-50:] = 1 + 1e-6 * rng.standard_normal(50)
        assert GradientVariance().fires(spike)
        assert not GradientVariance().fires(calm)


def test_gradient_variance_allows_for_the_error_of_a_variance() -> None:
    """Windows that happen to be all alike do not make the next one a spike."""
    same = np.tile([1.0, 1.1], 250)
    assert not GradientVariance().fires(np.concatenate([same, np.tile([1.0, 1.15], 25)]))
    assert GradientVariance().fires(np.concatenate([same, np.tile([1.0, 1.2], 25)]))


def test_gradient_variance_needs_eight_windows_before() -> None:
    series = FIRING["GradientVariance"]
    assert GradientVariance().fires(series[-450:])
    assert not GradientVariance().fires(series[-449:])


# --- fitted to a short run


@pytest.mark.parametrize("interval", [1, 33, 100])
@pytest.mark.parametrize("name", TRIGGERS)
def test_every_trigger_can_be_fitted_to_any_interval(name: str, interval: int) -> None:
    trigger = fitted_trigger(name, interval)
    assert type(trigger) is TRIGGERS[name]
    assert not trigger.fires([])


@pytest.mark.parametrize(
    ("name", "intervals"), [("interval", 1), ("plateau", 2), ("patience", 3), ("gradient_variance", 5)]
)
def test_a_fitted_trigger_answers_within_a_few_intervals(name: str, intervals: int) -> None:
    """A loss that stopped falling before, or norms that begin to vary in the last half of an interval."""
    series = np.ones(100 * intervals)
    if name == "gradient_variance":
        series += 0.1 * np.tile([1, -1], len(series) // 2)
        series[-50:] += np.tile([1, -1], 25)
    trigger = fitted_trigger(name, 100)
    assert trigger.fires(series)
    assert not trigger.fires(series[: 100 * (intervals - 1)])


def test_the_fitted_plateau_sees_what_the_default_cannot_in_ten_intervals() -> None:
    """20 % of noise on a flat loss: 1,000 steps do not make a fall below 1 % certain, nor 330."""
    fired: dict[str, int] = {"default": 0, "fitted": 0}
    for rng_seed in range(20):
        flat = noisy(np.ones(330), rng_seed, share=0.2)
        fired["default"] += first_fire(Plateau(), flat, every=33) is not None
        fired["fitted"] += first_fire(fitted_trigger("plateau", 33), flat, every=33) is not None
    assert fired["default"] == 0
    assert fired["fitted"] == 20


def test_an_unknown_trigger_is_refused() -> None:
    with pytest.raises(UserError, match="trigger is 'mood', but must be one of interval, plateau"):
        fitted_trigger("mood", 10)


# --- what is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedInterval(0), "steps is 0"),
        (lambda: Plateau(slowdown=1.0), "slowdown is 1.0"),
        (lambda: Plateau(tolerance=0.0), "tolerance is 0.0"),
        (lambda: Plateau(minimum=50), "minimum is 50, but must be at least 60"),
        (lambda: Plateau(standard_errors=0.0), "standard_errors is 0.0"),
        (lambda: Patience(steps=4), "steps is 4"),
        (lambda: Patience(improvement=float("nan")), "improvement is nan"),
        (lambda: GradientVariance(window=9), "window is 9"),
        (lambda: GradientVariance(deviations=0), "deviations is 0"),
    ],
)
def test_refusals(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(UserError, match=message):
        make()
