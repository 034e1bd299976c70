"""How many parameters fit into bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from structnet.errors import UserError
from structnet.measure.size import stored_bytes
from structnet.network.architecture import architecture_of, bias_count, possible_connections
from structnet.network.random_topology import random_topology
from structnet.network.topology import Topology
from structnet.seeds import stream


def parameters_within(max_bytes: int, architecture: Sequence[int]) -> int:
    """About how many parameters a network of this shape has that takes so many bytes.

    Raises UserError for less than the smallest network with these outputs takes.
    """
    inputs, classes, dense = architecture[0], architecture[-1], possible_connections(architecture)
    smallest = Topology(
        architecture_of((inputs, classes)), np.zeros(1, np.int32), np.array([inputs], np.int32)
    )
    if max_bytes < (least := stored_bytes(smallest)):
        raise UserError(
            f"max_bytes is {max_bytes}, but must be at least {least}: a bias for each of {classes} classes, and one "
            "connection"
        )
    low, high = 1, dense + 1
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        found = random_topology(architecture, middle / dense, stream(0, "parameters within"))
        low, high = (middle, high) if stored_bytes(found) <= max_bytes else (low, middle)
    return max(classes + 1, low + bias_count(architecture))
