"""What a network takes where it is stored, by hand."""

from __future__ import annotations

import numpy as np

from structnet.measure.size import stored_bytes
from structnet.network.topology import Topology


def topology(inputs: int, connections: int, step: int = 2) -> Topology:
    """So many connections, from every second input or fewer, to the first of two outputs."""
    return Topology((inputs, 2), step * np.arange(connections), np.full(connections, inputs))


def test_values_sources_and_the_length_of_every_row() -> None:
    """3 weights and 2 biases of 4 bytes; 3 sources and the lengths of 2 rows fit into a byte each."""
    assert stored_bytes(topology(9, 3)) == 4 * 5 + 3 + 2


def test_a_full_link_has_no_indices() -> None:
    connections = np.arange(6)
    full = Topology((3, 2), connections % 3, 3 + connections // 3)
    assert stored_bytes(full) == 4 * 8


def test_of_many_inputs_the_gaps_between_sources_are_stored() -> None:
    """Sources up to 598 would take two bytes each, gaps of 2 take one; of 300 entries a byte holds no count."""
    assert stored_bytes(topology(600, 255)) == 4 * 257 + 255 + 2
    assert stored_bytes(topology(600, 300)) == 4 * 302 + 300 + 2 * 2


def test_sources_take_two_bytes_where_gaps_would_need_many_zeros() -> None:
    """Each gap of 600 would take two entries more, of 5 bytes."""
    assert stored_bytes(topology(3000, 5, step=600)) == 4 * 7 + 2 * 5 + 2
