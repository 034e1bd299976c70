"""Room for connections: hidden units that pruning has folded away come back before a network overshoots again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from structnet.network.edit import add_units
from structnet.network.state import TrainState
from structnet.training.shrinking import CROWDED

FULL = 0.5  # share of the connections that the groups have room for, above which units are in short supply
BIAS = 0.1  # of a unit that comes back: above 0, so that what leads away from it has a gradient


def with_room(state: TrainState, peak: int, limit: int, widths: Sequence[int]) -> TrainState:
    """The state with hidden groups up to as wide as these, if they leave little choice where connections can go.

    peak, limit: parameters that it overshoots to, and is pruned to then; biases are to be no more than CROWDED of that.
    widths: units per group, input first; nothing changes where the groups are others. The units that come back have no
    connections yet, so that the network computes what it did.
    """
    topology = state.network.topology
    possible = sum(int(np.prod(topology.shape_of(pair))) for pair in topology.links)
    if peak <= FULL * possible or len(widths) != topology.groups:
        return state
    for group in range(1, topology.groups - 1):
        here = state.network.topology
        allowed = int(CROWDED * limit) - here.bias_count
        missing = min(widths[group] - here.architecture[group], allowed)
        if missing > 0:
            state = state.edited(add_units(state.network, group, np.full(missing, BIAS)))
    return state
