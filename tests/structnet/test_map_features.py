"""What a probe sees of feature maps: the means that the output reads, or every position of flat ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.map_networks import random_images, random_map_network
from hypothesis import given
from hypothesis import strategies as st

from structnet.network.architecture import Architecture
from structnet.network.propagation import flatten, propagate
from structnet.training.evaluation import features_of


@pytest.mark.parametrize("flat", [False, True])
def test_features_of_the_last_maps(flat: bool) -> None:
    shape = Architecture([1, 3, 4, 2], [(5, 4), (5, 4), (3, 2), (1, 1)], flat=[2] if flat else [])
    rng = np.random.default_rng(2)
    network = random_map_network(rng, shape, share=1.0, normalised=True)
    split = random_images(rng, shape, 30)
    found = features_of(network, split, block=7)
    groups = sorted(pair[0] for pair in network.topology.links if pair[1] == 3 and pair[0] > 0)
    activations = propagate(network, network.values.detach(), flatten(split.images, torch.float32))
    expected = []
    for group in groups:
        maps = activations[group].view(shape[group], -1, 30)
        expected.append(maps.reshape(-1, 30) if flat and group == 2 else maps.mean(dim=1))
    assert found is not None
    assert found.shape == (30, sum(len(part) for part in expected))
    assert found == pytest.approx(torch.cat(expected).t().numpy(), abs=1e-6)


@given(st.integers(0, 10**6))
def test_any_network_has_a_feature_vector_for_every_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = random_map_network(rng)
    split = random_images(rng, network.topology.architecture, 24)
    found = features_of(network, split)
    if found is not None:
        assert len(found) == 24 and np.isfinite(found).all()
