"""Multiply-adds of an image, of training, and how many parameters fit into so many: by hand and by counting."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.map_networks import random_map_network
from hypothesis import given
from hypothesis import strategies as st

from structnet import StructNet
from structnet.errors import UserError
from structnet.measure.fitting_size import parameters_within_macs
from structnet.measure.size import multiply_adds, training_multiply_adds
from structnet.network.architecture import Architecture, density_for, sizes_of
from structnet.network.topology import Topology


def by_hand() -> Topology:
    """1 map of 4 × 4 into 2 of 4 × 4, into 1 of 2 × 2 that is flat, into 3 classes.

    Ports, with a window of 3: of unit 0 the window 0 … 8 and the mean 9; of unit 1 10 … 18 and 19; of unit 2 20 … 28
    and 29; of unit 3 30 … 38, 39, and its positions 40 … 43.
    """
    shape = Architecture([1, 2, 1, 3], [(4, 4), (4, 4), (2, 2), (1, 1)], window=3, flat=[2])
    taps = [
        *((port, 1) for port in (0, 4, 8)),  # three taps at 16 positions
        *((port, 3) for port in (14, 24)),  # two at 4
        (39, 4),  # the mean of the last map, over 4 positions, which two classes read
        (39, 5),
        (42, 6),  # and one of its positions
        (19, 4),  # the mean of the first of two maps, over 16
        (9, 5),  # and that of the input
        (9, 6),
    ]
    source, target = (np.array(ends, dtype=np.int32) for ends in zip(*taps))
    return Topology.sorted(shape, source, target)[0]


def test_of_an_image() -> None:
    taps = 3 * 16 + 2 * 4 + 6
    assert multiply_adds(by_hand()) == taps + 4 + 16 + 16


def test_of_a_training_step() -> None:
    """Forward, gradient, and error, but for what reads the input; a mean has no gradient of its own."""
    forward, error = 3 * 16 + 2 * 4 + 6, 2 * 4 + 4
    assert training_multiply_adds(by_hand()) == 2 * forward + error + (4 + 16 + 16) + (4 + 16)


def test_without_maps_a_connection_is_one() -> None:
    topology = StructNet([6, 4, 3], 0.5).topology
    from_input = int((topology.source < 6).sum())
    assert multiply_adds(topology) == topology.connections
    assert training_multiply_adds(topology) == 3 * topology.connections - from_input


@given(st.integers(0, 10**6))
def test_as_counted_one_by_one(seed: int) -> None:
    topology = random_map_network(np.random.default_rng(seed)).topology
    shape, counted, means = topology.architecture, 0, set()
    codes = topology.code_of_port(topology.source)
    for unit, code, target in zip(topology.source_unit.tolist(), codes.tolist(), topology.target.tolist()):
        group, end = int(topology.group_of(unit)), int(topology.group_of(target))
        counted += shape.area(end)
        if shape.is_plain(end) and not shape.is_plain(group) and code == shape.window**2:
            means.add(unit)
    counted += sum(shape.area(int(topology.group_of(unit))) for unit in means)
    assert multiply_adds(topology) == counted


@pytest.mark.parametrize("text", ["1@28,8@14,16@7,10", "64,32,10", "3@8,6@8,flat,10"])
@pytest.mark.parametrize("share", [0.4, 0.7])
def test_a_network_of_that_many_parameters_takes_about_those_multiply_adds(text: str, share: float) -> None:
    shape = sizes_of(text)
    bound = round(share * multiply_adds(StructNet(shape, 1.0).topology))
    density = density_for(shape, parameters_within_macs(bound, shape))
    assert multiply_adds(StructNet(shape, density).topology) == pytest.approx(bound, rel=0.1)


@pytest.mark.parametrize(
    ("text", "least"),
    [("1@28,8@14,16@7,10", 14 * 14 + 2 * 7 * 7 + 1), ("1@28,8@14,flat,10", 14 * 14 + 1), ("64,32,10", 2)],
)
def test_less_than_a_way_through_all_groups_is_refused(text: str, least: int) -> None:
    shape = sizes_of(text)
    assert parameters_within_macs(least, shape) > 10
    with pytest.raises(
        UserError, match=rf"max_macs is {least - 1}, but must be at least {least}: a way from"
    ):
        parameters_within_macs(least - 1, shape)
