"""Forward and backward through a network of feature maps: sums over taps, each a run of numbers.

A workspace is (rows, width): a row is a position of a map, a column an image of a block, of which the first `count` are
there. All are walked as structnet.compiled.sheets says. Nothing depends on what lies beside a member, so its bits are
the same alone and in any company.
"""

from __future__ import annotations

import numpy as np

from structnet.compiled.compiler import part
from structnet.compiled.functions import activate_run, slope_of_run
from structnet.compiled.normalise import Statistics, denormalise, normalise
from structnet.compiled.sheets import (
    ALIKE_AT,
    AT,
    CONNECTIONS,
    FIRST_CONNECTION,
    FIRST_GROUP,
    FIRST_OUT,
    FIRST_PLACE,
    FIRST_RUN,
    FIRST_UNIT,
    FIRST_VIEW,
    HIGH,
    HIGH_AT,
    ORIGIN,
    OUT_STOP,
    PITCH,
    PITCH_AT,
    PLACE,
    PLACE_STOP,
    ROW,
    RUN,
    RUN_STOP,
    SHEET,
    UNIT,
    UNITS,
    VIEW,
    VIEW_STOP,
    WIDE,
    WIDE_AT,
    Sheets,
)
from structnet.compiled.tap_sums import (
    LANES,
    TOGETHER,
    add_taps_together,
    leave_taps,
    multiply_taps,
    multiply_taps_together,
    sum_taps,
)
from structnet.compiled.views import clear_errors, fill, fill_views, return_view


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
        plan.is_later[here[FIRST_RUN] : after[FIRST_RUN]],
        plan.alike[here[FIRST_RUN] : after[FIRST_RUN]],
        plan.fed[here[FIRST_UNIT] : after[FIRST_UNIT]],
        plan.row[here[FIRST_CONNECTION] : after[FIRST_CONNECTION]],
        plan.places[here[FIRST_PLACE] : after[FIRST_PLACE]],
        plan.out_connection[here[FIRST_OUT] : after[FIRST_OUT]],
        plan.out_row[here[FIRST_OUT] : after[FIRST_OUT]],
        plan.features,
    )


@part
def tap_forward(
    plan: Sheets, values: np.ndarray, statistics: Statistics, state: np.ndarray, code: int, count: int
) -> None:
    """Fills the workspace with the activations of a member; its last group are the logits.

    values: (parameters,). state: its first rows hold the inputs. code: of the activation. statistics: see there; with
    `before`, maps are normalised by what they are in this block, and else not at all.
    """
    flat, width, connections, at = state.reshape(state.size), state.shape[1], plan.members[0, CONNECTIONS], 0
    fill_views(plan, flat, width, 0)
    for group in range(1, len(plan.groups)):
        of = plan.groups[group]
        is_normal = len(statistics.before) > 0 and of[SHEET] > 1
        at = _add_taps(plan, values, flat, width, of, at, is_normal)
        for unit in range(of[UNITS]):
            first, place = of[ROW] + unit * of[SHEET] + of[ORIGIN], of[UNIT] + unit
            if is_normal:
                bias = values[connections + place]
                normalise(flat, width, of, first, bias, statistics, place, count)
            if group < len(plan.groups) - 1:
                for y in range(of[HIGH]):
                    here = (first + y * of[PITCH]) * width
                    activate_run(code, flat, here, here + of[WIDE] * width)
        fill_views(plan, flat, width, group)


@part
def _add_taps(
    plan: Sheets,
    values: np.ndarray,
    flat: np.ndarray,
    width: int,
    of: np.ndarray,
    first: int,
    is_normal: bool,
) -> int:
    """Biases, unless they come after normalising, and what all taps bring that end in a group.

    flat: the workspace as a vector. first: of these taps; returns the one behind the last.
    """
    size, pitch, begin, zero = of[WIDE] * width, of[PITCH], first, values.dtype.type(0)
    bias_at = plan.members[0, CONNECTIONS] + of[UNIT]
    for unit in range(of[UNITS]):
        if not plan.fed[of[UNIT] + unit]:
            bias = zero if is_normal else values[bias_at + unit]
            for y in range(of[HIGH]):
                here = (of[ROW] + unit * of[SHEET] + of[ORIGIN] + y * pitch) * width
                fill(flat, here, here + size, bias)
    run = of[RUN]
    while run < of[RUN_STOP]:
        unit, stop, is_later = (plan.target[run] - of[ROW]) // of[SHEET], plan.stop[run], plan.is_later[run]
        if plan.alike[run] < TOGETHER:
            bias = zero if is_normal else values[bias_at + unit]
            for y in range(of[HIGH]):
                ahead = y * pitch
                out = (plan.target[run] + ahead) * width
                sum_taps(flat, values, plan.row, begin, stop, out, size, ahead, width, bias, is_later)
            begin, run = stop, run + 1
            continue
        apart = plan.target[run + 1] - plan.target[run]
        for y in range(of[HIGH]):
            ahead = y * pitch
            out = (plan.target[run] + ahead) * width
            for number in range(0 if is_later else TOGETHER):
                bias = zero if is_normal else values[bias_at + unit + number * (apart // of[SHEET])]
                here = out + number * apart * width
                fill(flat, here, here + size, bias)
            add_taps_together(flat, values, plan.row, begin, stop, out, size, ahead, width, apart)
        begin, run = plan.stop[run + TOGETHER - 1], run + TOGETHER
    return begin


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
    states, errors, width = state.reshape(state.size), error.reshape(error.size), state.shape[1]
    connections = plan.members[0, CONNECTIONS]
    weights = np.empty(len(plan.out_connection), dtype=values.dtype)
    for number in range(len(weights)):
        weights[number] = values[plan.out_connection[number]]
    for group in range(len(plan.groups) - 1, -1, -1):
        of, is_hidden = plan.groups[group], group < len(plan.groups) - 1
        if is_hidden:
            _errors_of_group(plan, weights, states, errors, gradient, width, group, to_input)
        for unit in range(of[UNITS] if group > 0 else 0):
            first, place = of[ROW] + unit * of[SHEET] + of[ORIGIN], of[UNIT] + unit
            total = errors.dtype.type(0)
            for y in range(of[HIGH]):
                here = (first + y * of[PITCH]) * width
                last = here + of[WIDE] * width
                if is_hidden:
                    slope_of_run(code, states, errors, here, last)
                run = errors[here:last]
                for number in range(len(run)):
                    total += run[number]
            gradient[connections + place] += total
            if len(statistics.before) > 0 and of[SHEET] > 1:
                denormalise(errors, width, of, first, statistics, place, count)


@part
def _errors_of_group(
    plan: Sheets,
    weights: np.ndarray,
    states: np.ndarray,
    errors: np.ndarray,
    gradient: np.ndarray,
    width: int,
    group: int,
    to_input: bool,
) -> None:
    """The errors behind the activation of a group, and the gradient of the taps that leave it.

    Of the input, the gradient alone unless its errors are wanted. weights: of the taps in the order of places.
    """
    of = plan.groups[group]
    wants_error = group > 0 or to_input
    if wants_error:
        clear_errors(plan, errors, width, of)
    _leave_group(plan, weights, states, errors, gradient, width, of, wants_error)
    if wants_error:
        for view in range(of[VIEW], of[VIEW_STOP]):
            return_view(plan.views[view], errors, width)


@part
def _leave_group(
    plan: Sheets,
    weights: np.ndarray,
    states: np.ndarray,
    errors: np.ndarray,
    gradient: np.ndarray,
    width: int,
    of: np.ndarray,
    wants_error: bool,
) -> None:
    """Of all taps that leave a group: the errors of what they leave, if wanted, and their gradient."""
    begin = plan.places[of[PLACE] - 1, OUT_STOP] if of[PLACE] > 0 else 0
    number = of[PLACE]
    while number < of[PLACE_STOP]:
        place, following = plan.places[number], number + 1
        if place[ALIKE_AT] < TOGETHER:
            _leave(plan, weights, states, errors, gradient, width, place, begin, wants_error)
        else:
            apart, following = plan.places[following, AT] - place[AT], number + TOGETHER
            _leave_together(plan, weights, states, errors, gradient, width, place, begin, wants_error, apart)
        begin, number = plan.places[following - 1, OUT_STOP], following


@part
def multiply_group(
    plan: Sheets, state: np.ndarray, error: np.ndarray, gradient: np.ndarray, group: int
) -> None:
    """Adds the gradient of the taps that leave a group to `gradient`, (parameters,), from what lies there.

    state, error: as of `tap_backward`; of the state the group itself, and views are made.
    """
    states, errors, width = state.reshape(state.size), error.reshape(error.size), state.shape[1]
    fill_views(plan, states, width, group)
    _leave_group(plan, gradient[:0], states, errors, gradient, width, plan.groups[group], False)


@part
def _leave(
    plan: Sheets,
    weights: np.ndarray,
    states: np.ndarray,
    errors: np.ndarray,
    gradient: np.ndarray,
    width: int,
    place: np.ndarray,
    begin: int,
    wants_error: bool,
) -> None:
    """Of the taps that leave a place, `begin` being the first: its errors, if wanted, and their gradient."""
    size, pitch, stop, rows = place[WIDE_AT] * width, place[PITCH_AT], place[OUT_STOP], plan.out_row
    products = np.zeros((stop - begin) * LANES, dtype=errors.dtype)
    for y in range(place[HIGH_AT]):
        ahead = y * pitch
        out = (place[AT] + ahead) * width
        if wants_error:
            leave_taps(states, errors, weights, rows, products, begin, stop, out, size, ahead, width)
        else:
            multiply_taps(states, errors, weights, rows, products, begin, stop, out, size, ahead, width)
    _add_products(products, plan.out_connection[begin:stop], gradient)


@part
def _leave_together(
    plan: Sheets,
    weights: np.ndarray,
    states: np.ndarray,
    errors: np.ndarray,
    gradient: np.ndarray,
    width: int,
    place: np.ndarray,
    begin: int,
    wants_error: bool,
    apart: int,
) -> None:
    """As `_leave`, of TOGETHER places that are read alike: in two passes, which load less than one would."""
    size, pitch, stop, rows = place[WIDE_AT] * width, place[PITCH_AT], place[OUT_STOP], plan.out_row
    last = begin + TOGETHER * (stop - begin)
    products = np.zeros((last - begin) * LANES, dtype=errors.dtype)
    for y in range(place[HIGH_AT]):
        ahead = y * pitch
        out = (place[AT] + ahead) * width
        multiply_taps_together(states, errors, rows, products, begin, stop, out, size, ahead, width, apart)
        if wants_error:
            add_taps_together(errors, weights, rows, begin, stop, out, size, ahead, width, apart)
    _add_products(products, plan.out_connection[begin:last], gradient)


@part
def _add_products(products: np.ndarray, connections: np.ndarray, gradient: np.ndarray) -> None:
    """Adds the sums of rows of LANES products to the gradient of as many connections."""
    for at in range(len(connections)):
        total, row = gradient.dtype.type(0), products[at * LANES :]
        for number in range(LANES):
            total += row[number]
        gradient[connections[at]] += total
