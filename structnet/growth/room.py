"""Room for connections: hidden units that pruning has folded away come back before a network overshoots again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from structnet.network.edit import add_units
from structnet.network.state import TrainState

FULL = 0.5  # share of the connections that the groups have room for, above which units are in short supply
BIAS = 0.1  # of a unit that comes back: above 0, so that what leads away from it has a gradient


def with_room(state: TrainState, parameters: int, widths: Sequence[int]) -> TrainState:
    """The state with hidden groups as wide as these, if so many parameters would leave little choice where they go.

    widths: units per group, input first; nothing changes where the groups are others. The units that come back have no
    connections yet, so that the network computes what it did.
    """
    topology = state.network.topology
    possible = sum(int(np.prod(topology.shape_of(pair))) for pair in topology.links)
    if parameters <= FULL * possible or len(widths) != topology.groups:
        return state
    for group in range(1, topology.groups - 1):
        missing = widths[group] - state.network.topology.architecture[group]
        if missing > 0:
            state = state.edited(add_units(state.network, group, np.full(missing, BIAS)))
    return state
