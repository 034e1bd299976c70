"""Links of which every tap exists: runs, and places, that go together, and come to what each does alone."""

from __future__ import annotations

import numpy as np
import torch
from helpers.map_networks import random_architecture, random_map_network
from helpers.map_reference import by_statistics, logits_of
from hypothesis import given
from hypothesis import strategies as st

from structnet import StructNet
from structnet.compiled.sheets import ALIKE_AT, PLACE, PLACE_STOP, RUN, RUN_STOP
from structnet.compiled.tap_sums import TOGETHER
from structnet.network.architecture import Architecture, sizes_of
from structnet.network.edit import disconnect
from structnet.network.propagation import flatten
from structnet.network.tap_propagation import TapPass

seeds = st.integers(0, 2**32 - 1)


def full_network(rng: np.random.Generator, shape: Architecture | None = None) -> StructNet:
    """Of float64, with maps enough to go together, all taps of neighbours and of some skips."""
    if shape is None:
        small = random_architecture(rng, (int(rng.integers(2, 6)), int(rng.integers(2, 6))))
        units = [small[0], *(int(size) + int(rng.integers(3, 8)) for size in small[1:])]
        shape = Architecture(units, small.sides, small.window, small.flat)
    return random_map_network(rng, shape, share=1.0, dtype=torch.float64)


def images_of(network: StructNet, images: int, rng: np.random.Generator) -> torch.Tensor:
    shape = network.topology.architecture
    return torch.from_numpy(rng.standard_normal((images, shape[0], *shape.sides[0])))


@given(seeds, st.sampled_from([1, 3, 8, 9, 16, 33]))
def test_full_links_are_convolutions(rng_seed: int, images: int) -> None:
    """Logits and derivatives, of numbers of images that fill vectors and of others."""
    rng = np.random.default_rng(rng_seed)
    network = full_network(rng)
    seen = images_of(network, images, rng)
    mine, own = seen.clone().requires_grad_(), seen.clone().requires_grad_()
    values = network.values.detach().clone().requires_grad_()
    found = network(mine)
    expected = logits_of(network.topology, network.activation, values, own, by_statistics(network))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    weight = torch.from_numpy(rng.standard_normal(tuple(found.shape)))
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(network.values.grad, values.grad, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(mine.grad, own.grad, rtol=1e-10, atol=1e-10)


def test_which_runs_and_places_are_alike() -> None:
    """Nine maps: two fours and a rest; without the first tap of the third map it is alone, and two are before it."""
    network = full_network(np.random.default_rng(0), sizes_of("2@3,3x3,9@3,2"))
    first = network.topology.sheets.groups[1]
    assert network.topology.sheets.alike[first[RUN] : first[RUN_STOP]].tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    places = network.topology.sheets.places[first[PLACE] : first[PLACE_STOP], ALIKE_AT]
    assert places.tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    fewer = disconnect(network, np.array([18 * 2])).network.topology.sheets
    assert fewer.alike[first[RUN] : first[RUN_STOP]].tolist() == [2, 1, 1, 6, 5, 4, 3, 2, 1]


def test_runs_that_go_on_do_not_go_with_runs_that_begin() -> None:
    """A skip ends in three of six maps: the link that comes after it goes on with these, and begins the others."""
    rng = np.random.default_rng(4)
    whole = full_network(rng, sizes_of("1@3,3x3,4@3,4@3,6@3,2"))
    skip = whole.topology.links[(1, 3)]
    network = disconnect(whole, np.arange(skip.start + 3 * 36, skip.stop)).network
    group = network.topology.sheets.groups[3]
    assert network.topology.sheets.alike[group[RUN] : group[RUN_STOP]].tolist() == [3, 2, 1, 3, 2, 1, 3, 2, 1]
    seen = images_of(network, 5, rng)
    expected = logits_of(
        network.topology, network.activation, network.values.detach(), seen, by_statistics(network)
    )
    torch.testing.assert_close(network(seen).detach(), expected, rtol=1e-10, atol=1e-10)


@given(seeds)
def test_sums_are_the_same_to_the_bit_together_and_alone(rng_seed: int) -> None:
    """A map that loses a tap goes alone, and so do those before it: all others come to what they were."""
    rng = np.random.default_rng(rng_seed)
    network = full_network(rng, sizes_of("2@5,3x3,4@5,3"))
    shape = network.topology.architecture
    inputs = flatten(images_of(network, 7, rng), torch.float64)
    less = disconnect(network, np.array([18 * 3])).network
    before, after = (TapPass(each, each.values.detach(), inputs).activations[1] for each in (network, less))
    assert shape[1] == TOGETHER
    assert torch.equal(before[:3], after[:3]) and not torch.equal(before[3], after[3])


def test_where_no_tap_is_left_nothing_is_alike() -> None:
    network = full_network(np.random.default_rng(0), sizes_of("1@3,3x3,2"))
    empty = disconnect(network, np.arange(network.topology.connections)).network.topology.sheets
    assert empty.alike.shape == (0,) and empty.alike.dtype == empty.places.dtype == np.int64
