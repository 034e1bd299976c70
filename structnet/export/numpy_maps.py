"""A network of feature maps by numpy alone, from plain arrays.

`structnet.export.numpy_file` puts functions of this file into those that it writes: they need numpy and nothing else.
Maps are (units, height, width, n); neurons are maps of one position.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def kernels(
    groups: list[tuple[int, ...]],
    links: list[tuple[int, ...]],
    values: np.ndarray,
    source: np.ndarray,
    offset: np.ndarray,
    target: np.ndarray,
) -> list[np.ndarray]:
    """The weights of each link, (ports, units of its source, units of its target), 0 where nothing is connected.

    The ports of a link into maps are the offsets of the window, row by row; of one into neurons the mean of a map and,
    behind it, its positions.
    """
    found = []
    for first, second, start, stop, port, ports, *_ in links:
        kernel = np.zeros((ports, groups[first][1], groups[second][1]), np.float32)
        places = offset[start:stop].astype(int) - port, source[start:stop].astype(int) - groups[first][0]
        kernel[(*places, target[start:stop].astype(int) - groups[second][0])] = values[start:stop]
        found.append(kernel)
    return found


def convolved(
    state: np.ndarray,
    kernel: np.ndarray,
    side: tuple[int, ...],
    step: tuple[int, ...],
    start: tuple[int, ...],
) -> np.ndarray:
    """What a link adds to maps of this side, whose position p lies on step · p + start of its source."""
    (high, wide), (down, right), (top, left) = side, step, start
    window = int(len(kernel) ** 0.5)
    reach = window // 2
    seen = np.pad(state, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    found = np.zeros((kernel.shape[2], high, wide, state.shape[3]), state.dtype)
    for port, weight in enumerate(kernel):
        if weight.any():
            row, column = top + port // window, left + port % window
            rows = slice(row, row + (high - 1) * down + 1, down)
            columns = slice(column, column + (wide - 1) * right + 1, right)
            found += np.tensordot(weight.T, seen[:, rows, columns], 1)
    return found


def gathered(state: np.ndarray, means: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """What a link adds to neurons, (units, 1, 1, n), from maps and their means, (units, n)."""
    found = kernel[0].T @ means
    if len(kernel) > 1:
        positions = state.reshape(len(state), -1, state.shape[3])[:, : len(kernel) - 1]
        found = found + np.tensordot(kernel[1:], positions, ((0, 1), (1, 0)))
    sums: np.ndarray = found[:, None, None]
    return sums


def propagate_maps(
    inputs: np.ndarray,
    groups: list[tuple[int, ...]],
    links: list[tuple[int, ...]],
    weights: list[np.ndarray],
    biases: np.ndarray,
    activation: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Logits (n, classes).

    groups: first unit, units, height and width of each. links: source and target group, connections from and to, the
    first port and how many; then the step down and right, and the start, of positions of the target on the source.
    """
    states: list[np.ndarray] = []
    for group, (first, units, high, wide) in enumerate(groups):
        if group == 0:
            states.append(inputs.T.reshape(units, high, wide, -1))
            continue
        own = biases[first - groups[0][1] :][:units, None, None, None]
        state = np.zeros((units, high, wide, len(inputs)), inputs.dtype) + own
        for (source, target, _, _, _, _, *where), kernel in zip(links, weights):
            if target == group and high * wide > 1:
                state += convolved(states[source], kernel, (high, wide), tuple(where[:2]), tuple(where[2:]))
            elif target == group:
                state += gathered(states[source], states[source].mean((1, 2)), kernel)
        states.append(activation(state, biases) if group < len(groups) - 1 else state)
    return states[-1][:, 0, 0].T
