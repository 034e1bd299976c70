"""How many parameters fit into bytes, or into multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from structnet.errors import UserError
from structnet.measure.size import multiply_adds, stored_bytes
from structnet.network.architecture import architecture_of, bias_count, possible_connections
from structnet.network.random_topology import random_topology
from structnet.network.topology import Topology
from structnet.seeds import stream


def parameters_within(max_bytes: int, architecture: Sequence[int]) -> int:
    """About how many parameters a network of this shape has that takes so many bytes.

    Raises UserError for less than the smallest network with these outputs takes.
    """
    inputs, classes = architecture_of(architecture).inputs, architecture[-1]
    smallest = Topology(
        architecture_of((inputs, classes)), np.zeros(1, np.int32), np.array([inputs], np.int32)
    )
    if max_bytes < (least := stored_bytes(smallest)):
        raise UserError(
            f"max_bytes is {max_bytes}, but must be at least {least}: a bias for each of {classes} classes, and one "
            "connection"
        )
    return _fitting(stored_bytes, max_bytes, architecture)


def parameters_within_macs(max_macs: int, architecture: Sequence[int]) -> int:
    """About how many parameters a network of this shape has whose images take so many multiply-adds.

    Raises UserError for less than a way through all groups takes.
    """
    shape = architecture_of(architecture)
    last = len(shape) - 2
    mean = 0 if last in shape.flat or shape.is_plain(last) else shape.area(last)
    if max_macs < (least := mean + sum(shape.area(group) for group in range(1, len(shape)))):
        raise UserError(
            f"max_macs is {max_macs}, but must be at least {least}: a way from the input to one class of {shape}"
        )
    return _fitting(multiply_adds, max_macs, shape)


def _fitting(measure: Callable[[Topology], int], most: int, architecture: Sequence[int]) -> int:
    """Parameters of the largest random network of which so much is measured."""
    dense = possible_connections(architecture)
    low, high = 1, dense + 1
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        found = random_topology(architecture, middle / dense, stream(0, "parameters within"))
        low, high = (middle, high) if measure(found) <= most else (low, middle)
    return max(architecture[-1] + 1, low + bias_count(architecture))
