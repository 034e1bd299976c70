"""What a round says of its links and inputs: by hand for small networks, against what ports show for random ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.map_networks import random_map_network

from structnet.measure.ports import seen_at
from structnet.measure.wiring import input_reads, wiring_columns
from structnet.network.architecture import Architecture
from structnet.network.topology import Topology


def topology_of(shape: Architecture, *connections: tuple[int, int]) -> Topology:
    """With these connections, of a port and a unit each."""
    source, target = np.array(connections).T
    return Topology.sorted(shape, source, target)[0]


def test_links_and_inputs_of_a_plain_network_with_a_skip() -> None:
    """Units 0 to 3 are the input, 4 to 6 hidden, 7 and 8 the output."""
    topology = topology_of(
        Architecture([4, 3, 2]),
        *[(0, 4), (2, 4), (0, 5), (3, 6)],
        *[(4, 7), (6, 8)],
        *[(1, 7), (0, 8)],
    )
    assert wiring_columns(topology) == {
        "link_sources": [0, 0, 1],
        "link_targets": [1, 2, 2],
        "link_connections": [4, 2, 2],
        "link_possible": [12, 8, 6],
        "input_reads": [3, 1, 1, 1],
    }


def test_a_tap_reads_a_pixel_at_every_position_where_its_window_lies_there() -> None:
    """3 × 3 pixels, a window of 3: ports 0 to 8 are its offsets, 9 the mean; 19 is the mean of the hidden map."""
    shape = Architecture([1, 1, 2], [(3, 3), (3, 3), (1, 1)], window=3)
    centre, above_left = (4, 1), (0, 1)
    taps = topology_of(shape, centre, above_left, (19, 2))
    # The window's corner lies on the image where its centre is not in the first row or column.
    assert input_reads(taps).tolist() == [2, 2, 1, 2, 2, 1, 1, 1, 1]
    with_mean = topology_of(shape, centre, above_left, (9, 2), (9, 3), (19, 2))
    assert wiring_columns(with_mean) == {
        "link_sources": [0, 0, 1],
        "link_targets": [1, 2, 2],
        "link_connections": [2, 2, 1],
        "link_possible": [9, 2, 2],
        "input_reads": [4, 4, 3, 4, 4, 3, 3, 3, 3],
    }


def test_strides_leave_pixels_unread() -> None:
    """Every other pixel of 4 × 4 is below the centre of a window of 2 × 2 positions: rows and columns 0 and 2."""
    shape = Architecture([1, 1, 2], [(4, 4), (2, 2), (1, 1)], window=3)
    reads = input_reads(topology_of(shape, (4, 1))).reshape(4, 4)
    assert shape.geometry((0, 1)).start == (0, 0) and reads.sum() == 4
    assert reads[::2, ::2].tolist() == [[1, 1], [1, 1]]


def test_flat_inputs_are_read_position_by_position() -> None:
    """2 × 2 pixels: ports 9 for the mean, 10 to 13 for the positions."""
    shape = Architecture([1, 2], [(2, 2), (1, 1)], window=3, flat=[0])
    topology = topology_of(shape, (12, 1), (9, 2))
    assert input_reads(topology).tolist() == [1, 1, 2, 1]
    assert wiring_columns(topology)["link_possible"] == [8]


@pytest.mark.parametrize("seed", range(30))
def test_reads_are_what_the_ports_of_random_networks_of_maps_show(seed: int) -> None:
    topology = random_map_network(np.random.default_rng(seed)).topology
    shape = topology.architecture
    area, window = shape.area(0), shape.window**2
    # Each pixel by its number, from 1; 0 is where a window leaves the image.
    pixels = torch.arange(1, shape[0] * area + 1, dtype=torch.float64).view(shape[0], area)
    expected = np.zeros(1 + shape[0] * area, dtype=np.int64)
    for pair, span in topology.links.items():
        source = topology.source[span]
        for unit, code in zip(topology.unit_of_port(source), topology.code_of_port(source)):
            if pair[0] == 0 and code == window and not shape.is_plain(0):
                expected[1 + unit * area : 1 + (unit + 1) * area] += 1
            elif pair[0] == 0:
                seen = seen_at(shape, pair, int(code), pixels)[unit]
                np.add.at(expected, seen.long().numpy(), 1)
    assert input_reads(topology).tolist() == expected[1:].tolist()
    assert sum(wiring_columns(topology)["link_connections"]) == topology.connections
