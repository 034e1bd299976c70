"""When has a loss stopped falling? Three ways to look at its curve, of which two have to agree.

All are measured against how far the loss has fallen so far, over windows that grow with the curve, so that neither the
scale of the loss nor the speed of learning matters; and each asks for evidence: that what the loss may still fall, by
its error, is little. So a steady fall does not count as the end of one, however slow and noisy, and an exponential one
does behind its knee. The thresholds were calibrated on synthetic curves (tests/structnet).

The source compared every loss with the one before it and absolute slopes with constants, and practically never fired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST, PATIENCE = 30, 20  # steps
SMOOTHING = 10.0  # steps after which a loss counts 1/e in the smoothed one
FLAT = 0.02  # of the fall so far: less than that over a tenth of the curve is no fall
SLIGHT = 0.05  # of the loss: what has fallen by less is measured against this
SECOND_HALF = 0.2  # of the fall of a curve that has ended in its first half


def smoothed(losses: Sequence[float], constant: float = SMOOTHING) -> np.ndarray:
    """An exponential running mean, corrected for its beginning (as Kingma & Ba 2015 do it)."""
    from scipy.signal import lfilter

    keep = float(np.exp(-1 / constant))
    values = np.asarray(losses, dtype=np.float64)
    weights = 1 - keep ** np.arange(1, len(values) + 1)
    found: np.ndarray = lfilter([1 - keep], [1, -keep], values) / weights
    return found


@dataclass(frozen=True)
class Curve:
    """losses and the smoothed ones, (steps,). fall: how far it has come down. noise: standard deviation of a loss."""

    losses: np.ndarray
    smooth: np.ndarray
    fall: float
    noise: float
    least: int

    @classmethod
    def of(cls, losses: Sequence[float], least: int) -> Curve:
        """Of losses in nats, one a step."""
        smooth, values = smoothed(losses), np.asarray(losses, dtype=np.float64)
        fall = float(smooth[min(4, len(smooth) - 1)] - smooth.min())
        # A loss and the running mean before it differ by the noise of both.
        noise = float(np.std(values[1:] - smooth[:-1])) / np.sqrt(1 + 0.5 / SMOOTHING)
        return cls(values, smooth, fall, noise, least)

    def is_flat(self, gain: float, error: float) -> bool:
        """Whether a gain over a tenth of the curve is no fall, and known well enough to say so."""
        least = FLAT * max(self.fall, SLIGHT * abs(float(self.smooth[-1])), 1e-12)
        return bool(max(gain, error) < least)


def stabilised(losses: Sequence[float], *, least: int = LEAST, patience: int = PATIENCE) -> str | None:
    """What says that the losses, one a step in nats, fall no more, such as `polynomial+relative`; None if nothing does.

    least: steps before which nothing is said. patience: steps, or a tenth of all where that is more, for which the
    smoothed loss must not have reached a new low; after twice as many one way is enough.
    """
    count = len(losses)
    if count < least:
        return None
    curve = Curve.of(losses, least)
    # What noise does to a smoothed loss is no low, and neither is what rounding does to a constant one.
    rounding = 1e-6 * abs(float(curve.smooth[-1]))
    step = max(FLAT * curve.fall, 2 * curve.noise / np.sqrt(2 * SMOOTHING), rounding)
    waited, patience = count - 1 - last_low(curve.smooth, step), max(patience, count // 10)
    if waited < patience:
        return None
    agreeing = [name for name, agrees in WAYS.items() if agrees(curve)]
    return "+".join(agreeing) if len(agreeing) >= (1 if waited >= 2 * patience else 2) else None


def last_low(smooth: np.ndarray, step: float) -> int:
    """Where a low was last reached that is lower by a step than the one before it."""
    low, place = float(smooth[0]), 0
    for index, value in enumerate(smooth):
        if value < low - step:
            low, place = float(value), index
    return place


def _polynomial(curve: Curve) -> bool:
    """A parabola through the last third has no fall left at its end, over a tenth of the curve."""
    count = len(curve.losses)
    last = curve.losses[-max(curve.least, count // 3) :]
    places = np.arange(len(last)) - (len(last) - 1)
    powers = np.vander(places, 3)
    slope = float(np.linalg.lstsq(powers, last, rcond=None)[0][1])
    error = curve.noise * float(np.sqrt(np.linalg.inv(powers.T @ powers)[1, 1]))
    return curve.is_flat(-slope * max(5, count // 10), error * max(5, count // 10))


def _windows(curve: Curve) -> bool:
    """Of five windows side by side the last is hardly better than the one before, and the gains became smaller."""
    width = max(5, len(curve.losses) // 10)
    if 5 * width > len(curve.losses):
        return False
    means = curve.losses[-5 * width :].reshape(5, width).mean(axis=1)
    gains, error = -np.diff(means), curve.noise * np.sqrt(2 / width)
    return curve.is_flat(gains[-1], error) and bool(gains[2:].mean() <= gains[:2].mean() + error)


def _relative(curve: Curve) -> bool:
    """It fell, and by less than a fifth of that in the second half."""
    smooth, error = curve.smooth, curve.noise / np.sqrt(2 * SMOOTHING)
    if len(smooth) < 2 * curve.least:
        return False
    half = float(smooth[len(smooth) // 2] - smooth[-1])
    return bool(max(half, 3 * np.sqrt(2) * error) < SECOND_HALF * curve.fall)


WAYS = {"polynomial": _polynomial, "windows": _windows, "relative": _relative}
