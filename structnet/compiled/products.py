"""Forward and backward through a network: sums over sparse rows, four connections at a time, images innermost.

`inputs` is (features, width), `state` and `error` are (rows, width) workspaces: a row is a unit behind the input, a
column an image, of which the first `count` are there. All are walked as a Plan says. Nothing depends on what lies
beside a member, so its bits are the same alone and in any company.
"""

from __future__ import annotations

import numpy as np

from structnet.compiled.compiler import inlined, part
from structnet.compiled.functions import activate, times_slope
from structnet.compiled.noise import Dropped, drop_errors, drop_units
from structnet.compiled.plan import (
    CONNECTIONS,
    FIRST_CONNECTION,
    FIRST_GROUP,
    FIRST_HIDDEN,
    FIRST_LINK,
    FIRST_OUT,
    FIRST_RUN,
    FROM_INPUT,
    IS_DENSE,
    LINK_RUN,
    LINK_RUN_STOP,
    N_IN,
    N_OUT,
    SOURCE,
    SRELU,
    START,
    STOP,
    TARGET,
    UNITS,
    Plan,
)
from structnet.compiled.shaped import bend, bend_errors


@inlined
def member_plan(plan: Plan, member: int) -> Plan:
    """The part of one member, as views."""
    here, after = plan.members[member], plan.members[member + 1]
    return Plan(
        plan.members[member : member + 1],
        plan.links[here[FIRST_LINK] : after[FIRST_LINK]],
        plan.groups[here[FIRST_GROUP] : after[FIRST_GROUP]],
        plan.target[here[FIRST_RUN] : after[FIRST_RUN]],
        plan.stop[here[FIRST_RUN] : after[FIRST_RUN]],
        plan.row[here[FIRST_CONNECTION] : after[FIRST_CONNECTION]],
        plan.out_stop[here[FIRST_HIDDEN] : after[FIRST_HIDDEN]],
        plan.out_connection[here[FIRST_OUT] : after[FIRST_OUT]],
        plan.out_row[here[FIRST_OUT] : after[FIRST_OUT]],
    )


@inlined
def forward(
    plan: Plan,
    values: np.ndarray,
    inputs: np.ndarray,
    state: np.ndarray,
    matrix: np.ndarray,
    code: int,
    dropped: Dropped,
    count: int,
) -> None:
    """Fills the workspace with the activations of a member; its last group are the logits.

    values: (parameters,). matrix: (cells,) for dense links. code: of the activation; of SReLU the workspace has twice
    as many rows, and the others hold what units were before it. dropped: of the hidden units.
    """
    connections, units = plan.members[0, CONNECTIONS], plan.members[0, UNITS]
    link = 0
    for group in range(len(plan.groups) - 1):
        first, last = plan.groups[group], plan.groups[group + 1]
        for unit in range(first, last):
            row, bias = state[unit], values[connections + unit]
            for image in range(count):
                row[image] = bias
            # What an earlier member has left behind the last image must not reach the products of matrices.
            for image in range(count, len(row)):
                row[image] = values.dtype.type(0)
        while link < len(plan.links) and plan.links[link, TARGET] == first:
            of = plan.links[link]
            sources = inputs if of[FROM_INPUT] else state
            if of[IS_DENSE]:
                add_product(filled(plan, of, values, matrix), rows_of(sources, of, SOURCE), state, first)
            else:
                _add_rows(plan, of, values, sources, state, count)
            link += 1
        if group < len(plan.groups) - 2:
            if code == SRELU:
                bend(state, first, last, units, values, connections + units, count)
            else:
                activate(code, state[first:last], count)
            if dropped.share > 0:
                drop_units(state, first, last, dropped, count)


@inlined
def _add_rows(
    plan: Plan, of: np.ndarray, values: np.ndarray, sources: np.ndarray, state: np.ndarray, count: int
) -> None:
    at = np.uint64(of[START])
    four = np.uint64(4)
    for run in range(of[LINK_RUN], of[LINK_RUN_STOP]):
        out, stop = state[plan.target[run]], np.uint64(plan.stop[run])
        while at + four <= stop:
            w0, w1 = values[at], values[at + np.uint64(1)]
            w2, w3 = values[at + np.uint64(2)], values[at + np.uint64(3)]
            s0, s1 = sources[plan.row[at]], sources[plan.row[at + np.uint64(1)]]
            s2, s3 = sources[plan.row[at + np.uint64(2)]], sources[plan.row[at + np.uint64(3)]]
            for image in range(count):
                out[image] += w0 * s0[image] + w1 * s1[image] + w2 * s2[image] + w3 * s3[image]
            at += four
        while at < stop:
            w0, s0 = values[at], sources[plan.row[at]]
            for image in range(count):
                out[image] += w0 * s0[image]
            at += np.uint64(1)


@inlined
def backward(
    plan: Plan,
    values: np.ndarray,
    inputs: np.ndarray,
    state: np.ndarray,
    error: np.ndarray,
    gradient: np.ndarray,
    matrix: np.ndarray,
    code: int,
    dropped: Dropped,
    count: int,
) -> None:
    """Adds the gradient of a member to `gradient`, (parameters,), and fills `error` at every pre-activation.

    error: holds the derivative of the loss by the logits in the rows of the last group.
    """
    connections, units = plan.members[0, CONNECTIONS], plan.members[0, UNITS]
    for group in range(len(plan.groups) - 2, -1, -1):
        first, last = plan.groups[group], plan.groups[group + 1]
        if group < len(plan.groups) - 2:
            _errors_of_group(plan, values, state, error, gradient, matrix, first, last, count)
            if dropped.share > 0:
                drop_errors(state, error, first, last, dropped, count)
            if code == SRELU:
                bend_errors(state, error, first, last, units, values, gradient, connections + units, count)
            else:
                times_slope(code, state[first:last], error[first:last], count)
        for unit in range(first, last):
            row, total = error[unit], error.dtype.type(0)
            for image in range(count):
                total += row[image]
            gradient[connections + unit] += total
        for link in range(len(plan.links)):
            of = plan.links[link]
            if of[TARGET] == first and of[FROM_INPUT]:
                if of[IS_DENSE]:
                    _dense_gradient(plan, of, inputs, error, gradient)
                else:
                    _row_gradient(plan, of, inputs, error, gradient, count)


@inlined
def _row_gradient(
    plan: Plan, of: np.ndarray, sources: np.ndarray, error: np.ndarray, gradient: np.ndarray, count: int
) -> None:
    """By the values of a link: for every connection the product of the error of its unit and its source."""
    at = np.uint64(of[START])
    four = np.uint64(4)
    zero = error.dtype.type(0)
    for run in range(of[LINK_RUN], of[LINK_RUN_STOP]):
        here, stop = error[plan.target[run]], np.uint64(plan.stop[run])
        while at + four <= stop:
            s0, s1 = sources[plan.row[at]], sources[plan.row[at + np.uint64(1)]]
            s2, s3 = sources[plan.row[at + np.uint64(2)]], sources[plan.row[at + np.uint64(3)]]
            g0, g1, g2, g3 = zero, zero, zero, zero
            for image in range(count):
                g0 += here[image] * s0[image]
                g1 += here[image] * s1[image]
                g2 += here[image] * s2[image]
                g3 += here[image] * s3[image]
            gradient[at] += g0
            gradient[at + np.uint64(1)] += g1
            gradient[at + np.uint64(2)] += g2
            gradient[at + np.uint64(3)] += g3
            at += four
        while at < stop:
            s0, g0 = sources[plan.row[at]], zero
            for image in range(count):
                g0 += here[image] * s0[image]
            gradient[at] += g0
            at += np.uint64(1)


@inlined
def _errors_of_group(
    plan: Plan,
    values: np.ndarray,
    state: np.ndarray,
    error: np.ndarray,
    gradient: np.ndarray,
    matrix: np.ndarray,
    first: int,
    last: int,
    count: int,
) -> None:
    """The errors behind the activation of a hidden group, and the gradient of the connections that leave it."""
    four, zero = np.uint64(4), error.dtype.type(0)
    at = np.uint64(plan.out_stop[first - 1]) if first else np.uint64(0)
    for unit in range(first, last):
        out, mine, stop = error[unit], state[unit], np.uint64(plan.out_stop[unit])
        for image in range(len(out)):
            out[image] = zero
        while at + four <= stop:
            c0, c1 = plan.out_connection[at], plan.out_connection[at + np.uint64(1)]
            c2, c3 = plan.out_connection[at + np.uint64(2)], plan.out_connection[at + np.uint64(3)]
            w0, w1, w2, w3 = values[c0], values[c1], values[c2], values[c3]
            e0, e1 = error[plan.out_row[at]], error[plan.out_row[at + np.uint64(1)]]
            e2, e3 = error[plan.out_row[at + np.uint64(2)]], error[plan.out_row[at + np.uint64(3)]]
            g0, g1, g2, g3 = zero, zero, zero, zero
            for image in range(count):
                out[image] += w0 * e0[image] + w1 * e1[image] + w2 * e2[image] + w3 * e3[image]
                g0 += mine[image] * e0[image]
                g1 += mine[image] * e1[image]
                g2 += mine[image] * e2[image]
                g3 += mine[image] * e3[image]
            gradient[c0] += g0
            gradient[c1] += g1
            gradient[c2] += g2
            gradient[c3] += g3
            at += four
        while at < stop:
            c0 = plan.out_connection[at]
            w0, e0, g0 = values[c0], error[plan.out_row[at]], zero
            for image in range(count):
                out[image] += w0 * e0[image]
                g0 += mine[image] * e0[image]
            gradient[c0] += g0
            at += np.uint64(1)
    for link in range(len(plan.links)):
        of = plan.links[link]
        if of[IS_DENSE] and not of[FROM_INPUT] and of[SOURCE] == first:
            add_product(filled(plan, of, values, matrix).T, rows_of(error, of, TARGET), error, first)
            _dense_gradient(plan, of, state, error, gradient)


@part
def run_forward(
    plan: Plan,
    values: np.ndarray,
    inputs: np.ndarray,
    state: np.ndarray,
    matrix: np.ndarray,
    code: int,
    dropped: Dropped,
    count: int,
) -> None:
    """As `forward`, compiled once for all who call it: slower by some microseconds."""
    forward(plan, values, inputs, state, matrix, code, dropped, count)


@part
def run_backward(
    plan: Plan,
    values: np.ndarray,
    inputs: np.ndarray,
    state: np.ndarray,
    error: np.ndarray,
    gradient: np.ndarray,
    matrix: np.ndarray,
    code: int,
    dropped: Dropped,
    count: int,
) -> None:
    """As `backward`, compiled once for all who call it."""
    backward(plan, values, inputs, state, error, gradient, matrix, code, dropped, count)


@part
def rows_of(rows: np.ndarray, of: np.ndarray, side: int) -> np.ndarray:
    """The rows of the source or target group of a link, (units, width); side: SOURCE or TARGET."""
    return rows[of[side] : of[side] + of[N_IN if side == SOURCE else N_OUT]]


@part
def add_product(weights: np.ndarray, seen: np.ndarray, out: np.ndarray, first: int) -> None:
    """Adds weights @ seen, (units, width), to the rows of `out` from the first on."""
    product = np.dot(weights, seen)
    for unit in range(len(product)):
        row, more = out[first + unit], product[unit]
        for image in range(len(row)):
            row[image] += more[image]


@part
def filled(plan: Plan, of: np.ndarray, values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The values of a link as its (n_out, n_in) matrix, in the memory of `matrix`."""
    start, stop, size = of[START], of[STOP], of[N_IN] * of[N_OUT]
    cells = matrix[:size]
    if stop - start == size:
        for at in range(size):
            cells[at] = values[start + at]
    else:
        for at in range(size):
            cells[at] = matrix.dtype.type(0)
        for at in range(start, stop):
            cells[plan.row[at]] = values[at]
    return cells.reshape((of[N_OUT], of[N_IN]))


@part
def _dense_gradient(
    plan: Plan, of: np.ndarray, sources: np.ndarray, error: np.ndarray, gradient: np.ndarray
) -> None:
    start, stop = of[START], of[STOP]
    product = np.dot(rows_of(error, of, TARGET), rows_of(sources, of, SOURCE).T)
    cells = product.reshape(product.size)
    if stop - start == len(cells):
        for at in range(len(cells)):
            gradient[start + at] += cells[at]
    else:
        for at in range(start, stop):
            gradient[at] += cells[plan.row[at]]
