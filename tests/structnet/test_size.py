"""What a network takes where it is stored, by hand."""

from __future__ import annotations

import numpy as np

from structnet.measure.size import stored_bytes
from structnet.network.topology import Topology


def topology(inputs: int, connections: int) -> Topology:
    """So many connections to the first of two outputs."""
    return Topology((inputs, 2), np.arange(connections), np.full(connections, inputs))


def test_values_sources_and_the_first_connection_of_every_unit() -> None:
    """3 weights and 2 biases of 4 bytes; the numbers of 6 units and of 3 connections fit into a byte."""
    assert stored_bytes(topology(4, 3)) == 4 * 5 + 1 * 3 + 1 * 2


def test_numbers_take_two_bytes_where_one_is_not_enough() -> None:
    assert stored_bytes(topology(254, 200)) == 4 * 202 + 200 + 2
    assert stored_bytes(topology(255, 200)) == 4 * 202 + 2 * 200 + 2
    assert stored_bytes(topology(400, 256)) == 4 * 258 + 2 * 256 + 2 * 2
