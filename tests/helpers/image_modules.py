"""Torch modules that compute with images, for tests of what becomes of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from structnet import StructNet
from structnet.network.from_module import Taken, take_over

FLAT = (nn.AdaptiveAvgPool2d(1), nn.Flatten())


def norm(channels: int, *, weight: float | None = None) -> nn.BatchNorm2d:
    """As training leaves it behind; weight: of the first channel."""
    made = nn.BatchNorm2d(channels)
    with torch.no_grad():
        for tensor in (made.running_mean, made.bias):
            assert tensor is not None
            tensor.normal_()
        assert made.running_var is not None
        made.running_var.uniform_(0.3, 3)
        made.weight.uniform_(0.3, 2)
        if weight is not None:
            made.weight[0] = weight
    return made


def taken(module: nn.Module, *shape: int) -> Taken:
    """What a module of float64 becomes; its logits are those of the network to 1e-10."""
    torch.manual_seed(0)
    module = module.double().eval()
    found = take_over(module, shape)
    assert_equal(module, found.network, *shape)
    return found


def assert_equal(module: nn.Module, network: StructNet, *shape: int) -> None:
    images = torch.randn(20, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected, found = module(images), network(images)
    assert float((expected - found).abs().max()) <= 1e-10 * (1 + float(expected.abs().max()))


def conv(weight: Any, **options: Any) -> nn.Conv2d:
    """weight: (out, in, height, width)."""
    tensor = torch.tensor(weight, dtype=torch.float64)
    outputs, inputs, *size = tensor.shape
    inputs *= options.get("groups", 1)
    layer = nn.Conv2d(inputs, outputs, size, bias=False, dtype=torch.float64, **options)
    with torch.no_grad():
        layer.weight.copy_(tensor)
    return layer


def taps(network: StructNet) -> dict[tuple[int, int, int], float]:
    """(source unit, code of its port, target unit) -> value."""
    topology = network.topology
    ends = zip(topology.source_unit, topology.code_of_port(topology.source), topology.target)
    return {
        (int(unit), int(code), int(target)): value
        for (unit, code, target), value in zip(ends, network.values.tolist())
    }


def last_layer(channels: int) -> tuple[nn.Module, ...]:
    layer = nn.Linear(channels, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(1.0, channels + 1))
    return (*FLAT, layer)


def classified(*layers: nn.Module, channels: int = 2) -> nn.Module:
    return nn.Sequential(*layers, *FLAT, nn.Linear(channels, 3))
