"""Where connections lie in an image: by hand on small ones, and what chance alone makes of the ratios."""

from __future__ import annotations

import numpy as np
import pytest

from structnet.errors import UserError
from structnet.measure.connectivity import (
    centre_error,
    centre_ratio,
    check_images,
    degrees,
    heat_map,
    ring_ratio,
    trend_curve,
)
from structnet.network.random_topology import erdos_renyi
from structnet.network.topology import Topology


def test_degrees_count_the_connections_of_every_source() -> None:
    topology = Topology.sorted((3, 2, 2), np.array([0, 0, 2, 3, 4]), np.array([3, 4, 4, 5, 6]))[0]
    assert degrees(topology).tolist() == [2, 0, 1]
    assert degrees(topology, (1, 2)).tolist() == [1, 1]
    assert degrees(topology, (0, 2)).tolist() == [0, 0, 0]


def test_channels_of_a_pixel_are_summed() -> None:
    assert heat_map(np.arange(8), (2, 2, 2)).tolist() == [[4, 6], [8, 10]]
    with pytest.raises(UserError, match="shape 8, but what is learned is measured where pixels lie"):
        check_images((8,))


def test_squares_around_the_centre_by_hand() -> None:
    heat = np.ones((6, 6))
    heat[2:4, 2:4] = 10  # 4 pixels in the middle
    heat[1, 1] = 13  # in the square of 4 a side
    assert trend_curve(heat) == pytest.approx([10, (4 * 10 + 13 + 11) / 16, (4 * 10 + 13 + 31) / 36])
    mean = (4 * 10 + 13 + 31) / 36
    assert centre_ratio(heat) == pytest.approx((4 * 10 + 13 + 11) / 16 / mean)
    assert ring_ratio(heat) == pytest.approx(1 / mean)  # so small an image has a ring of one pixel


def test_the_regions_are_those_of_the_studies() -> None:
    """Of 28×28 pixels the central 14×14, and the outer three."""
    heat = np.ones((28, 28))
    heat[7:21, 7:21] = 2
    assert len(trend_curve(heat)) == 14
    assert trend_curve(heat)[6] == 2 > trend_curve(heat)[7]
    assert centre_ratio(heat) == pytest.approx(2 / 1.25)
    outer = np.zeros((28, 28))
    outer[2:26, 2:26] = 1  # of the outer three rings the third alone, 24 pixels a side
    outer[3:25, 3:25] = 0
    assert ring_ratio(outer) == pytest.approx((4 * 23 / (28**2 - 22**2)) / (4 * 23 / 28**2))


def test_the_error_is_the_spread_of_what_learned_nothing() -> None:
    shape, found = (1, 28, 28), []
    for rng_seed in range(300):
        topology = erdos_renyi((784, 64, 10), 11, np.random.default_rng(rng_seed), dense_output=True)
        found.append(centre_ratio(heat_map(degrees(topology), shape)))
    assert np.mean(found) == pytest.approx(1, abs=0.004)
    assert centre_error(topology, shape) == pytest.approx(np.std(found), rel=0.12)


def test_the_error_of_the_study() -> None:
    topology = erdos_renyi((784, 512, 128, 10), 11, np.random.default_rng(0), dense_output=True)
    assert centre_error(topology, (1, 28, 28)) == pytest.approx(0.0142, abs=1e-4)
