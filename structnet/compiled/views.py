"""Views in a workspace of feature maps: filled forward, and backward added to what they were copied from."""

from __future__ import annotations

import numpy as np

from structnet.compiled.compiler import part
from structnet.compiled.sheets import (
    BOTTOM,
    FROM,
    FROM_SHEET,
    HIGH,
    IS_MEAN,
    LEFT,
    ORIGIN,
    PITCH,
    RIGHT,
    ROW,
    SHEET,
    STEP_DOWN,
    STEP_RIGHT,
    TOP,
    UNITS,
    VIEW,
    VIEW_PITCH,
    VIEW_ROW,
    VIEW_SHEET,
    VIEW_STOP,
    VIEW_UNITS,
    WIDE,
    Sheets,
)


@part
def fill_views(plan: Sheets, flat: np.ndarray, width: int, group: int) -> None:
    """Copies the maps of a group to all views of it."""
    for view in range(plan.groups[group, VIEW], plan.groups[group, VIEW_STOP]):
        of = plan.views[view]
        for unit in range(of[VIEW_UNITS]):
            source, target = of[FROM] + unit * of[FROM_SHEET], of[VIEW_ROW] + unit * of[VIEW_SHEET]
            if of[IS_MEAN]:
                _average(flat, width, of, source, target * width)
                continue
            for y in range(of[TOP], of[BOTTOM]):
                for x in range(of[LEFT], of[RIGHT]):
                    at = (source + y * of[STEP_DOWN] + x * of[STEP_RIGHT]) * width
                    to = (target + y * of[VIEW_PITCH] + x) * width
                    seen, out = flat[at : at + width], flat[to : to + width]
                    for image in range(width):
                        out[image] = seen[image]


@part
def _average(flat: np.ndarray, width: int, of: np.ndarray, source: int, to: int) -> None:
    """The mean of a map, whose first position is row `source`, to the numbers from `to` on."""
    fill(flat, to, to + width, flat.dtype.type(0))
    mean, share = flat[to : to + width], flat.dtype.type(_share(of))
    for y in range(of[TOP], of[BOTTOM]):
        for x in range(of[LEFT], of[RIGHT]):
            at = (source + y * of[STEP_DOWN] + x) * width
            seen = flat[at : at + width]
            for image in range(width):
                mean[image] += seen[image]
    for image in range(width):
        mean[image] *= share


@part
def _share(of: np.ndarray) -> float:
    """What a position has in the mean of a view; 1 of one that is a copy."""
    return 1 / ((of[BOTTOM] - of[TOP]) * (of[RIGHT] - of[LEFT])) if of[IS_MEAN] else 1.0


@part
def fill(flat: np.ndarray, first: int, last: int, value: float) -> None:
    """Makes the numbers first … last all this one."""
    run = flat[first:last]
    for number in range(len(run)):
        run[number] = value


@part
def clear_errors(plan: Sheets, errors: np.ndarray, width: int, of: np.ndarray) -> None:
    """Of the positions of a group and of its views."""
    zero = errors.dtype.type(0)
    for unit in range(of[UNITS]):
        for y in range(of[HIGH]):
            here = (of[ROW] + unit * of[SHEET] + of[ORIGIN] + y * of[PITCH]) * width
            fill(errors, here, here + of[WIDE] * width, zero)
    for view in range(of[VIEW], of[VIEW_STOP]):
        seen = plan.views[view]
        for unit in range(seen[VIEW_UNITS]):
            first = seen[VIEW_ROW] + unit * seen[VIEW_SHEET]
            if seen[IS_MEAN]:
                fill(errors, first * width, (first + 1) * width, zero)
                continue
            for y in range(seen[TOP], seen[BOTTOM]):
                here = (first + y * seen[VIEW_PITCH] + seen[LEFT]) * width
                fill(errors, here, here + (seen[RIGHT] - seen[LEFT]) * width, zero)


@part
def return_view(of: np.ndarray, errors: np.ndarray, width: int) -> None:
    """Adds the errors of a view to those of what it was copied from."""
    share = errors.dtype.type(_share(of))
    for unit in range(of[VIEW_UNITS]):
        source, target = of[FROM] + unit * of[FROM_SHEET], of[VIEW_ROW] + unit * of[VIEW_SHEET]
        for y in range(of[TOP], of[BOTTOM]):
            for x in range(of[LEFT], of[RIGHT]):
                to = (source + y * of[STEP_DOWN] + x * of[STEP_RIGHT]) * width
                at = (target if of[IS_MEAN] else target + y * of[VIEW_PITCH] + x) * width
                into, seen = errors[to : to + width], errors[at : at + width]
                for image in range(width):
                    into[image] += seen[image] * share
