"""The pyramid of maps that pictures are learned by where nobody says another architecture."""

from __future__ import annotations

import pytest

from structnet.network.architecture import parameters_dense, sizes_of
from structnet.network.pyramid import dense_architecture, has_pyramid, pyramid


@pytest.mark.parametrize(
    ("image", "parameters", "expected"),
    [
        ((1, 28, 28), None, "1@28,6@28,8@14,10@14,14@7,18@7,10"),
        ((28, 28), 1000, "1@28,6@28,8@14,10@14,14@7,18@7,10"),
        ((3, 32, 32), 4000, "3@32,12@32,16@16,20@16,28@8,36@8,10"),
        ((1, 28, 28), 250, "1@28,3@28,4@14,5@14,7@7,9@7,10"),
        ((1, 28, 28), 1, "1@28,2@28,2@14,2@14,2@7,2@7,10"),
        ((3, 224, 224), 1000, "3@224,6@28,8@14,10@14,14@7,18@7,10"),
        ((3, 40, 17), 1000, "3@40x17,6@20x9,8@10x5,10@10x5,14@5x3,18@5x3,10"),
    ],
)
def test_pyramids_halve_from_what_fits(image: tuple[int, ...], parameters: int | None, expected: str) -> None:
    assert pyramid(image, 10, parameters) == sizes_of(expected)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((64,), False), ((1, 8, 8), False), ((16, 16), True), ((3, 15, 40), False), ((3, 32, 32), True)],
)
def test_pictures_of_enough_pixels_have_one(shape: tuple[int, ...], expected: bool) -> None:
    assert has_pyramid(shape) == expected


@pytest.mark.parametrize(
    ("parameters", "expected", "own"),
    [
        # 9 · (a + ab + bc + cd) taps, 10 d connections and a bias each.
        (1000, "1@28,3x3,5@28,4@14,6@14,8@7,10", 9 * (5 + 20 + 24 + 48) + 80 + 33),
        (10, "1@28,3x3,1@28,1@14,1@14,1@7,10", 9 * 4 + 10 + 14),
    ],
)
def test_a_dense_network_of_maps_has_four_convolutions(parameters: int, expected: str, own: int) -> None:
    """Whatever the groups of the architecture; and one map more would be too many."""
    shape = dense_architecture(sizes_of("1@28,3@28,7@7,5,10"), parameters)
    assert shape == sizes_of(expected)
    assert parameters_dense(shape) == own
