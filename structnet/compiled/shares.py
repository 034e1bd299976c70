"""A training step in two halves, with what several processes have to agree on in between."""

from __future__ import annotations

import numpy as np

from structnet.compiled.arrays import Images, Moments, Noise, Rules, Workspace
from structnet.compiled.batch import fill_block
from structnet.compiled.compiler import compiled
from structnet.compiled.noise import dropped_units
from structnet.compiled.normalise import Statistics, follow
from structnet.compiled.plan import CONNECTIONS, Plan
from structnet.compiled.products import run_backward, run_forward
from structnet.compiled.sheets import Sheets
from structnet.compiled.step import clear, cross_entropy, update
from structnet.compiled.tap_step import TapWorkspace, learn_block


@compiled
def gradient_of_part(
    plan: Plan,
    code: int,
    values: np.ndarray,
    images: Images,
    noise: Noise,
    order: np.ndarray,
    first: int,
    last: int,
    step: int,
    work: Workspace,
) -> float:
    """Fills work.gradient with what images first … last add to the gradient of a batch; returns their part of its loss.

    order: (batch,) positions of all its images. The plan is of one network.
    """
    width, loss = work.inputs.shape[1], 0.0
    clear(work.gradient)
    for begin in range(first, last, width):
        count = min(width, last - begin)
        labels = fill_block(images, noise, order, begin, count, step, work.inputs)
        dropped = dropped_units(noise, step, begin)
        run_forward(plan, values, work.inputs, work.state, work.matrix, code, dropped, count)
        output = work.state[plan.groups[-2] : plan.groups[-1]]
        error = work.error[plan.groups[-2] : plan.groups[-1]]
        loss += cross_entropy(output, error, labels, count, len(order))
        run_backward(
            plan,
            values,
            work.inputs,
            work.state,
            work.error,
            work.gradient,
            work.matrix,
            code,
            dropped,
            count,
        )
    return loss


@compiled
def tap_gradient_of_part(
    plan: Sheets,
    code: int,
    values: np.ndarray,
    images: Images,
    noise: Noise,
    order: np.ndarray,
    first: int,
    last: int,
    step: int,
    work: TapWorkspace,
    seen: np.ndarray,
) -> float:
    """As `gradient_of_part`, of a network of feature maps and of whole blocks, as wide as the workspace.

    seen: (2, units behind the input), 0 before, is filled with what they add to the means and variances of the blocks
    of the batch; it may be (2, 0) where nothing is normalised.
    """
    width, loss, batch = work.state.shape[1], 0.0, len(order)
    statistics = Statistics(work.before, work.mean, work.variance)
    clear(work.gradient)
    for begin in range(first, last, width):
        count = min(width, last - begin)
        labels = fill_block(images, noise, order, begin, count, step, work.state[: plan.features[0]])
        loss += learn_block(plan, code, values, work, work.gradient, labels, batch)
        if len(work.before) > 0:
            follow(plan, statistics, seen, 1.0, count / batch)
    return loss


@compiled
def apply_gradient(
    plan: Plan | Sheets,
    values: np.ndarray,
    gradient: np.ndarray,
    moments: Moments,
    rules: Rules,
    rate: float,
    step: int,
    updates: int,
) -> None:
    """One update of a network, in place; updates: made before."""
    connections = plan.members[0, CONNECTIONS]
    update(
        values,
        gradient,
        moments.first,
        moments.second,
        moments.born,
        rules,
        connections,
        rate,
        rules.weight_decay[0],
        step,
        updates + 1,
    )
