"""Batch normalisation of feature maps (Ioffe & Szegedy 2015), over the positions and images of a block.

A map is brought to mean 0 and variance 1 before its bias is added. It has no scale: a ReLU and the taps behind it make
up for one. What means and variances are on average is kept, for the network that stands when training is over
(structnet.network.normalisation).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from structnet.compiled.compiler import part
from structnet.compiled.sheets import HIGH, PITCH, SHEET, UNIT, UNITS, WIDE, Sheets

LEAST_VARIANCE = 1e-5
FOLLOWED = 0.1  # share of the way that kept statistics go in a step


class Statistics(NamedTuple):
    """What normalising a block reads and writes.

    before: (rows · width,), as the workspace, what maps are between normalising and bias; (0,) where nothing is
    normalised. mean, variance: (units behind the input,) of this block, float64.
    """

    before: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


@part
def normalise(
    flat: np.ndarray,
    width: int,
    of: np.ndarray,
    first: int,
    bias: float,
    statistics: Statistics,
    unit: int,
    count: int,
) -> None:
    """A map, whose first position is row `first`, in place; its first `count` images are there, the others become 0."""
    mean, variance = _moments(flat, width, of, first, count)
    statistics.mean[unit], statistics.variance[unit] = mean, variance
    scale, before = flat.dtype.type(1 / math.sqrt(variance + LEAST_VARIANCE)), statistics.before
    centre, size = flat.dtype.type(mean), of[WIDE] * width
    for y in range(of[HIGH]):
        here = (first + y * of[PITCH]) * width
        run, kept = flat[here : here + size], before[here : here + size]
        for number in range(len(run)):
            normal = (run[number] - centre) * scale
            kept[number] = normal
            run[number] = normal + bias
        if count < width:
            _clear_behind(flat, here, here + size, width, count)
            _clear_behind(before, here, here + size, width, count)


@part
def _clear_behind(flat: np.ndarray, first: int, last: int, width: int, count: int) -> None:
    """Makes the columns behind the last image 0."""
    for row in range(first, last, width):
        behind = flat[row + count : row + width]
        for image in range(len(behind)):
            behind[image] = flat.dtype.type(0)


@part
def _moments(flat: np.ndarray, width: int, of: np.ndarray, first: int, count: int) -> tuple[float, float]:
    """Mean and variance of a map, by sums of what it is above some number of it, so that little is lost."""
    kind, shift, total, squares = flat.dtype.type, flat[first * width], 0.0, 0.0
    for y in range(of[HIGH]):
        here, part_total, part_squares = (first + y * of[PITCH]) * width, kind(0), kind(0)
        last = here + of[WIDE] * width
        # All numbers in one loop, or row by row those of the images that are there.
        step, length = (last - here, last - here) if count == width else (width, count)
        for row in range(here, last, step):
            run = flat[row : row + length]
            for number in range(len(run)):
                above = run[number] - shift
                part_total += above
                part_squares += above * above
        total += part_total
        squares += part_squares
    size = of[HIGH] * of[WIDE] * count
    mean = total / size
    return shift + mean, max(0.0, squares / size - mean * mean)


@part
def denormalise(
    errors: np.ndarray, width: int, of: np.ndarray, first: int, statistics: Statistics, unit: int, count: int
) -> None:
    """The errors of a map behind normalising become those before it, in place; 0 behind the last image, as before."""
    kind, before, total, product = errors.dtype.type, statistics.before, 0.0, 0.0
    for y in range(of[HIGH]):
        here, part_total, part_product = (first + y * of[PITCH]) * width, kind(0), kind(0)
        run, normal = errors[here : here + of[WIDE] * width], before[here : here + of[WIDE] * width]
        for number in range(len(run)):
            part_total += run[number]
            part_product += run[number] * normal[number]
        total += part_total
        product += part_product
    size = of[HIGH] * of[WIDE] * count
    scale = kind(1 / math.sqrt(statistics.variance[unit] + LEAST_VARIANCE))
    mean, slope = kind(total / size), kind(product / size)
    for y in range(of[HIGH]):
        here = (first + y * of[PITCH]) * width
        last = here + of[WIDE] * width
        run, normal = errors[here:last], before[here:last]
        for number in range(len(run)):
            run[number] = (run[number] - mean - normal[number] * slope) * scale
        if count < width:
            _clear_behind(errors, here, last, width, count)


@part
def follow(plan: Sheets, statistics: Statistics, kept: np.ndarray, stays: float, share: float) -> None:
    """Adds a share of the means and variances of a block to what stays of those kept, (2, units behind the input)."""
    for group in range(1, len(plan.groups)):
        of = plan.groups[group]
        if of[SHEET] > 1:
            for unit in range(of[UNIT], of[UNIT] + of[UNITS]):
                kept[0, unit] = stays * kept[0, unit] + share * statistics.mean[unit]
                kept[1, unit] = stays * kept[1, unit] + share * statistics.variance[unit]
