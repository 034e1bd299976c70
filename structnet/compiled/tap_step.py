"""Training steps and evaluation of networks of feature maps in lock step, as structnet.compiled.step has of others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from structnet.compiled.arrays import Images, Moments, Noise, Rules
from structnet.compiled.batch import fill_block
from structnet.compiled.compiler import compiled, part
from structnet.compiled.normalise import FOLLOWED, Statistics, follow
from structnet.compiled.sheets import CONNECTIONS, FIRST_PARAMETER, FIRST_UNIT, ROW, UNITS, Sheets
from structnet.compiled.step import clear, cross_entropy, length_of, likelihoods, update
from structnet.compiled.taps import member_sheets, multiply_group, tap_backward, tap_forward


class TapWorkspace(NamedTuple):
    """What a step writes and nobody reads afterwards, but for zeros that stay. width: images of a block.

    state, error: (rows, width), before: (rows of maps · width,), or (0,) where nothing is normalised; mean, variance:
    (units behind the input,) float64; gradient: (parameters of all members,).
    """

    state: np.ndarray
    error: np.ndarray
    before: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    gradient: np.ndarray


@compiled
def train_taps(
    plan: Sheets,
    code: int,
    values: np.ndarray,
    moments: Moments,
    kept: np.ndarray,
    rules: Rules,
    images: Images,
    noise: Noise,
    order: np.ndarray,
    rates: np.ndarray,
    shares: np.ndarray,
    step: int,
    updates: int,
    work: TapWorkspace,
    losses: np.ndarray,
    norms: np.ndarray,
) -> None:
    """As structnet.compiled.step.train. kept: (2, units behind the input of all) means and variances, if any.

    They follow what the blocks of a batch have on average, each block by its images.
    """
    width, batch = work.state.shape[1], order.shape[1]
    members, features = len(plan.members) - 1, plan.features[0]
    statistics = Statistics(work.before, work.mean, work.variance)
    for now in range(len(order)):
        for member in range(members):
            losses[now, member] = losses.dtype.type(0)
        for begin in range(0, batch, width):
            count = min(width, batch - begin)
            labels = fill_block(images, noise, order[now], begin, count, step + now, work.state[:features])
            for member in range(members):
                here = member_sheets(plan, member)
                first, last = plan.members[member, FIRST_PARAMETER], plan.members[member + 1, FIRST_PARAMETER]
                gradient = work.gradient[first:last]
                if members > 1:
                    wipe(work, features)
                if begin == 0:
                    clear(gradient)
                losses[now, member] += learn_block(
                    here, code, values[first:last], work, gradient, labels, batch
                )
                if len(work.before) > 0:
                    mine = kept[:, plan.members[member, FIRST_UNIT] : plan.members[member + 1, FIRST_UNIT]]
                    stays = 1.0 - FOLLOWED if begin == 0 else 1.0
                    follow(here, statistics, mine, stays, FOLLOWED * count / batch)
        for member in range(members):
            first, last = plan.members[member, FIRST_PARAMETER], plan.members[member + 1, FIRST_PARAMETER]
            gradient = work.gradient[first:last]
            if norms.size:
                norms[now, member] = length_of(gradient)
            update(
                values[first:last],
                gradient,
                moments.first[first:last],
                moments.second[first:last],
                moments.born[first:last],
                rules,
                plan.members[member, CONNECTIONS],
                rates[now] * shares[member],
                rules.weight_decay[member],
                step + now,
                updates + now + 1,
            )


@part
def learn_block(
    plan: Sheets,
    code: int,
    values: np.ndarray,
    work: TapWorkspace,
    gradient: np.ndarray,
    labels: np.ndarray,
    batch: int,
) -> float:
    """Adds to the gradient of a member what the images of a block, in the workspace, have in that of their batch.

    labels: (images,) of the block. batch: images of the batch. Returns their share of its loss.
    """
    count, statistics = len(labels), Statistics(work.before, work.mean, work.variance)
    tap_forward(plan, values, statistics, work.state, code, count)
    output, error = rows_of_output(plan, work.state), rows_of_output(plan, work.error)
    loss = cross_entropy(output, error, labels, count, batch)
    tap_backward(plan, values, statistics, work.state, work.error, gradient, code, count, False)
    return loss


@part
def wipe(work: TapWorkspace, features: int) -> None:
    """Makes all rows 0 but those of the inputs: what one member leaves must not be the border of another's maps."""
    for rows in (work.state[features:], work.error[features:]):
        clear(rows.reshape(rows.size))


@part
def rows_of_output(plan: Sheets, rows: np.ndarray) -> np.ndarray:
    """(classes, width) of a workspace."""
    of = plan.groups[len(plan.groups) - 1]
    return rows[of[ROW] : of[ROW] + of[UNITS]]


@compiled
def judge_taps(
    plan: Sheets,
    code: int,
    values: np.ndarray,
    images: Images,
    work: TapWorkspace,
    log2_likelihood: np.ndarray,
    right: np.ndarray,
    logits: np.ndarray,
) -> None:
    """As structnet.compiled.step.judge, of networks that do not normalise."""
    width, total, features = work.state.shape[1], len(images.labels), plan.features[0]
    order, members = np.arange(total), len(plan.members) - 1
    nothing = Statistics(work.before[:0], work.mean, work.variance)
    quiet = Noise(np.zeros(1, dtype=np.uint64), 0.0, 0.0, 0, False)
    for begin in range(0, total, width):
        count = min(width, total - begin)
        labels = fill_block(images, quiet, order, begin, count, 0, work.state[:features])
        for member in range(members):
            here = member_sheets(plan, member)
            if members > 1:
                wipe(work, features)
            mine = values[plan.members[member, FIRST_PARAMETER] : plan.members[member + 1, FIRST_PARAMETER]]
            tap_forward(here, mine, nothing, work.state, code, count)
            output = rows_of_output(here, work.state)
            likelihoods(output, labels, count, log2_likelihood[member, begin:], right[member, begin:])
            if logits.shape[2]:
                for label in range(len(output)):
                    for image in range(count):
                        logits[member, label, begin + image] = output[label, image]


@compiled
def pass_taps(
    plan: Sheets,
    code: int,
    values: np.ndarray,
    statistics: Statistics,
    state: np.ndarray,
    count: int,
) -> None:
    """Forward through one network, whose inputs are in the first rows of the workspace."""
    tap_forward(plan, values, statistics, state, code, count)


@compiled
def return_taps(
    plan: Sheets,
    code: int,
    values: np.ndarray,
    statistics: Statistics,
    state: np.ndarray,
    error: np.ndarray,
    gradient: np.ndarray,
    count: int,
    to_input: bool,
) -> None:
    """Backward through one network: adds to the gradient, and fills the errors."""
    tap_backward(plan, values, statistics, state, error, gradient, code, count, to_input)


@compiled
def multiply_taps_of(
    plan: Sheets, state: np.ndarray, error: np.ndarray, gradient: np.ndarray, group: int
) -> None:
    """Adds the gradient of the taps of one network that leave a group, from its activations and the errors behind."""
    multiply_group(plan, state, error, gradient, group)
