"""When a loss has stabilised, on synthetic curves with noise of 5 %: the calibration of the thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from structnet.heads import stabilisation
from structnet.heads.stabilisation import WAYS, last_low, smoothed, stabilised

SEEDS = range(8)


def fired(curve: np.ndarray, every: int) -> tuple[int, str] | None:
    """The step at which it is first said, looking at intervals, and by what."""
    for count in range(30, len(curve) + 1, every):
        if reason := stabilised(curve[:count].tolist()):
            return count, reason
    return None


def noisy(curve: np.ndarray, rng_seed: int) -> np.ndarray:
    return np.asarray(curve * (1 + 0.05 * np.random.default_rng(rng_seed).standard_normal(len(curve))))


@pytest.mark.parametrize("floor", [0.05, 0.5, 1.5])
@pytest.mark.parametrize("constant", [30, 60, 120])
def test_it_fires_behind_the_knee_of_a_noisy_exponential(constant: int, floor: float) -> None:
    """Not before nine tenths of the fall are behind it, and not long after all of it is."""
    steps = np.arange(9 * constant)
    for seed in SEEDS:
        found = fired(noisy(floor + (2.3 - floor) * np.exp(-steps / constant), seed), constant // 10)
        assert found is not None
        assert 2.3 * constant <= found[0] <= 7 * constant


@pytest.mark.parametrize("length", [300, 1000])
@pytest.mark.parametrize("end", [0.0, 0.3, 0.6, 0.9])
def test_it_never_fires_on_a_steady_fall(end: float, length: int) -> None:
    line = 2.3 * (1 - (1 - end) * np.arange(length) / length)
    for seed in SEEDS:
        assert fired(noisy(line, seed), 1 + length // 300) is None


def test_the_scale_of_the_loss_does_not_matter() -> None:
    curve = noisy(0.5 + 1.8 * np.exp(-np.arange(400) / 60), 0)
    assert fired(curve, 5) == fired(curve * 1000, 5)


@pytest.mark.parametrize(("agreeing", "first"), [(1, 121), (2, 61), (3, 61), (0, None)])
def test_two_of_three_have_to_agree(
    agreeing: int, first: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a patience of 60 steps, and one alone after twice as much; nothing here is ever lower than at first."""
    ways = {name: (lambda curve, agrees=number < agreeing: agrees) for number, name in enumerate(WAYS)}
    monkeypatch.setattr(stabilisation, "WAYS", ways)
    said = [count for count in range(30, 150) if stabilised([1.0] * count, patience=60)]
    assert said[:1] == ([] if first is None else [first])


def test_nothing_is_said_too_early() -> None:
    flat = [1.0] * 200
    assert stabilised(flat[:29]) is None
    assert stabilised(flat, least=201) is None
    assert stabilised(flat) is not None


def test_a_low_counts_that_is_lower_by_a_step() -> None:
    assert last_low(np.array([3.0, 2.0, 1.95, 1.9, 1.85, 2.0, 1.7]), 0.2) == 6
    assert last_low(np.array([3.0, 2.0, 1.95, 1.9, 1.85, 2.0, 1.7]), 0.31) == 1


def test_smoothing_has_no_bias_at_the_beginning() -> None:
    assert smoothed([2.0] * 5).tolist() == pytest.approx([2.0] * 5)
    keep = np.exp(-1 / 10)
    assert smoothed([1.0, 3.0])[1] == pytest.approx((keep * 1 + 3) / (1 + keep))
