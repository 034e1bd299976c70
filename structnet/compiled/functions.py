"""Exponential, activations and their slopes, as loops that become vector instructions, for float32 and float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic as _intrinsic
from numba.extending import overload as _overload

from structnet.compiled.compiler import part
from structnet.compiled.plan import RELU, TANH

# What numba's own annotations leave out.
intrinsic: Any = _intrinsic
overloaded: Any = _overload


@intrinsic
def _power_of_two(typing_context: Any, exponent: Any) -> Any:
    """2 to an int32 as float32, or to an int64 as float64, by its bits."""
    wide = exponent == types.int64
    number, bias, shift = (types.float64, 1023, 52) if wide else (types.float32, 127, 23)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (given,) = arguments
        biased = builder.add(given, ir.Constant(given.type, bias))
        return builder.bitcast(
            builder.shl(biased, ir.Constant(given.type, shift)), context.get_value_type(number)
        )

    return number(exponent), build


def exponential(x: Any) -> Any:
    """e to the x, to the rounding of its type; NaN of NaN. In compiled functions it is the loop below."""
    return np.exp(x)


def _exponential_of(
    kind: Any, integer: Any, lowest: int, highest: int, split: tuple[float, float], terms: int
) -> Any:
    """The exponential of one type, as 2^n · e^r with |r| ≤ ln 2 / 2, and e^r as so many terms of its series.

    lowest, highest: of n. split: ln 2 in two parts, of which the first has few bits, so that n times it is exact.
    """
    per_two, half, high, low = kind(1 / math.log(2)), kind(0.5), kind(split[0]), kind(split[1])
    least, most = kind(lowest * math.log(2)), kind(highest * math.log(2))
    bottom = kind(lowest)
    series = tuple(kind(1 / math.factorial(power)) for power in range(terms, -1, -1))

    def exponential(x: Any) -> Any:
        # Comparisons that are false for NaN, so that NaN passes through all but the exponent.
        x = least if x < least else x
        x = most if x > most else x
        twos = np.floor(x * per_two + half)
        rest = (x - twos * high) - twos * low
        total = series[0]
        for term in series[1:]:
            total = total * rest + term
        whole = twos if twos > bottom else bottom
        return total * _power_of_two(integer(whole))

    return exponential


# In the order that is written: ln 2 is in two parts so that little is lost.
@overloaded(exponential, jit_options={"fastmath": {"contract"}, "forceinline": True})
def _exponential(x: Any) -> Any:
    if x == types.float32:
        return _exponential_of(np.float32, np.int32, -126, 127, (0.693359375, -2.12194440e-4), 7)
    return _exponential_of(
        np.float64, np.int64, -1022, 1023, (6.93145751953125e-1, 1.42860682030941723212e-6), 13
    )


@part
def activate(code: int, rows: np.ndarray, count: int) -> None:
    """The activation of rows, (units, width), in place, in their first `count` columns."""
    one = rows.dtype.type(1)
    two = rows.dtype.type(2)
    for unit in range(len(rows)):
        row = rows[unit]
        if code == RELU:
            zero = rows.dtype.type(0)
            for image in range(count):
                row[image] = zero if row[image] < zero else row[image]
        elif code == TANH:
            for image in range(count):
                row[image] = one - two / (exponential(two * row[image]) + one)
        else:
            for image in range(count):
                row[image] = one / (one + exponential(-row[image]))


@part
def times_slope(code: int, rows: np.ndarray, errors: np.ndarray, count: int) -> None:
    """Multiplies the errors of units by the slopes of their activation, told by its own output; (units, width) each."""
    one, zero = rows.dtype.type(1), rows.dtype.type(0)
    for unit in range(len(rows)):
        row, error = rows[unit], errors[unit]
        if code == RELU:
            for image in range(count):
                error[image] = error[image] if row[image] > zero else zero
        elif code == TANH:
            for image in range(count):
                error[image] *= one - row[image] * row[image]
        else:
            for image in range(count):
                error[image] *= row[image] * (one - row[image])


@part
def activate_run(code: int, flat: np.ndarray, first: int, last: int) -> None:
    """As `activate`, of the numbers first … last of a vector."""
    one, two, zero = flat.dtype.type(1), flat.dtype.type(2), flat.dtype.type(0)
    run = flat[first:last]
    if code == RELU:
        for number in range(len(run)):
            run[number] = zero if run[number] < zero else run[number]
    elif code == TANH:
        for number in range(len(run)):
            run[number] = one - two / (exponential(two * run[number]) + one)
    else:
        for number in range(len(run)):
            run[number] = one / (one + exponential(-run[number]))


@part
def slope_of_run(code: int, flat: np.ndarray, errors: np.ndarray, first: int, last: int) -> None:
    """As `times_slope`, of the numbers first … last of two vectors."""
    one, zero = flat.dtype.type(1), flat.dtype.type(0)
    run, error = flat[first:last], errors[first:last]
    if code == RELU:
        for number in range(len(run)):
            error[number] = error[number] if run[number] > zero else zero
    elif code == TANH:
        for number in range(len(run)):
            error[number] *= one - run[number] * run[number]
    else:
        for number in range(len(run)):
            error[number] *= run[number] * (one - run[number])
