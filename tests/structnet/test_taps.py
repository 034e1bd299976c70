"""Compiled taps: what they compute, by hand on small maps and against dense convolutions on networks of all shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.map_networks import random_map_network
from helpers.map_reference import (
    ACTIVATIONS,
    activations_of,
    by_images,
    by_statistics,
    logits_of,
    map_network,
)
from hypothesis import given
from hypothesis import strategies as st

from structnet import StructNet
from structnet.network.architecture import Architecture, sizes_of
from structnet.network.propagation import Propagation, flatten, propagate
from structnet.network.tap_propagation import TapPass

seeds = st.integers(0, 2**32 - 1)
images_given = st.integers(1, 9)
every_kernel = pytest.mark.parametrize("kernel", ["auto", "masked_dense"])


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def images_of(network: StructNet, images: int, rng: np.random.Generator) -> torch.Tensor:
    shape = network.topology.architecture
    return torch.from_numpy(rng.standard_normal((images, shape[0], *shape.sides[0])))


def as_images(network: StructNet, group: int, rows: torch.Tensor) -> torch.Tensor:
    """(units, positions · images) as (images, units, height, width)."""
    return rows.view(len(rows), *network.topology.architecture.sides[group], -1).permute(3, 0, 1, 2)


# --- by hand


def maps_behind(network: StructNet, group: int, *images: list[list[float]]) -> list[list[float]]:
    """The only map of a group, of an input of these maps."""
    inputs = flatten(torch.tensor([images], dtype=torch.float64), torch.float64)
    rows = propagate(network, network.values.detach(), inputs)[group]
    return as_images(network, group, rows)[0, 0].tolist()


NINE = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]
# What a tap of each offset sees of it: above left first.
SEEN = [
    [[0, 0, 0], [0, 1, 2], [0, 4, 5]],
    [[0, 0, 0], [1, 2, 3], [4, 5, 6]],
    [[0, 0, 0], [2, 3, 0], [5, 6, 0]],
    [[0, 1, 2], [0, 4, 5], [0, 7, 8]],
    [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
    [[2, 3, 0], [5, 6, 0], [8, 9, 0]],
    [[0, 4, 5], [0, 7, 8], [0, 0, 0]],
    [[4, 5, 6], [7, 8, 9], [0, 0, 0]],
    [[5, 6, 0], [8, 9, 0], [0, 0, 0]],
]


@every_kernel
@pytest.mark.parametrize("code", range(9))
def test_one_tap_moves_a_map(code: int, kernel: str) -> None:
    network = map_network(sizes_of("1@3,3x3,1@3,1"), [(0, code, 1, 2.0)], [0.5, 0.0], kernel)
    expected = [[2 * seen + 0.5 for seen in row] for row in SEEN[code]]
    assert maps_behind(network, 1, NINE) == expected


@every_kernel
def test_taps_of_a_map_add_up_and_negative_sums_are_cut(kernel: str) -> None:
    """Of two inputs, five taps together, so that more than four take another way."""
    taps = [(0, 1, 2, 1.0), (0, 7, 2, 1.0), (0, 4, 2, -2.0), (1, 3, 2, 1.0), (1, 5, 2, -1.0)]
    network = map_network(sizes_of("2@3,3x3,1@3,1"), taps, [-10.0, 0.0], kernel)
    steps = [[0.0, 10.0, 30.0], [0.0, 10.0, 30.0], [0.0, 10.0, 30.0]]
    # Above + below - 2 · centre of the first, left - right of the second, - 10.
    first = [[4 - 2, 5 - 4, 6 - 6], [0, 0, 0], [4 - 14, 5 - 16, 6 - 18]]
    second = [[-10, -30, 10]] * 3
    expected = [[max(0.0, a + b - 10) for a, b in zip(*rows)] for rows in zip(first, second)]
    assert maps_behind(network, 1, NINE, steps) == expected


SIXTEEN = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [9.0, 10.0, 11.0, 12.0], [13.0, 14.0, 15.0, 16.0]]


@every_kernel
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, [[0, 0], [0, 6]]),
        (1, [[0, 0], [5, 7]]),
        (2, [[0, 0], [6, 8]]),
        (3, [[0, 2], [0, 10]]),
        (4, [[1, 3], [9, 11]]),
        (5, [[2, 4], [10, 12]]),
        (8, [[6, 8], [14, 16]]),
    ],
)
def test_a_smaller_map_is_read_with_a_stride(code: int, expected: list[list[float]], kernel: str) -> None:
    network = map_network(sizes_of("1@4,3x3,1@2,1"), [(0, code, 1, 1.0)], [0.0, 0.0], kernel)
    assert maps_behind(network, 1, SIXTEEN) == expected


@every_kernel
def test_a_stride_that_is_wider_than_the_window_leaves_positions_out(kernel: str) -> None:
    """Nine positions, three windows of one: in the middle of thirds."""
    shape = Architecture((1, 1, 1), ((1, 9), (1, 3), (1, 1)), window=1)
    network = map_network(shape, [(0, 0, 1, 1.0)], [0.0, 0.0], kernel)
    assert maps_behind(network, 1, [[1.0, 2, 3, 4, 5, 6, 7, 8, 9]]) == [[2, 5, 8]]


@every_kernel
def test_a_single_row_is_seen_from_its_middle(kernel: str) -> None:
    """Of five rows the third: the window ends before the first and the last."""
    shape = Architecture((1, 1, 1), ((5, 2), (1, 2), (1, 1)), window=3)
    taps = [(0, code, 1, value) for code, value in ((1, 100.0), (4, 10.0), (7, 1.0))]
    network = map_network(shape, taps, [0.0, 0.0], kernel)
    assert maps_behind(network, 1, [[1.0, 2], [3, 4], [5, 6], [7, 8], [9, 1]]) == [[357, 468]]


@every_kernel
@pytest.mark.parametrize(("code", "expected"), [(24, [[0, 0], [0, 0]]), (6, [[0, 0], [0, 1]])])
def test_a_window_wider_than_the_map_reads_zeros(code: int, expected: list[list[float]], kernel: str) -> None:
    shape = Architecture((1, 1, 1), ((2, 2), (2, 2), (1, 1)), window=5)
    network = map_network(shape, [(0, code, 1, 1.0)], [0.0, 0.0], kernel)
    assert maps_behind(network, 1, [[1.0, 2], [3, 4]]) == expected


@every_kernel
def test_a_neuron_reads_means_and_positions(kernel: str) -> None:
    """Code 9 is the mean, and where maps are flat 10 + 3 is the first of the second row."""
    flat = Architecture((1, 2, 1), ((3, 3), (1, 1), (1, 1)), window=3, flat=[0])
    taps = [(0, 9, 1, 1.0), (0, 13, 2, 1.0), (1, 0, 3, 100.0), (2, 0, 3, 1.0)]
    network = map_network(flat, taps, [0.0, 0.0, 0.25], kernel)
    assert network(torch.tensor([[NINE]], dtype=torch.float64)).tolist() == [[504.25]]


@every_kernel
def test_a_skip_reaches_over_a_stride(kernel: str) -> None:
    """The last map takes the second at its centre, and the input with a stride of 2, one to the right."""
    taps = [(0, 4, 1, 1.0), (1, 4, 2, 10.0), (0, 5, 2, 1.0)]
    network = map_network(sizes_of("1@4,3x3,1@4,1@2,1"), taps, [0.0, 0.0, 0.0], kernel)
    assert maps_behind(network, 2, SIXTEEN) == [[12, 34], [100, 122]]


@every_kernel
def test_a_map_without_connections_is_its_bias_everywhere(kernel: str) -> None:
    """Seen by a map: at the border of what is constant inside it ends."""
    network = map_network(sizes_of("1@3,3x3,1@3,1@3,1"), [(1, 0, 2, 1.0)], [2.0, 0.0, 0.0], kernel)
    assert maps_behind(network, 1, NINE) == [[2, 2, 2]] * 3
    assert maps_behind(network, 2, NINE) == [[0, 0, 0], [0, 2, 2], [0, 2, 2]]


# --- against dense convolutions


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@given(seeds, images_given)
def test_a_network_in_use_is_a_convolution(activation: str, rng_seed: int, images: int) -> None:
    """Logits, and derivatives by values and inputs through autograd, normalised by what it holds or not at all."""
    rng = np.random.default_rng(rng_seed)
    network = random_map_network(rng, activation=activation, dtype=torch.float64)
    assert network.is_compiled
    seen = images_of(network, images, rng)
    mine, own = seen.clone().requires_grad_(), seen.clone().requires_grad_()
    values = network.values.detach().clone().requires_grad_()
    found = network(mine)
    expected = logits_of(network.topology, activation, values, own, by_statistics(network))
    assert_close(found, expected)
    weight = torch.from_numpy(rng.standard_normal(tuple(found.shape)))
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    assert network.values.grad is not None and values.grad is not None and mine.grad is not None
    assert_close(network.values.grad, values.grad)
    assert_close(mine.grad, torch.zeros_like(own) if own.grad is None else own.grad)


@given(seeds, images_given)
def test_activations_and_errors_of_every_group_are_those_of_a_convolution(rng_seed: int, images: int) -> None:
    """As in training, normalised by the images."""
    rng = np.random.default_rng(rng_seed)
    network = random_map_network(rng, normalised=True, activation="tanh", dtype=torch.float64)
    seen, topology = images_of(network, images, rng), network.topology
    values, befores, statistics = network.values.detach().clone().requires_grad_(), {}, {}
    usual = by_images(statistics)

    def normalise(group: int, maps: torch.Tensor) -> torch.Tensor:
        maps.retain_grad()
        befores[group] = maps
        return usual(group, maps)

    expected = activations_of(topology, "tanh", values, seen.requires_grad_(), normalise)
    inputs = flatten(seen.detach(), torch.float64)
    mine = TapPass(network, network.values.detach(), inputs, by_batch=True)
    for group, rows in enumerate(mine.activations):
        assert_close(as_images(network, group, rows), expected[group].detach())
    weight = torch.from_numpy(rng.standard_normal((len(mine.activations[-1]), images)))
    (expected[-1].flatten(1).t() * weight).sum().backward()
    gradient, errors = mine.backward(weight, input_error=True)
    assert values.grad is not None
    assert_close(gradient, values.grad)
    for group, maps in befores.items():
        assert maps.grad is not None
        assert_close(as_images(network, group, errors[group]), maps.grad)
        units = topology.units_of(group)
        here = mine.statistics[
            :, units.start - topology.architecture[0] : units.stop - topology.architecture[0]
        ]
        assert_close(torch.from_numpy(here), statistics[group])
    expected_input = torch.zeros_like(seen) if seen.grad is None else seen.grad
    assert_close(as_images(network, 0, errors[0]), expected_input)


@given(seeds)
def test_errors_of_the_inputs_are_left_out_where_nobody_asks(rng_seed: int) -> None:
    rng = np.random.default_rng(rng_seed)
    network = random_map_network(rng, dtype=torch.float64)
    inputs = flatten(images_of(network, 3, rng), torch.float64)
    mine = TapPass(network, network.values.detach(), inputs)
    weight = torch.from_numpy(rng.standard_normal((len(mine.activations[-1]), 3)))
    asked, quiet = mine.backward(weight, input_error=True), mine.backward(weight)
    assert_close(quiet[0], asked[0], 1e-12)
    assert not quiet[1][0].any()
    for one, other in zip(quiet[1][1:], asked[1][1:]):
        assert torch.equal(one, other)


@pytest.mark.parametrize("text", ["1@4,2@4,2@2,2", "2@5x3,2@3x2,flat,3,2"])
def test_autograd_has_the_derivatives_that_differences_have(text: str) -> None:
    rng = np.random.default_rng(0)
    network = random_map_network(
        rng, sizes_of(text), normalised=True, share=0.5, activation="tanh", dtype=torch.float64
    )
    images = images_of(network, 2, rng).requires_grad_()

    def logits(values: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = Propagation.apply(values, flatten(seen, torch.float64), network)
        return found

    assert torch.autograd.gradcheck(logits, (network.values, images), atol=1e-7)


def test_a_small_number_type_is_near_a_large_one() -> None:
    rng = np.random.default_rng(3)
    network = random_map_network(rng, sizes_of("2@9,4@9,5@4,3"), normalised=True, share=0.5)
    images = images_of(network, 7, rng)
    logits = network(images.float())
    network.to(torch.float64)
    assert_close(logits.double(), network(images), 1e-5)
