"""To and from plain PyTorch: an `nn.Sequential` of Linear layers, and Conv2d ones of maps, that computes the same.

Only a network without skip links has such a form. It is dense, and anything that knows PyTorch can load it;
on the way back the weights that are not zero become the connections. A module whose layers do not just follow each
other, or that has images, comes back by structnet.network.from_module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from structnet.errors import UserError
from structnet.network.activations import activation_named
from structnet.network.architecture import check_architecture
from structnet.network.from_module import from_module
from structnet.network.network import StructNet
from structnet.network.remap_maps import maps_to_sequential
from structnet.network.topology import Topology

MODULES: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
OF_IMAGES = (nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d)


def to_sequential(network: StructNet) -> nn.Sequential:
    """Flatten, Linear, activation, Linear, …: the same logits, with weights of 0 where nothing is connected.

    Of feature maps Conv2d, BatchNorm2d where they are normalised, activation, …, which take (batch, channels, height,
    width), and behind them AdaptiveAvgPool2d(1) or Flatten, and Linear; in evaluation it computes the same.

    Keeps device and type, shares no memory with the network. Raises UserError if it has skip links, or an activation
    that is no module of torch.
    """
    if network.activation not in MODULES:
        raise UserError(
            f"activation is '{network.activation}', but torch has no module for it: keep the snapshot, or train a "
            "network of relu, tanh or sigmoid"
        )
    skips = [pair for pair in network.topology.links if pair[1] != pair[0] + 1]
    if skips:
        shown = ", ".join(f"{source}→{target}" for source, target in skips)
        raise UserError(
            f"the network has skip links ({shown}), but an nn.Sequential joins neighbouring groups only: "
            "`structnet export --to torch` writes a module that has them"
        )
    if network.topology.architecture.has_maps:
        return maps_to_sequential(network, MODULES[network.activation])
    values = network.values.detach()
    sizes = network.architecture
    modules: list[nn.Module] = [nn.Flatten()]
    for group in range(1, len(sizes)):
        layer = nn.utils.skip_init(  # type: ignore[no-untyped-call]  # torch has no types for it
            nn.Linear, sizes[group - 1], sizes[group], device=values.device, dtype=values.dtype
        )
        link = network.links.get((group - 1, group))
        with torch.no_grad():
            if link is None:
                layer.weight.zero_()
            else:
                layer.weight.copy_(link.dense(values[link.span]))
            layer.bias.copy_(values[network.topology.bias_spans[group]])
        modules += [layer, MODULES[network.activation]()]
    return nn.Sequential(*modules[:-1])


def from_sequential(
    module_or_state_dict: nn.Module | Mapping[str, torch.Tensor],
    activation: str = "relu",
    mask: Mapping[str, torch.Tensor] | None = None,
    *,
    example_shape: Sequence[int] | None = None,
) -> StructNet:
    """The StructNet of these Linear layers: its connections are the weights that are not zero.

    Keys end in `weight`, (out, in), and `bias`, (out,); any prefix will do, such as `0.` or `model.fc1.`.
    Layers come in the order of the keys, or of their numbers if the keys differ in numbers only. A layer
    without bias gets biases of 0. mask: key of a weight -> boolean (out, in): which connections exist,
    whatever their weight; weights outside are dropped. A module with layers of images is followed by
    structnet.network.from_module, which needs the example_shape, (channels, height, width), and no mask. Raises
    UserError for other layers, another activation, or shapes that do not chain.
    """
    activation_named(activation)
    if activation not in MODULES:
        raise UserError(f"activation is '{activation}', but must be that of a module: relu, tanh or sigmoid")
    if isinstance(module_or_state_dict, nn.Module):
        if any(isinstance(part, OF_IMAGES) for part in module_or_state_dict.modules()):
            return _with_maps(module_or_state_dict, activation, mask, example_shape)
        _check_modules(module_or_state_dict, activation)
        module_or_state_dict = module_or_state_dict.state_dict()
    layers = _layers(module_or_state_dict)
    _check_chain(layers)
    exists = _existing(layers, mask or {})
    architecture = check_architecture([layers[0].weight.shape[1], *(len(layer.weight) for layer in layers)])
    offsets = np.concatenate([[0], np.cumsum(architecture)])
    cells = [torch.nonzero(here).cpu().numpy() for here in exists]
    # nonzero goes row by row, which is the order of a topology already.
    topology, _ = Topology.sorted(
        architecture,
        np.concatenate([offsets[index] + cell[:, 1] for index, cell in enumerate(cells)]),
        np.concatenate([offsets[index + 1] + cell[:, 0] for index, cell in enumerate(cells)]),
    )
    connections = torch.cat([layer.weight[here] for layer, here in zip(layers, exists)])
    values = torch.cat([connections, *(layer.bias for layer in layers)])
    return StructNet.from_parts(topology, values, activation=activation)


def _with_maps(
    module: nn.Module,
    activation: str,
    mask: Mapping[str, torch.Tensor] | None,
    example_shape: Sequence[int] | None,
) -> StructNet:
    if mask:
        raise UserError("mask is given, but the module takes images: set weights to 0 that are to be no taps")
    network = from_module(module, example_shape=example_shape)
    if network.activation != activation and network.topology.groups > 2:
        raise UserError(
            f"activation is '{activation}', but that of the module is {network.activation}: pass activation="
            f"'{network.activation}'"
        )
    return network


@dataclass(frozen=True)
class _Layer:
    """key: of the weight. weight: (out, in). bias: (out,)."""

    key: str
    weight: torch.Tensor
    bias: torch.Tensor


def _layers(state: Mapping[str, torch.Tensor]) -> list[_Layer]:
    layers = []
    for key in _in_order([key for key in state if key.split(".")[-1] == "weight"]):
        weight = state[key].detach()
        if weight.ndim != 2 or not weight.is_floating_point():
            raise UserError(
                f"'{key}' has shape {tuple(weight.shape)} and type {weight.dtype}, but must be the (out, in) "
                "weight of a Linear layer: leave other layers out"
            )
        bias = state.get(key.removesuffix("weight") + "bias", weight.new_zeros(len(weight))).detach()
        if bias.shape != weight.shape[:1]:
            raise UserError(
                f"the bias beside '{key}' has shape {tuple(bias.shape)}, but must be ({len(weight)},): "
                "one number for each row of the weight"
            )
        layers.append(_Layer(key, weight, bias))
    if not layers:
        raise UserError(
            f"the state dict has the keys {_shown(state)}, but none ends in 'weight': "
            "pass the state dict of Linear layers"
        )
    known = {layer.key for layer in layers} | {layer.key.removesuffix("weight") + "bias" for layer in layers}
    if others := [key for key in state if key not in known]:
        raise UserError(
            f"the state dict has {_shown(others)}, but only weights and biases of Linear layers can be taken "
            "over: leave other layers out"
        )
    return layers


def _in_order(keys: list[str]) -> list[str]:
    """As given, or by number where the keys differ in numbers only: files may store '10.' before '2.'."""
    if len({re.sub(r"\d+", "#", key) for key in keys}) == 1:
        return sorted(keys, key=lambda key: [int(number) for number in re.findall(r"\d+", key)])
    return keys


def _check_chain(layers: list[_Layer]) -> None:
    for before, after in pairwise(layers):
        if after.weight.shape[1] != len(before.weight):
            raise UserError(
                f"'{after.key}' takes {after.weight.shape[1]} inputs, but '{before.key}' before it has "
                f"{len(before.weight)} outputs: give the layers in the order in which they follow each other"
            )
    kinds = {(tensor.dtype, tensor.device) for layer in layers for tensor in (layer.weight, layer.bias)}
    if len(kinds) > 1:
        raise UserError(
            f"the layers have {len(kinds)} types or devices, but must share one: convert them with .to()"
        )


def _existing(layers: list[_Layer], mask: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """Which connections of each layer exist, as booleans (out, in)."""
    keys = [layer.key for layer in layers]
    if unknown := [key for key in mask if key not in keys]:
        raise UserError(f"mask has {_shown(unknown)}, but the weights are {_shown(keys)}: use their keys")
    exists = [mask.get(layer.key, layer.weight != 0) for layer in layers]
    for layer, here in zip(layers, exists):
        if here.shape != layer.weight.shape:
            raise UserError(
                f"the mask of '{layer.key}' has shape {tuple(here.shape)}, but the weight has "
                f"{tuple(layer.weight.shape)}: give one entry for each weight"
            )
    return [here.to(layer.weight.device, torch.bool) for layer, here in zip(layers, exists)]


def _check_modules(module: nn.Module, activation: str) -> None:
    """What a state dict cannot tell: that only the activation stands between the Linear layers."""
    parts = [part for _, part in module.named_modules(remove_duplicate=False)]
    kinds = [type(part) for part in parts if next(part.children(), None) is None]
    names = {kind: name for name, kind in MODULES.items()}
    for kind in kinds:
        if kind in names and names[kind] != activation:
            raise UserError(
                f"activation is '{activation}', but the module has {kind.__name__}: "
                f"pass activation='{names[kind]}'"
            )
        if kind not in (nn.Linear, nn.Flatten, *names):
            raise UserError(
                f"the module has {kind.__name__}, but only Linear, Flatten, ReLU, Tanh and Sigmoid can be "
                "taken over: leave it out, or pass the state dict of the Linear layers"
            )
    if isinstance(module, nn.Sequential):
        body = kinds[1:] if kinds and kinds[0] is nn.Flatten else kinds
        expected = [MODULES[activation] if index % 2 else nn.Linear for index in range(len(body))]
        if body != expected or len(body) % 2 == 0:
            raise UserError(
                f"the module is {', '.join(kind.__name__ for kind in kinds)}, but must be Linear layers with "
                "an activation between each two and none after the last: rebuild it so"
            )


def _shown(keys: Mapping[str, torch.Tensor] | list[str]) -> str:
    names = list(keys)
    return ", ".join(f"'{name}'" for name in names[:4]) + (", …" if len(names) > 4 else "")
