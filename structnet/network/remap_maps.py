"""A network of feature maps as an `nn.Sequential`: Conv2d, BatchNorm2d where it normalises, and Linear behind maps."""

from __future__ import annotations

import torch
from torch import nn

from structnet.network.network import StructNet
from structnet.network.padding import padding_of


def maps_to_sequential(network: StructNet, activation: type[nn.Module]) -> nn.Sequential:
    """Of a network without skip links; takes (batch, channels, height, width)."""
    shape = network.topology.architecture
    modules: list[nn.Module] = []
    for group in range(1, len(shape)):
        layers = _linear(network, group) if shape.is_plain(group) else _convolution(network, group)
        modules += [*layers, activation()]
    return nn.Sequential(*modules[:-1])


def _convolution(network: StructNet, group: int) -> list[nn.Module]:
    shape, values, pair = network.topology.architecture, network.values, (group - 1, group)
    padding, stride, is_normalised = (
        padding_of(shape, pair),
        shape.geometry(pair).stride,
        network.statistics is not None,
    )
    layer = nn.Conv2d(
        shape[group - 1],
        shape[group],
        shape.window,
        stride,
        padding.own or 0,
        bias=not is_normalised,
        device=values.device,
        dtype=values.dtype,
    )
    above, beside = padding.margins
    found: list[nn.Module] = [layer] if padding.own is not None else [nn.ZeroPad2d((*beside, *above)), layer]
    with torch.no_grad():
        layer.weight.copy_(_dense(network, pair).view_as(layer.weight))
        if layer.bias is not None:
            layer.bias.copy_(_biases(network, group))
    return [*found, _norm(network, group)] if is_normalised else found


def _norm(network: StructNet, group: int) -> nn.BatchNorm2d:
    """What normalises the maps of a group, in evaluation."""
    topology, statistics, biases = network.topology, network.statistics, _biases(network, group)
    norm = nn.BatchNorm2d(len(biases), device=biases.device, dtype=biases.dtype).eval()
    assert statistics is not None and norm.running_mean is not None and norm.running_var is not None
    units = topology.units_of(group)
    own = slice(units.start - topology.architecture[0], units.stop - topology.architecture[0])
    with torch.no_grad():
        norm.bias.copy_(biases)
        norm.running_mean.copy_(statistics[0, own])
        norm.running_var.copy_(statistics[1, own])
    return norm


def _linear(network: StructNet, group: int) -> list[nn.Module]:
    """Behind maps of which only means are read, these; else their positions, each with its share of the mean."""
    shape, source, found = network.topology.architecture, group - 1, list[nn.Module]()
    weight = _dense(network, (source, group))
    if not shape.is_plain(source):
        ports = weight.view(shape[group], shape[source], -1)
        means, positions = ports[:, :, :1], ports[:, :, 1:]
        if positions.count_nonzero():
            weight = (positions + means / shape.area(source)).flatten(1)
        else:
            weight, found = means[:, :, 0], [nn.AdaptiveAvgPool2d(1)]
        found.append(nn.Flatten())
    layer = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(_biases(network, group))
    return [*found, layer]


def _biases(network: StructNet, group: int) -> torch.Tensor:
    return network.values.detach()[network.topology.bias_spans[group]]


def _dense(network: StructNet, pair: tuple[int, int]) -> torch.Tensor:
    """(units out, ports), with 0 where nothing is connected."""
    topology, values = network.topology, network.values.detach()
    n_in, n_out = topology.shape_of(pair)
    dense = values.new_zeros(n_out * n_in)
    dense[torch.from_numpy(topology.cells(pair)).to(values.device)] = values[topology.span_of(pair)]
    return dense.view(n_out, n_in)
