"""Architectures by rule: the pyramid of maps where nobody says another, and the dense network of so many parameters.

The pyramid has five groups of maps: one as large as the picture, two of half the side and two of a quarter, and the
classes read their means. MNIST, 1,000 parameters, validation, one rng_seed: without maps of the full size .3 points
less at half the multiply-adds, with maps of an eighth of the side .5 less, with positions read by the classes as well
.2 less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from structnet.network.architecture import POINT, Architecture, Side, architecture_of, parameters_dense

SMALLEST = 16  # pixels: what is smaller is known by all of its pixels at once
LARGEST = 32  # pixels of the first maps: beyond it they are half as large as what they see, until they fit
WIDTHS = (6, 8, 10, 14, 18)  # maps of a network of so many parameters
PARAMETERS = 1000
HALVED = (0, 1, 1, 2, 2)
# What one writes by hand: four convolutions of 3 × 3, more maps the smaller they are.
DENSE_WIDTHS, DENSE_HALVED, DENSE_WINDOW = (2, 2, 3, 4), (0, 1, 1, 2), 3


def has_pyramid(image: Sequence[int]) -> bool:
    """Whether inputs of this shape are pictures, (channels, height, width) or (height, width), of enough pixels."""
    return len(image) in (2, 3) and min(image[-2:]) >= SMALLEST


def pyramid(image: Sequence[int], classes: int, parameters: int | None = None) -> Architecture:
    """The pyramid over pictures of this shape, for a network that is to have so many parameters.

    Widths go with the root of the parameters, so that about as large a share of all taps exists. Where nobody knows
    how many there are to be, 1,000.
    """
    side: Side = (image[-2], image[-1])
    channels = image[0] if len(image) == 3 else 1
    grown = math.sqrt((parameters or PARAMETERS) / PARAMETERS)
    widths = [max(2, round(grown * width)) for width in WIDTHS]
    return Architecture([channels, *widths, classes], [side, *_sides(side, HALVED), POINT])


def dense_architecture(architecture: Sequence[int], parameters: int, shape_numbers: int = 0) -> Architecture:
    """The dense network for the inputs and classes of an architecture: one hidden layer, of nearest size.

    Where the inputs are maps, the widest of four convolutions that has at most so many parameters, or one map each.
    """
    whole = architecture_of(architecture)
    if whole.has_maps:
        return _dense_maps(whole, parameters, shape_numbers)
    inputs, classes = whole.inputs, whole[-1]
    units = max(1, round((parameters - classes) / (inputs + classes + 1 + shape_numbers)))
    options = [Architecture((inputs, width, classes)) for width in (max(1, units - 1), units, units + 1)]
    return min(options, key=lambda sizes: abs(parameters_dense(sizes, shape_numbers) - parameters))


def _dense_maps(whole: Architecture, parameters: int, shape_numbers: int) -> Architecture:
    """A map is added to the group that lacks most, as long as all fit."""
    sides = [whole.sides[0], *_sides(whole.sides[0], DENSE_HALVED), POINT]

    def of(widths: Sequence[int]) -> Architecture:
        return Architecture([whole[0], *widths, whole[-1]], sides, DENSE_WINDOW)

    widths = [1] * len(DENSE_WIDTHS)
    while True:
        least = min(range(len(widths)), key=lambda group: widths[group] / DENSE_WIDTHS[group])
        wider = [width + (group == least) for group, width in enumerate(widths)]
        if parameters_dense(of(wider), shape_numbers) > parameters:
            return of(widths)
        widths = wider


def _sides(side: Side, halved: Sequence[int]) -> list[Side]:
    """Of every group: halved so often, rounded up, from what is small enough for the first maps."""
    first = max(0, math.ceil(math.log2(max(side) / LARGEST)))
    return [(_halved(side[0], first + times), _halved(side[1], first + times)) for times in halved]


def _halved(side: int, times: int) -> int:
    """A side after so many halvings, rounded up each time."""
    return -(-side // (1 << times))
