"""What a network takes: where it is stored, and where it is trained."""

from __future__ import annotations

import numpy as np

from structnet.network.topology import Topology

VALUE_BYTES = 4  # float32


def stored_bytes(topology: Topology) -> int:
    """Bytes of its values in float32 and of the indices that say which of its connections exist.

    A connection needs the number of its source unit, and a unit the number of its first connection, each in the fewest
    bytes that hold them.
    """
    units = sum(topology.architecture)
    source = np.min_scalar_type(max(0, units - 1)).itemsize
    first = np.min_scalar_type(topology.connections).itemsize
    return VALUE_BYTES * topology.parameters + source * topology.connections + first * topology.bias_count


def training_multiply_adds(topology: Topology) -> int:
    """Multiply-adds of a training step, for each image: every connection forward, for its gradient, and for its error.

    No error goes back to the input. What is done once a step for each parameter, by the optimizer, is left out.
    """
    from_input = int(np.count_nonzero(topology.source < topology.architecture[0]))
    return 3 * topology.connections - from_input
