"""What a network takes where it is stored."""

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
