"""Noise by counters instead of generators (Salmon et al. 2011).

It is a function of seed, step, image of the batch and pixel or unit, and nothing else, so it is the same on every
machine, for every share of a batch, and for a network in any company.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from structnet.compiled.arrays import Noise
from structnet.compiled.compiler import inlined, part

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_UNITS = np.uint64(0x2545F4914F6CDD1D)  # by which the line of units begins elsewhere than that of inputs


class Dropped(NamedTuple):
    """Which units of a block are dropped: with this probability, as the key says, from the image `first` of a batch."""

    share: float
    key: np.uint64
    first: int


@part
def mixed(number: np.uint64) -> np.uint64:
    """A uint64 whose every bit depends on every bit of another: the last step of SplitMix64 (Steele et al. 2014)."""
    number = (number ^ (number >> np.uint64(30))) * _FIRST
    number = (number ^ (number >> np.uint64(27))) * _SECOND
    return number ^ (number >> np.uint64(31))


@part
def key_of_step(noise: Noise, step: int) -> np.uint64:
    """What the noise of a step is mixed from."""
    return mixed(noise.seed[0] + np.uint64(step) * GOLDEN)


@inlined
def dropped_units(noise: Noise, step: int, first: int) -> Dropped:
    """Of the hidden units, for a block that begins with this image of a batch."""
    key = key_of_step(noise, step) ^ _UNITS if noise.dropout > 0 else np.uint64(0)
    return Dropped(noise.dropout, key, first)


@inlined
def nothing_dropped() -> Dropped:
    """For what is not training."""
    return Dropped(0.0, np.uint64(0), 0)


@part
def drop(rows: np.ndarray, numbers: np.ndarray, dropped: Dropped, count: int) -> None:
    """Values set to 0 with a probability, the others scaled so that the mean stays (Srivastava et al. 2014).

    rows: (units or features, width), of which those of these numbers are drawn for. Sixteen bits decide on a value,
    four values by each number.
    """
    kind = rows.dtype.type
    least, scale, zero = _least(dropped.share), kind(1 / (1 - dropped.share)), kind(0)
    drawn, skipped = _room(dropped.first, count)
    decisions = drawn.view(np.uint16)[skipped:]
    for number in numbers:
        _draw(dropped, number, drawn)
        row = rows[number]
        for image in range(count):
            row[image] = row[image] * scale if decisions[image] >= least else zero


@part
def drop_units(rows: np.ndarray, first: int, last: int, dropped: Dropped, count: int) -> None:
    """As `drop`, of the rows first … last."""
    drop(rows, np.arange(first, last), dropped, count)


@part
def drop_errors(
    rows: np.ndarray, errors: np.ndarray, first: int, last: int, dropped: Dropped, count: int
) -> None:
    """Takes a drop of the rows first … last back.

    Errors become those by the values before it, and rows what they were where they count; (units, width) each.
    """
    kind = rows.dtype.type
    least, scale, zero = _least(dropped.share), kind(1 / (1 - dropped.share)), kind(0)
    rest = kind(1 - dropped.share)
    drawn, skipped = _room(dropped.first, count)
    decisions = drawn.view(np.uint16)[skipped:]
    for unit in range(first, last):
        _draw(dropped, unit, drawn)
        row, error = rows[unit], errors[unit]
        for image in range(count):
            row[image] *= rest
            error[image] = error[image] * scale if decisions[image] >= least else zero


@part
def _least(share: float) -> np.uint16:
    """Sixteen bits below this drop a value."""
    return np.uint16(min(65535, round(share * 65536)))


@part
def _room(first: int, count: int) -> tuple[np.ndarray, int]:
    """For the numbers that decide on images first … first + count, and the decisions to skip in it."""
    before = first // 4
    return np.empty((first + count + 3) // 4 - before, dtype=np.uint64), first - before * 4


@part
def _draw(dropped: Dropped, number: int, drawn: np.ndarray) -> None:
    line = dropped.key + (np.uint64(number) << np.uint64(32)) + np.uint64(dropped.first // 4)
    for word in range(len(drawn)):
        drawn[word] = mixed((line + np.uint64(word)) * GOLDEN)
