"""Error against size: how far apart two methods are over a range of sizes, in one number.

A method has a curve for each rng_seed: the error of its network at each size, joined by straight lines over the
logarithm of the size. Two methods are compared by the area between their curves, paired by rng_seed, over the
sizes that all curves reach.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from structnet.measure.statistics import ConfidenceInterval, mean_interval


class Point(NamedTuple):
    """A network: its parameters, and its error, a share in [0, 1]."""

    parameters: int
    error: float


@dataclass(frozen=True)
class Gap:
    """The area between two curves. area: error × doublings of the size, above 0 where the first has more error.

    smallest, largest: the sizes it is taken between, parameters. rng_seeds: how many pairs of curves.
    """

    area: ConfidenceInterval
    smallest: float
    largest: float
    rng_seeds: int

    @property
    def doublings(self) -> float:
        """The width of the range, as a logarithm to base 2."""
        return math.log2(self.largest / self.smallest)

    @property
    def height(self) -> ConfidenceInterval:
        """The area by the width: the difference of the errors, averaged over the logarithm of the size."""
        return ConfidenceInterval(*(value / self.doublings for value in self.area))


def gap_between(curves: Mapping[int, Sequence[Point]], others: Mapping[int, Sequence[Point]]) -> Gap | None:
    """The area of `curves` above `others`, with a 95 % t interval (Student 1908), paired by rng_seed.

    curves, others: rng_seed -> points. Only rng_seeds that both have count, and only sizes that every curve
    reaches. None if there are none of them, or only one size.
    """
    shared = sorted(seed for seed in curves.keys() & others.keys() if curves[seed] and others[seed])
    pairs = [(_joined(curves[seed]), _joined(others[seed])) for seed in shared]
    ends = [(size[0], size[-1]) for pair in pairs for size, _ in pair]
    low, high = max((end[0] for end in ends), default=0.0), min((end[1] for end in ends), default=0.0)
    if low >= high:
        return None
    areas = [_area(*first, low, high) - _area(*second, low, high) for first, second in pairs]
    return Gap(mean_interval(areas), 2.0**low, 2.0**high, len(shared))


def _joined(points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray]:
    """Ascending logarithms of the sizes, to base 2, and the errors; networks of one size are averaged."""
    sizes = np.array([point.parameters for point in points])
    errors = np.array([point.error for point in points])
    known, place = np.unique(sizes, return_inverse=True)
    return np.log2(known), np.bincount(place, errors) / np.bincount(place)


def _area(size: np.ndarray, error: np.ndarray, low: float, high: float) -> float:
    """Below the line through these points, from low to high."""
    inside = size[(size > low) & (size < high)]
    corners = np.concatenate([[low], inside, [high]])
    return float(np.trapezoid(np.interp(corners, size, error), corners))
