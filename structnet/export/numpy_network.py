"""A network by numpy alone, from plain arrays.

`structnet.export.numpy_file` puts functions of this file into those that it writes: they need numpy and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def image_inputs(raw: np.ndarray, preprocessing: dict[str, Any]) -> np.ndarray:
    """Pixels (n, channels, height, width) as inputs, float32 (n, units)."""
    offset, scale = (np.array(preprocessing[name], np.float32)[:, None, None] for name in ("offset", "scale"))
    inputs: np.ndarray = (raw.astype(np.float32) - offset) / scale
    return inputs.reshape(len(raw), -1)


def number_inputs(raw: np.ndarray, preprocessing: dict[str, Any]) -> np.ndarray:
    """Numbers (n, columns) as inputs, float32 (n, units)."""
    inputs: np.ndarray = (raw - preprocessing["offset"]) / np.array(preprocessing["scale"])
    return inputs.astype(np.float32)


def matrices(
    groups: list[tuple[int, ...]], values: np.ndarray, source: np.ndarray, target: np.ndarray
) -> list[np.ndarray]:
    """The weights of each group, (units that it looks at, its units), 0 where nothing is connected."""
    found = []
    for low, first, last, start, stop in groups:
        matrix = np.zeros((first - low, last - first), np.float32)
        matrix[source[start:stop].astype(int) - low, target[start:stop].astype(int) - first] = values[
            start:stop
        ]
        found.append(matrix)
    return found


def propagate(
    inputs: np.ndarray,
    groups: list[tuple[int, ...]],
    weights: list[np.ndarray],
    biases: np.ndarray,
    shapes: np.ndarray,
    activation: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Logits (n, classes). shapes: (hidden units, numbers) that shape the activation, if it has any."""
    units, behind = inputs, inputs.shape[1]
    state = units
    for (low, first, last, _, _), weight in zip(groups, weights):
        state = units[:, low:first] @ weight + biases[first - behind : last - behind]
        if last == groups[-1][2]:
            break
        state = activation(state, shapes[first - behind : last - behind])
        units = np.concatenate([units, state], axis=1)
    return state


def relu(state: np.ndarray, _: np.ndarray) -> np.ndarray:
    """The larger one of 0 and the state."""
    found: np.ndarray = np.maximum(state, 0)
    return found


def tanh(state: np.ndarray, _: np.ndarray) -> np.ndarray:
    """The hyperbolic tangent."""
    found: np.ndarray = np.tanh(state)
    return found


def sigmoid(state: np.ndarray, _: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-state)), in a form that does not overflow."""
    found: np.ndarray = 0.5 * np.tanh(0.5 * state) + 0.5
    return found


def srelu(state: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """The identity between two thresholds of each unit, of a slope of its own outside (Jin et al. 2016)."""
    left, below, width, above = shapes.T
    right = left + np.abs(width)
    low, high = left + below * (state - left), right + above * (state - right)
    return np.where(state >= right, high, np.where(state < left, low, state))
