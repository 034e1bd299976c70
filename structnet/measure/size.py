"""What a network takes: where it is stored, and where it is trained."""

from __future__ import annotations

import numpy as np

from structnet.export.rows import packed_bytes
from structnet.network.topology import Topology


def stored_bytes(topology: Topology) -> int:
    """Bytes of its smallest exported form in float32: its tables in the C header, indices included.

    What its preprocessing and the names of its classes take is not counted.
    """
    return packed_bytes(topology)


def training_multiply_adds(topology: Topology) -> int:
    """Multiply-adds of a training step, for each image: every connection forward, for its gradient, and for its error.

    No error goes back to the input. What is done once a step for each parameter, by the optimizer, is left out.
    """
    from_input = int(np.count_nonzero(topology.source < topology.architecture[0]))
    return 3 * topology.connections - from_input
