"""Forward and backward through a network of feature maps: sums over taps, four at a time, each a run of numbers.

A workspace is (rows, width): a row is a position of a map, a column an image of a block, of which the first `count` are
there. All are walked as structnet.compiled.sheets says. Nothing depends on what lies beside a member, so its bits are
the same alone and in any company.
"""

from __future__ import annotations

import numpy as np

from structnet.compiled.compiler import part
from structnet.compiled.functions import activate, times_slope
from structnet.compiled.normalise import Statistics, denormalise, normalise
from structnet.compiled.sheets import (
    AT,
    BOTTOM,
    CONNECTIONS,
    FIRST_CONNECTION,
    FIRST_GROUP,
    FIRST_OUT,
    FIRST_PLACE,
    FIRST_RUN,
    FIRST_VIEW,
    FROM,
    FROM_SHEET,
    HIGH,
    HIGH_AT,
    IS_MEAN,
    LEFT,
    ORIGIN,
    OUT_STOP,
    PITCH,
    PITCH_AT,
    PLACE,
    PLACE_STOP,
    RIGHT,
    ROW,
    RUN,
    RUN_STOP,
    SHEET,
    STEP_DOWN,
    STEP_RIGHT,
    TOP,
    UNIT,
    UNITS,
    VIEW,
    VIEW_PITCH,
    VIEW_ROW,
    VIEW_SHEET,
    VIEW_STOP,
    VIEW_UNITS,
    WIDE,
    WIDE_AT,
    Sheets,
)

# Numbers of a run that are worth a loop: shorter rows of positions are taken several at once, borders and all.
LONG = 2048


@part
def member_sheets(plan: Sheets, member: int) -> Sheets:
    """The part of one member, as views."""
    here, after = plan.members[member], plan.members[member + 1]
    return Sheets(
        plan.members[member : member + 1],
        plan.groups[here[FIRST_GROUP] : after[FIRST_GROUP]],
        plan.views[here[FIRST_VIEW] : after[FIRST_VIEW]],
        plan.target[here[FIRST_RUN] : after[FIRST_RUN]],
        plan.stop[here[FIRST_RUN] : after[FIRST_RUN]],
        plan.row[here[FIRST_CONNECTION] : after[FIRST_CONNECTION]],
        plan.places[here[FIRST_PLACE] : after[FIRST_PLACE]],
        plan.out_connection[here[FIRST_OUT] : after[FIRST_OUT]],
        plan.out_row[here[FIRST_OUT] : after[FIRST_OUT]],
        plan.features,
    )


@part
def tap_forward(
    plan: Sheets,
    values: np.ndarray,
    statistics: Statistics,
    state: np.ndarray,
    code: int,
    count: int,
) -> None:
    """Fills the workspace with the activations of a member; its last group are the logits.

    values: (parameters,). state: its first rows hold the inputs. code: of the activation. statistics: see there; with
    `before`, maps are normalised by what they are in this block, and else not at all.
    """
    connections = plan.members[0, CONNECTIONS]
    _fill_views(plan, state, 0)
    at = 0
    for group in range(1, len(plan.groups)):
        of = plan.groups[group]
        is_normal = len(statistics.before) > 0 and of[SHEET] > 1
        for unit in range(of[UNITS]):
            bias = values.dtype.type(0) if is_normal else values[connections + of[UNIT] + unit]
            first = of[ROW] + unit * of[SHEET] + of[ORIGIN]
            for row in range(first, first + of[HIGH] * of[PITCH]):
                for image in range(state.shape[1]):
                    state[row, image] = bias
        at = _add_taps(plan, values, state, of, at)
        for unit in range(of[UNITS]):
            sheet = state[of[ROW] + unit * of[SHEET] : of[ROW] + (unit + 1) * of[SHEET]]
            if is_normal:
                place = of[UNIT] + unit
                normalise(sheet, of, values[connections + place], statistics, place, count)
            if group < len(plan.groups) - 1:
                for y in range(of[HIGH]):
                    first = of[ORIGIN] + y * of[PITCH]
                    activate(code, sheet[first : first + of[WIDE]], state.shape[1])
            clear_border(sheet, of)
        _fill_views(plan, state, group)


@part
def _add_taps(plan: Sheets, values: np.ndarray, state: np.ndarray, of: np.ndarray, first: int) -> int:
    """Adds what all taps bring that end in a group, from the first of them on; returns the one behind the last."""
    width, flat = state.shape[1], state.reshape(state.size)
    high, wide, pitch, begin = of[HIGH], of[WIDE], of[PITCH], first
    together = max(1, LONG // (pitch * width))
    for run in range(of[RUN], of[RUN_STOP]):
        for y in range(0, high, together):
            size = ((min(together, high - y) - 1) * pitch + wide) * width
            ahead, at, stop = y * pitch, begin, plan.stop[run]
            here = (plan.target[run] + ahead) * width
            out = flat[here : here + size]
            while at + 4 <= stop:
                w0, w1, w2, w3 = values[at], values[at + 1], values[at + 2], values[at + 3]
                p0, p1 = (plan.row[at] + ahead) * width, (plan.row[at + 1] + ahead) * width
                p2, p3 = (plan.row[at + 2] + ahead) * width, (plan.row[at + 3] + ahead) * width
                s0, s1 = flat[p0 : p0 + size], flat[p1 : p1 + size]
                s2, s3 = flat[p2 : p2 + size], flat[p3 : p3 + size]
                for number in range(size):
                    out[number] += w0 * s0[number] + w1 * s1[number] + w2 * s2[number] + w3 * s3[number]
                at += 4
            while at < stop:
                w0, p0 = values[at], (plan.row[at] + ahead) * width
                s0 = flat[p0 : p0 + size]
                for number in range(size):
                    out[number] += w0 * s0[number]
                at += 1
        begin = plan.stop[run]
    return begin


@part
def _fill_views(plan: Sheets, state: np.ndarray, group: int) -> None:
    """Copies the maps of a group to all views of it."""
    for view in range(plan.groups[group, VIEW], plan.groups[group, VIEW_STOP]):
        of = plan.views[view]
        for unit in range(of[VIEW_UNITS]):
            source, target = of[FROM] + unit * of[FROM_SHEET], of[VIEW_ROW] + unit * of[VIEW_SHEET]
            if of[IS_MEAN]:
                _average(state, of, source, target)
                continue
            for y in range(of[TOP], of[BOTTOM]):
                row = source + y * of[STEP_DOWN]
                for x in range(of[LEFT], of[RIGHT]):
                    seen, out = state[row + x * of[STEP_RIGHT]], state[target + y * of[VIEW_PITCH] + x]
                    for image in range(len(out)):
                        out[image] = seen[image]


@part
def _average(state: np.ndarray, of: np.ndarray, source: int, target: int) -> None:
    """The mean of a map, whose first position is row `source`, to row `target`."""
    mean, zero = state[target], state.dtype.type(0)
    share = state.dtype.type(1 / ((of[BOTTOM] - of[TOP]) * (of[RIGHT] - of[LEFT])))
    for image in range(len(mean)):
        mean[image] = zero
    for y in range(of[TOP], of[BOTTOM]):
        for x in range(of[LEFT], of[RIGHT]):
            seen = state[source + y * of[STEP_DOWN] + x]
            for image in range(len(mean)):
                mean[image] += seen[image]
    for image in range(len(mean)):
        mean[image] *= share


@part
def clear_border(sheet: np.ndarray, of: np.ndarray) -> None:
    """Makes the columns beside the positions of a sheet, (rows, width), 0 again, which runs have gone over."""
    if of[PITCH] == of[WIDE]:
        return
    zero = sheet.dtype.type(0)
    for y in range(of[HIGH]):
        first = of[ORIGIN] + y * of[PITCH] + of[WIDE]
        for row in range(first, first + of[PITCH] - of[WIDE]):
            for image in range(sheet.shape[1]):
                sheet[row, image] = zero


@part
def tap_backward(
    plan: Sheets,
    values: np.ndarray,
    statistics: Statistics,
    state: np.ndarray,
    error: np.ndarray,
    gradient: np.ndarray,
    code: int,
    count: int,
    to_input: bool,
) -> None:
    """Adds the gradient of a member to `gradient`, (parameters,), and fills `error` before activation and normalising.

    error: as state; holds the derivative of the loss by the logits in the rows of the last group, 0 behind the last
    image. to_input: fills the rows of the inputs as well.
    """
    connections = plan.members[0, CONNECTIONS]
    for group in range(len(plan.groups) - 1, -1, -1):
        of = plan.groups[group]
        if group < len(plan.groups) - 1:
            _errors_of_group(plan, values, state, error, gradient, group, to_input)
        for unit in range(of[UNITS] if group > 0 else 0):
            sheet = slice(of[ROW] + unit * of[SHEET], of[ROW] + (unit + 1) * of[SHEET])
            place = connections + of[UNIT] + unit
            if group < len(plan.groups) - 1:
                for y in range(of[HIGH]):
                    first = of[ORIGIN] + y * of[PITCH]
                    row = slice(first, first + of[WIDE])
                    times_slope(code, state[sheet][row], error[sheet][row], state.shape[1])
            gradient[place] += _total(error[sheet], of)
            if len(statistics.before) > 0 and of[SHEET] > 1:
                denormalise(error[sheet], of, statistics, of[UNIT] + unit, count)
            clear_border(error[sheet], of)


@part
def _total(sheet: np.ndarray, of: np.ndarray) -> float:
    """Of all positions and images of a map."""
    total = sheet.dtype.type(0)
    for y in range(of[HIGH]):
        first = of[ORIGIN] + y * of[PITCH]
        here = sheet[first : first + of[WIDE]]
        run = here.reshape(here.size)
        for number in range(len(run)):
            total += run[number]
    return float(total)


@part
def _errors_of_group(
    plan: Sheets,
    values: np.ndarray,
    state: np.ndarray,
    error: np.ndarray,
    gradient: np.ndarray,
    group: int,
    to_input: bool,
) -> None:
    """The errors behind the activation of a group, and the gradient of the taps that leave it.

    Of the input, the gradient alone unless its errors are wanted.
    """
    of = plan.groups[group]
    wants_error = group > 0 or to_input
    if wants_error:
        _clear(error[of[ROW] : of[ROW] + of[UNITS] * of[SHEET]])
        for view in range(of[VIEW], of[VIEW_STOP]):
            seen = plan.views[view]
            for unit in range(seen[VIEW_UNITS]):
                first = (
                    seen[VIEW_ROW]
                    + unit * seen[VIEW_SHEET]
                    + seen[TOP] * seen[VIEW_PITCH] * (1 - seen[IS_MEAN])
                )
                rows = 1 if seen[IS_MEAN] else (seen[BOTTOM] - seen[TOP]) * seen[VIEW_PITCH]
                _clear(error[first + seen[LEFT] : first + seen[LEFT] + rows])
    begin = plan.places[of[PLACE] - 1, OUT_STOP] if of[PLACE] > 0 else 0
    for number in range(of[PLACE], of[PLACE_STOP]):
        place = plan.places[number]
        if wants_error:
            _leave(plan, values, state, error, gradient, place, begin)
        else:
            _gradient_only(plan, state, error, gradient, place, begin)
        begin = place[OUT_STOP]
    if wants_error:
        for view in range(of[VIEW], of[VIEW_STOP]):
            _return_view(plan.views[view], error)


@part
def _clear(rows: np.ndarray) -> None:
    flat, zero = rows.reshape(rows.size), rows.dtype.type(0)
    for number in range(len(flat)):
        flat[number] = zero


@part
def _leave(
    plan: Sheets,
    values: np.ndarray,
    state: np.ndarray,
    error: np.ndarray,
    gradient: np.ndarray,
    place: np.ndarray,
    begin: int,
) -> None:
    """Of the taps that leave a place, `begin` being the first: its errors, and their gradient."""
    width, states, errors = state.shape[1], state.reshape(state.size), error.reshape(error.size)
    high, wide, pitch, zero = place[HIGH_AT], place[WIDE_AT], place[PITCH_AT], error.dtype.type(0)
    together = max(1, LONG // (pitch * width))
    for y in range(0, high, together):
        size = ((min(together, high - y) - 1) * pitch + wide) * width
        ahead, at, stop = y * pitch, begin, place[OUT_STOP]
        here = (place[AT] + ahead) * width
        out, mine = errors[here : here + size], states[here : here + size]
        while at + 4 <= stop:
            c0, c1 = plan.out_connection[at], plan.out_connection[at + 1]
            c2, c3 = plan.out_connection[at + 2], plan.out_connection[at + 3]
            w0, w1, w2, w3 = values[c0], values[c1], values[c2], values[c3]
            p0, p1 = (plan.out_row[at] + ahead) * width, (plan.out_row[at + 1] + ahead) * width
            p2, p3 = (plan.out_row[at + 2] + ahead) * width, (plan.out_row[at + 3] + ahead) * width
            e0, e1 = errors[p0 : p0 + size], errors[p1 : p1 + size]
            e2, e3 = errors[p2 : p2 + size], errors[p3 : p3 + size]
            g0, g1, g2, g3 = zero, zero, zero, zero
            for number in range(size):
                seen = mine[number]
                out[number] += w0 * e0[number] + w1 * e1[number] + w2 * e2[number] + w3 * e3[number]
                g0 += seen * e0[number]
                g1 += seen * e1[number]
                g2 += seen * e2[number]
                g3 += seen * e3[number]
            gradient[c0] += g0
            gradient[c1] += g1
            gradient[c2] += g2
            gradient[c3] += g3
            at += 4
        while at < stop:
            c0, p0 = plan.out_connection[at], (plan.out_row[at] + ahead) * width
            w0, e0, g0 = values[c0], errors[p0 : p0 + size], zero
            for number in range(size):
                out[number] += w0 * e0[number]
                g0 += mine[number] * e0[number]
            gradient[c0] += g0
            at += 1


@part
def _gradient_only(
    plan: Sheets, state: np.ndarray, error: np.ndarray, gradient: np.ndarray, place: np.ndarray, begin: int
) -> None:
    """As `_leave`, without errors."""
    width, states, errors = state.shape[1], state.reshape(state.size), error.reshape(error.size)
    high, wide, pitch, zero = place[HIGH_AT], place[WIDE_AT], place[PITCH_AT], error.dtype.type(0)
    together = max(1, LONG // (pitch * width))
    for y in range(0, high, together):
        size = ((min(together, high - y) - 1) * pitch + wide) * width
        ahead, at, stop = y * pitch, begin, place[OUT_STOP]
        here = (place[AT] + ahead) * width
        mine = states[here : here + size]
        while at + 4 <= stop:
            p0, p1 = (plan.out_row[at] + ahead) * width, (plan.out_row[at + 1] + ahead) * width
            p2, p3 = (plan.out_row[at + 2] + ahead) * width, (plan.out_row[at + 3] + ahead) * width
            e0, e1 = errors[p0 : p0 + size], errors[p1 : p1 + size]
            e2, e3 = errors[p2 : p2 + size], errors[p3 : p3 + size]
            g0, g1, g2, g3 = zero, zero, zero, zero
            for number in range(size):
                g0 += mine[number] * e0[number]
                g1 += mine[number] * e1[number]
                g2 += mine[number] * e2[number]
                g3 += mine[number] * e3[number]
            gradient[plan.out_connection[at]] += g0
            gradient[plan.out_connection[at + 1]] += g1
            gradient[plan.out_connection[at + 2]] += g2
            gradient[plan.out_connection[at + 3]] += g3
            at += 4
        while at < stop:
            p0, g0 = (plan.out_row[at] + ahead) * width, zero
            e0 = errors[p0 : p0 + size]
            for number in range(size):
                g0 += mine[number] * e0[number]
            gradient[plan.out_connection[at]] += g0
            at += 1


@part
def _return_view(of: np.ndarray, error: np.ndarray) -> None:
    """Adds the errors of a view to those of what it was copied from."""
    share = error.dtype.type(1)
    if of[IS_MEAN]:
        share = error.dtype.type(1 / ((of[BOTTOM] - of[TOP]) * (of[RIGHT] - of[LEFT])))
    for unit in range(of[VIEW_UNITS]):
        source, target = of[FROM] + unit * of[FROM_SHEET], of[VIEW_ROW] + unit * of[VIEW_SHEET]
        for y in range(of[TOP], of[BOTTOM]):
            for x in range(of[LEFT], of[RIGHT]):
                into = error[source + y * of[STEP_DOWN] + x * of[STEP_RIGHT]]
                seen = error[target if of[IS_MEAN] else target + y * of[VIEW_PITCH] + x]
                for image in range(len(into)):
                    into[image] += seen[image] * share
