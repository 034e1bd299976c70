"""Remapping of feature maps: the same logits in plain PyTorch, and back again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.image_modules import assert_equal, classified
from helpers.map_networks import random_architecture, random_map_network
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from structnet import StructNet
from structnet.errors import UserError
from structnet.network.architecture import sizes_of
from structnet.network.remap import from_sequential, to_sequential
from structnet.network.topology import Topology

torch.set_num_threads(1)


@given(rng_seed=st.integers(0, 999))
def test_there_and_back(rng_seed: int) -> None:
    """Networks without skips, of any sides and windows, normalised or not."""
    network = chain(rng_seed)
    module, shape = to_sequential(network).eval(), network.topology.architecture
    size = (shape[0], *shape.sides[0])
    assert_equal(module, network, *size)
    back = from_sequential(module, example_shape=size)
    assert_equal(module, back, *size)
    if has_maps_only(network) and not reads_positions(network) and shape.window > 1:
        assert back.topology.architecture.sides == shape.sides
        np.testing.assert_array_equal(back.topology.target, network.topology.target)
        assert torch.equal(back.values, network.values)
        assert (back.statistics is None) == (network.statistics is None)
        if back.statistics is not None and network.statistics is not None:
            maps = network.topology.bias_count - shape[-1]  # neurons are not normalised
            assert torch.equal(back.statistics[:, :maps], network.statistics[:, :maps])


def chain(rng_seed: int) -> StructNet:
    rng = np.random.default_rng(rng_seed)
    network = random_map_network(rng, random_architecture(rng), dtype=torch.float64)
    topology, values = network.topology, network.values.detach()
    kept = np.flatnonzero(topology.group_of(topology.target) - topology.group_of(topology.source_unit) == 1)
    chained = Topology(topology.architecture, topology.source[kept], topology.target[kept])
    return network.like(
        chained, torch.cat([values[kept], values[topology.connections :]]), network.statistics
    )


def has_maps_only(network: StructNet) -> bool:
    shape = network.topology.architecture
    return not any(shape.is_plain(group) for group in range(1, len(shape) - 1))


def reads_positions(network: StructNet) -> bool:
    topology = network.topology
    return bool((topology.code_of_port(topology.source) > topology.architecture.window**2).any())


def test_sequentials_of_maps_have_the_layers_of_others() -> None:
    network = random_map_network(np.random.default_rng(0), sizes_of("1@8,2@8,3@4,2"), normalised=True)
    topology = network.topology
    skips = topology.group_of(topology.target) - topology.group_of(topology.source_unit) > 1
    if skips.any():
        with pytest.raises(UserError, match="the network has skip links"):
            to_sequential(network)
    network = chain(3)
    names = {type(part).__name__ for part in to_sequential(network)}
    assert names <= {"Conv2d", "ZeroPad2d", "BatchNorm2d", "ReLU", "AdaptiveAvgPool2d", "Flatten", "Linear"}
    assert "Conv2d" in names


def test_masks_and_other_activations_are_refused_for_images() -> None:
    module = classified(nn.Conv2d(1, 2, 3), nn.Tanh())
    with pytest.raises(UserError, match="mask is given, but the module takes images"):
        from_sequential(module, mask={"0.weight": torch.ones(2, 1, 3, 3)}, example_shape=(1, 8, 8))
    with pytest.raises(UserError, match="activation is 'relu', but that of the module is tanh"):
        from_sequential(module, example_shape=(1, 8, 8))
    assert from_sequential(module, "tanh", example_shape=(1, 8, 8)).activation == "tanh"
