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
from structnet.compiled.sheets import HIGH, ORIGIN, PITCH, ROW, SHEET, UNIT, UNITS, WIDE, Sheets

LEAST_VARIANCE = 1e-5


class Statistics(NamedTuple):
    """What normalising a block reads and writes.

    before: (rows, width) of the workspace, what maps are between normalising and bias; (0, 0) where nothing is
    normalised. mean, variance: (units behind the input,) of this block, float64.
    """

    before: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


@part
def normalise(
    sheet: np.ndarray, of: np.ndarray, bias: float, statistics: Statistics, unit: int, count: int
) -> None:
    """A map, (rows, width), in place; its first `count` images are there, and the others are left 0."""
    size, zero = of[HIGH] * of[WIDE] * count, sheet.dtype.type(0)
    mean = _sum(sheet, of, zero, count, False) / size
    variance = _sum(sheet, of, sheet.dtype.type(mean), count, True) / size
    statistics.mean[unit], statistics.variance[unit] = mean, variance
    scale = sheet.dtype.type(1 / math.sqrt(variance + LEAST_VARIANCE))
    centre, width = sheet.dtype.type(mean), sheet.shape[1]
    first_before = _first_before(of, unit)
    for y in range(of[HIGH]):
        first = of[ORIGIN] + y * of[PITCH]
        for row in range(first, first + of[WIDE]):
            here, kept = sheet[row], statistics.before[first_before + row]
            for image in range(count):
                normal = (here[image] - centre) * scale
                kept[image] = normal
                here[image] = normal + bias
            for image in range(count, width):
                here[image] = zero
                kept[image] = zero


@part
def _first_before(of: np.ndarray, unit: int) -> int:
    first: int = of[ROW] + (unit - of[UNIT]) * of[SHEET]
    return first


@part
def _sum(sheet: np.ndarray, of: np.ndarray, centre: float, count: int, squared: bool) -> float:
    """Of the positions of a map less a number, or of their squares: row by row of positions, in float64."""
    total, width = 0.0, sheet.shape[1]
    for y in range(of[HIGH]):
        first, part_total = of[ORIGIN] + y * of[PITCH], sheet.dtype.type(0)
        rows = sheet[first : first + of[WIDE]]
        if count == width:
            run = rows.reshape(rows.size)
            if squared:
                for number in range(len(run)):
                    part_total += (run[number] - centre) * (run[number] - centre)
            else:
                for number in range(len(run)):
                    part_total += run[number]
        else:
            for row in rows:
                for image in range(count):
                    part_total += (row[image] - centre) * (row[image] - centre) if squared else row[image]
        total += part_total
    return total


@part
def denormalise(sheet: np.ndarray, of: np.ndarray, statistics: Statistics, unit: int, count: int) -> None:
    """The errors of a map behind normalising become those before it, in place; 0 behind the last image."""
    size, kind = of[HIGH] * of[WIDE] * count, sheet.dtype.type
    first_before, width = _first_before(of, unit), sheet.shape[1]
    total, product = 0.0, 0.0
    for y in range(of[HIGH]):
        first = of[ORIGIN] + y * of[PITCH]
        last = first + of[WIDE]
        errors, normal = sheet[first:last], statistics.before[first_before + first : first_before + last]
        run, beside = errors.reshape(errors.size), normal.reshape(normal.size)
        part_total, part_product = kind(0), kind(0)
        # Behind the last image errors are 0.
        for number in range(len(run)):
            part_total += run[number]
            part_product += run[number] * beside[number]
        total += part_total
        product += part_product
    scale = kind(1 / math.sqrt(statistics.variance[unit] + LEAST_VARIANCE))
    mean, slope = kind(total / size), kind(product / size)
    for y in range(of[HIGH]):
        first = of[ORIGIN] + y * of[PITCH]
        for row in range(first, first + of[WIDE]):
            here, normal_row = sheet[row], statistics.before[first_before + row]
            for image in range(count):
                here[image] = (here[image] - mean - normal_row[image] * slope) * scale
            for image in range(count, width):
                here[image] = kind(0)


@part
def follow(plan: Sheets, statistics: Statistics, kept: np.ndarray, share: float) -> None:
    """Lets kept means and variances, (2, units behind the input), follow those of a block, by this share."""
    for group in range(1, len(plan.groups)):
        of = plan.groups[group]
        if of[SHEET] > 1:
            for unit in range(of[UNIT], of[UNIT] + of[UNITS]):
                kept[0, unit] += share * (statistics.mean[unit] - kept[0, unit])
                kept[1, unit] += share * (statistics.variance[unit] - kept[1, unit])
