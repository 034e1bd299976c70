"""Forward and backward of one network by themselves: for autograd, diagnosis and shares of a batch."""

from __future__ import annotations

import numpy as np

from structnet.compiled.compiler import compiled
from structnet.compiled.noise import nothing_dropped
from structnet.compiled.plan import (
    FROM_INPUT,
    IS_DENSE,
    LINK_RUN,
    LINK_RUN_STOP,
    START,
    TARGET,
    Plan,
)
from structnet.compiled.products import add_product, filled, rows_of, run_backward, run_forward


@compiled
def activations(
    plan: Plan, code: int, values: np.ndarray, inputs: np.ndarray, state: np.ndarray, matrix: np.ndarray
) -> None:
    """Fills state, (rows, images), for inputs (features, images); rows: as of a workspace."""
    run_forward(plan, values, inputs, state, matrix, code, nothing_dropped(), inputs.shape[1])


@compiled
def gradients(
    plan: Plan,
    code: int,
    values: np.ndarray,
    inputs: np.ndarray,
    state: np.ndarray,
    error: np.ndarray,
    gradient: np.ndarray,
    matrix: np.ndarray,
) -> None:
    """Adds to gradient, (parameters,), and fills error, (rows, images), from what its last group holds."""
    run_backward(
        plan, values, inputs, state, error, gradient, matrix, code, nothing_dropped(), inputs.shape[1]
    )


@compiled
def input_errors(
    plan: Plan, values: np.ndarray, error: np.ndarray, matrix: np.ndarray, out: np.ndarray
) -> None:
    """Adds the derivative of the loss by the inputs to out, (features, images)."""
    for link in range(len(plan.links)):
        of = plan.links[link]
        if not of[FROM_INPUT]:
            continue
        if of[IS_DENSE]:
            add_product(filled(plan, of, values, matrix).T, rows_of(error, of, TARGET), out, 0)
            continue
        at = of[START]
        for run in range(of[LINK_RUN], of[LINK_RUN_STOP]):
            row = error[plan.target[run]]
            while at < plan.stop[run]:
                into, weight = out[plan.row[at]], values[at]
                for image in range(out.shape[1]):
                    into[image] += weight * row[image]
                at += 1
