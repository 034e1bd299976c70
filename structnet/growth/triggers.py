"""When to grow.

A trigger is an object with `fires(losses) -> bool`: given the training losses of every step since the last
growth, in order, is it time to grow again? It keeps no state, so a resumed run decides the same. `TRIGGERS`
maps a name to its class, which says how it is fitted to a run; a new trigger is a class, in a file of its own if it
likes, and an entry there. All work on ratios: multiplying the losses by a constant changes no answer. Losses that
are not finite never fire: a diverged network is not grown.

`GradientVariance` has the same interface but reads the norm of the gradient of every step; `watches` says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
from typing_extensions import override

from structnet.errors import UserError

Series = Sequence[float] | np.ndarray
Watches = Literal["loss", "gradient_norm"]

# A fall below this share of the loss is rounding: without noise every margin would be 0.
ROUNDING = 1e-9


class Trigger(Protocol):
    """What every trigger has."""

    watches: ClassVar[Watches]

    @classmethod
    def fitted(cls, interval: int) -> Trigger:
        """The trigger for a run that asks it after every `interval` steps, about ten times at most.

        So short a history decides little at the defaults, which suit one of thousands of steps.
        """

    def fires(self, losses: Series) -> bool:
        """Whether it is time to grow. losses: of every step since the last growth, or what it watches."""


@dataclass(frozen=True)
class FixedInterval(Trigger):
    """Fires when `steps` steps have passed since the last growth."""

    steps: int
    watches: ClassVar[Watches] = "loss"

    def __post_init__(self) -> None:
        _at_least("steps", self.steps, 1, "it is the number of steps between growths")

    @classmethod
    def fitted(cls, interval: int) -> FixedInterval:
        """Fires whenever it is asked."""
        return cls(interval)

    @override
    def fires(self, losses: Series) -> bool:
        return len(losses) >= self.steps and _finite(losses)


@dataclass(frozen=True)
class Plateau(Trigger):
    """Fires behind the knee of the loss: when it falls much slower than it has fallen since the last growth.

    The losses since the last growth are averaged in 12 blocks of equal length, each with the standard error
    its own noise gives. Three tests compare how fast the loss falls now with how fast it fell on average; two
    must agree: the slope at the end of a quadratic fit, the last two of four windows, and the second half.

    `slowdown` is the share of the average fall below which the loss counts as flat. On a noiseless
    exponential fall 0.4 fires after about 3 time constants, later with noise; a steady fall, however slow,
    has share 1. A loss that never fell fires when it is certain that it fell by less than `tolerance` (a
    share of the loss) in all the steps given; so does one that rises. `minimum`: steps before the first
    answer, at least 60 (five per block); raise it above the length of the drop that follows a growth, which
    slows down too.

    `standard_errors` is how many of them a difference must have before a plateau is read from it. Three keep false
    alarms rare although the question is asked again and again as the run goes on. A run that asks seldom and cannot
    wait takes fewer, and a tolerance that its noise can resolve: a mean of n losses with noise of share s is known
    to s/√n, so 1 % of the loss at three standard errors and 20 % of noise takes some 15,000 steps.
    """

    slowdown: float = 0.4
    tolerance: float = 0.01
    minimum: int = 120
    standard_errors: float = 3.0
    watches: ClassVar[Watches] = "loss"

    def __post_init__(self) -> None:
        _share("slowdown", self.slowdown, "it is the share of the average fall that counts as flat")
        _share("tolerance", self.tolerance, "it is the share of the loss that counts as no fall")
        _at_least("minimum", self.minimum, 5 * _BLOCKS, "a block of the smoothed loss is 5 steps or more")
        if not self.standard_errors > 0:
            raise UserError(
                f"standard_errors is {self.standard_errors}, but must be above 0: it is how certain a plateau must be"
            )

    @classmethod
    def fitted(cls, interval: int) -> Plateau:
        """Read at one standard error, from a fall to 60 % of the average, or from one of less than a fifth in all.

        At its defaults it fires only behind a first steep fall, and never where the loss is flat.
        """
        return cls(0.6, 0.2, max(5 * _BLOCKS, 2 * interval), standard_errors=1.0)

    @override
    def fires(self, losses: Series) -> bool:
        values = np.asarray(losses, dtype=np.float64)
        if len(values) < self.minimum or not np.isfinite(values).all():
            return False
        smoothed, variance = _smooth(values)
        level = float(np.abs(smoothed).mean())
        votes = [self._flat(now, average, smoothed, variance, level) for now, average in _FALLS]
        return sum(votes) >= 2

    def _flat(
        self, now: np.ndarray, average: np.ndarray, smoothed: np.ndarray, variance: np.ndarray, level: float
    ) -> bool:
        """One vote; `now` and `average` are weights on the smoothed losses that read a fall."""

        def fall_and_margin(weights: np.ndarray) -> tuple[float, float]:
            error = math.sqrt(float(weights**2 @ variance))
            return float(weights @ smoothed), self.standard_errors * error + ROUNDING * level

        fall, margin = fall_and_margin(average)
        if fall > margin:
            faster, margin = fall_and_margin(now - self.slowdown * average)
            return faster + margin < 0
        late, late_margin = fall_and_margin(now)
        return fall + margin <= self.tolerance * level and late <= late_margin


@dataclass(frozen=True)
class Patience(Trigger):
    """Fires when the smoothed loss has set no new minimum for `steps` steps.

    Smoothed: the mean of adjacent blocks of `steps` ÷ 5 losses. A minimum counts when it is below the best
    one before it by more than `improvement`, a share of that best loss.
    """

    steps: int = 500
    improvement: float = 0.01
    watches: ClassVar[Watches] = "loss"

    def __post_init__(self) -> None:
        _at_least("steps", self.steps, _PATIENCE_BLOCKS, "the loss is averaged over a fifth of the steps")
        _share("improvement", self.improvement, "it is the share of the loss a new minimum must gain")

    @classmethod
    def fitted(cls, interval: int) -> Patience:
        """Patience for two intervals."""
        return cls(max(_PATIENCE_BLOCKS, 2 * interval))

    @override
    def fires(self, losses: Series) -> bool:
        values = np.asarray(losses, dtype=np.float64)
        length = self.steps // _PATIENCE_BLOCKS
        if len(values) < self.steps + length or not np.isfinite(values).all():
            return False
        blocks = _blocks(values, len(values) // length).mean(axis=1)
        best_before = float(blocks[:-_PATIENCE_BLOCKS].min())
        return float(blocks[-_PATIENCE_BLOCKS:].min()) >= best_before - self.improvement * abs(best_before)


@dataclass(frozen=True)
class GradientVariance(Trigger):
    """Fires on a spike of the variance of the gradient norm; give it norms instead of losses.

    The logarithm of the variance in the last `window` steps is compared with the median of the 8 to 20
    windows before it. Only a rise counts, and only beyond `deviations` robust standard deviations (median
    absolute deviation, and never less than normal noise alone gives a variance of that many steps): no
    false alarm in 100 healthy runs of 2,000 steps with 20 % noise.
    """

    window: int = 50
    deviations: float = 6.0
    watches: ClassVar[Watches] = "gradient_norm"

    def __post_init__(self) -> None:
        _at_least("window", self.window, 10, "a variance of fewer steps says little")
        if not self.deviations > 0:
            raise UserError(f"deviations is {self.deviations}, but must be above 0: it is a spike's size")

    @classmethod
    def fitted(cls, interval: int) -> GradientVariance:
        """Windows of half an interval, and spikes of half the size."""
        return cls(max(10, interval // 2), 3.0)

    @override
    def fires(self, losses: Series) -> bool:
        values = np.asarray(losses, dtype=np.float64)
        windows = min(21, len(values) // self.window)
        if windows < 9 or not np.isfinite(values).all():
            return False
        variances = _blocks(values[-windows * self.window :], windows).var(axis=1, ddof=1)
        # Norms that do not vary at all have no logarithm; against them any variance is a rise.
        logs = np.log(np.maximum(variances, np.finfo(np.float64).tiny))
        baseline = np.median(logs[:-1])
        robust = 1.4826 * np.median(np.abs(logs[:-1] - baseline))
        deviation = max(float(robust), math.sqrt(2 / (self.window - 1)))
        return bool(logs[-1] - baseline > self.deviations * deviation)


TRIGGERS: dict[str, type[Trigger]] = {
    "interval": FixedInterval,
    "plateau": Plateau,
    "patience": Patience,
    "gradient_variance": GradientVariance,
}


def fitted_trigger(name: str, interval: int) -> Trigger:
    """The trigger of this name, fitted to a run that asks it after every `interval` steps.

    Alarms per 1,000 steps (`structnet.experiments.false_alarms`), while the loss fell by more than 3 % in three
    intervals / while it did not, on four kinds of sparse networks for digits, MNIST and the teacher, 5 rng_seeds
    each, intervals of 33 or 100 steps: plateau 1.7–6.8 / 2.8–13.3 (at its defaults 0–2.9 / 0), patience 0–0.7 /
    2.7–7.0, gradient variance 0–0.7 / 0, interval 11–32 / 10–34. Raises UserError for an unknown name.
    """
    check_trigger(name)
    return TRIGGERS[name].fitted(interval)


def check_trigger(name: str) -> None:
    """Raises UserError unless there is a trigger of this name."""
    if name not in TRIGGERS:
        raise UserError(f"trigger is '{name}', but must be one of {', '.join(TRIGGERS)}")


_BLOCKS = 12
_PATIENCE_BLOCKS = 5


def _fall_weights() -> list[tuple[np.ndarray, np.ndarray]]:
    """Per test, the weights that read from 12 block means the fall now and the average one.

    Both in units of the loss per history, so that on a straight line they are equal.
    """
    x = (np.arange(_BLOCKS) + 0.5) / _BLOCKS
    # Rows: the weights that give the three coefficients of the least-squares parabola.
    constant_linear_square = np.linalg.pinv(np.stack([np.ones(_BLOCKS), x, x**2], axis=1))
    _, linear, square = constant_linear_square
    fit = (-(linear + 2 * square), -(linear + square))

    quarters = np.repeat(np.eye(4), 3, axis=1) / 3
    windows = (4 * (quarters[2] - quarters[3]), 4 * (quarters[0] - quarters[3]) / 3)

    start, middle, end = (np.zeros(_BLOCKS) for _ in range(3))
    start[:2], middle[5:7], end[-2:] = 0.5, 0.5, 0.5
    # The middles of these pairs of blocks are 5 blocks apart.
    relative = (_BLOCKS / 5 * (middle - end), _BLOCKS / 10 * (start - end))
    return [fit, windows, relative]


_FALLS = _fall_weights()


def _blocks(values: np.ndarray, count: int) -> np.ndarray:
    """The latest values as (count, length); the few oldest that do not fill a block are left out."""
    length = len(values) // count
    return values[len(values) - count * length :].reshape(count, length)


def _smooth(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of 12 blocks and the variance of each mean, both (12,).

    The noise comes from successive differences (von Neumann 1941), which a slow fall hardly touches.
    """
    blocks = _blocks(values, _BLOCKS)
    noise = np.square(np.diff(blocks, axis=1)).mean(axis=1) / 2
    return blocks.mean(axis=1), noise / blocks.shape[1]


def _finite(losses: Series) -> bool:
    return bool(np.isfinite(np.asarray(losses, dtype=np.float64)).all())


def _at_least(name: str, value: int, low: int, reason: str) -> None:
    if value < low:
        raise UserError(f"{name} is {value}, but must be at least {low}: {reason}")


def _share(name: str, value: float, reason: str) -> None:
    if not 0 < value < 1:
        raise UserError(f"{name} is {value}, but must be between 0 and 1: {reason}")
