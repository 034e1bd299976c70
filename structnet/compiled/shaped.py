"""SReLU, the activation whose units have a shape of their own, in compiled loops.

Jin et al. 2016, in the form that never crosses itself: a unit has four numbers, left threshold l, left slope a, width w
and right slope b. Below l it rises by a, above r = l + |w| by b, and between them it is the identity.
"""

from __future__ import annotations

import numpy as np

from structnet.compiled.compiler import part

NUMBERS = 4  # of a unit: l, a, w, b


@part
def bend(
    state: np.ndarray, first: int, last: int, units: int, values: np.ndarray, place: int, count: int
) -> None:
    """SReLU of the units first … last, in place; what they were before is kept in the rows behind all `units`.

    state: (2 · units, width). place: in the (parameters,) values, of the shapes, (hidden units · 4,).
    """
    shapes = values[place:]
    for unit in range(first, last):
        row, kept = state[unit], state[units + unit]
        at = unit * NUMBERS
        left, below, right, above = shapes[at], shapes[at + 1], shapes[at], shapes[at + 3]
        right += abs(shapes[at + 2])
        for image in range(count):
            x = row[image]
            kept[image] = x
            low = left + below * (x - left)
            high = right + above * (x - right)
            row[image] = high if x >= right else (low if x < left else x)


@part
def bend_errors(
    state: np.ndarray,
    error: np.ndarray,
    first: int,
    last: int,
    units: int,
    values: np.ndarray,
    gradients: np.ndarray,
    place: int,
    count: int,
) -> None:
    """Turns the errors behind the activation of these units to those before it, and adds to the gradient of shapes.

    gradients: (parameters,), of which those of the shapes lie where these do. The rest as of `bend`.
    """
    shapes, gradient = values[place:], gradients[place:]
    zero, one = error.dtype.type(0), error.dtype.type(1)
    for unit in range(first, last):
        row, kept = error[unit], state[units + unit]
        at = unit * NUMBERS
        left, below, right, above = shapes[at], shapes[at + 1], shapes[at], shapes[at + 3]
        right += abs(shapes[at + 2])
        by_low, low, by_high, high = zero, zero, zero, zero
        for image in range(count):
            x, e = kept[image], row[image]
            is_high, is_low = x >= right, x < left
            up, down = e if is_high else zero, e if is_low else zero
            by_high += up * (x - right)
            high += up
            by_low += down * (x - left)
            low += down
            row[image] = e * (above if is_high else (below if is_low else one))
        gradient[at] += low * (one - below) + high * (one - above)
        gradient[at + 1] += by_low
        gradient[at + 2] += high * (one - above) * (-one if shapes[at + 2] < zero else one)
        gradient[at + 3] += by_high
