"""The statistics of every comparison: means with their spread, leads paired by rng_seed, intervals, rank correlation.

An interval here is at 95 % and tells where a mean lies, not where single values do. The arithmetic is scipy's, whose
`stats` is imported when it is asked: it takes half a second, which a worker that trains need not wait for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
RESAMPLES = 10_000


class ConfidenceInterval(NamedTuple):
    """A mean and the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def is_above_zero(self) -> bool:
        """Whether all of it lies above 0: as a lead, surely ahead."""
        return self.low > 0

    @property
    def is_below_zero(self) -> bool:
        """Whether all of it lies below 0: as a lead, surely behind."""
        return self.high < 0

    def shown(self, *, scale: float = 1.0, digits: int = 2, named: bool = False) -> str:
        """As text, with signs. scale: 100 turns shares into points. named: says what stands in brackets."""
        mean, low, high = (f"{scale * value:+.{digits}f}" for value in self)
        return f"{mean} ({'95 % interval ' if named else ''}{low} to {high})"


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single number)."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0


def shown_with_spread(values: Sequence[float], *, scale: float = 1.0, digits: int = 4) -> str:
    """Mean ± sample standard deviation as text; scale: 100 turns shares into percent."""
    return " ± ".join(f"{scale * value:,.{digits}f}" for value in mean_and_spread(values))


def mean_and_error(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Mean and its standard error.

    The error of a single number is infinite: it tells nothing about the spread, and so is never significant.
    """
    array = np.asarray(values, dtype=np.float64)
    error = math.inf if len(array) == 1 else float(array.std(ddof=1)) / math.sqrt(len(array))
    return float(array.mean()), error


def paired_gain(fork: np.ndarray, control: np.ndarray) -> tuple[float, float]:
    """What the fork knows more than the control: mean difference in bits and its standard error.

    Both (n,): `log2_likelihood` over the same images in the same order. H(Y) cancels, and so does what makes
    an image hard for both, so the error is far below that of either. For one image the error is infinite.
    Raises ValueError when the shapes differ, there are no images, or a difference is not finite.
    """
    fork, control = np.asarray(fork, dtype=np.float64), np.asarray(control, dtype=np.float64)
    if fork.shape != control.shape or fork.ndim != 1 or fork.size == 0:
        raise ValueError(
            f"fork has shape {fork.shape} and control {control.shape}, but both must be (n,), "
            "n ≥ 1: they are compared image by image"
        )
    if not (np.isfinite(fork).all() and np.isfinite(control).all()):
        raise ValueError("log-likelihoods must be finite, but some are NaN or infinite")
    return mean_and_error(fork - control)


def mean_interval(values: Sequence[float] | np.ndarray, *, comparisons: int = 1) -> ConfidenceInterval:
    """The mean of numbers and its t interval (Student 1908); an infinite one for a single number.

    comparisons: of how many such intervals all are to hold together at 95 % (Bonferroni's correction).
    """
    array = np.asarray(values, dtype=np.float64)
    mean, count = float(array.mean()), len(array)
    if count < 2:
        return ConfidenceInterval(mean, -math.inf, math.inf)
    # Not t.interval, which has no answer where all numbers are the same.
    quantile = t_quantile(1 - (1 - LEVEL) / 2 / comparisons, count)
    reach = float(quantile * array.std(ddof=1) / np.sqrt(count))
    return ConfidenceInterval(mean, mean - reach, mean + reach)


def t_quantile(share: float, count: int) -> float:
    """Of Student's t (1908) for the mean of so many numbers, at least two; share: of the distribution below it."""
    from scipy import stats

    return float(stats.t.ppf(share, count - 1))


def paired_lead(
    values: Mapping[int, float], others: Mapping[int, float], *, comparisons: int = 1
) -> ConfidenceInterval | None:
    """How far values are above others by rng_seed: the mean of the differences and its t interval.

    Both: rng_seed -> value. Only rng_seeds that both have count; None without any. comparisons as in `mean_interval`.
    """
    both = sorted(values.keys() & others.keys())
    if not both:
        return None
    return mean_interval([values[seed] - others[seed] for seed in both], comparisons=comparisons)


def bootstrap_interval(values: np.ndarray, rng: np.random.Generator) -> ConfidenceInterval:
    """The mean of (n,) numbers, at least two, and its percentile bootstrap interval (Efron 1979)."""
    from scipy import stats

    found = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, method="percentile", rng=rng
    ).confidence_interval
    # Equal numbers may have another mean in the last digit than their resamples.
    mean = float(values.mean())
    return ConfidenceInterval(mean, min(float(found.low), mean), max(float(found.high), mean))


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Of their ranks, equal values sharing theirs (Spearman 1904); 0 where either has no order at all."""
    from scipy import stats

    if min(np.ptp(one), np.ptp(other)) == 0:
        return 0.0
    return float(stats.spearmanr(one, other).statistic)
