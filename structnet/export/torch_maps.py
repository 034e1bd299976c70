"""A network of feature maps as plain PyTorch: a Conv2d for each link between maps, and a Linear for what neurons read.

Their weights are dense, with 0 where there is no tap or connection.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from structnet.export.arrays import MapLink, arrays_of, links_of
from structnet.export.model import Model
from structnet.network.padding import padding_of


class Layer(NamedTuple):
    """A layer of the module: its name, the expression that makes it, the one that calls it, and its weight."""

    name: str
    made: str
    called: str
    weight: np.ndarray


class MapModule:
    """The lines of a module that computes a network of feature maps of `group_0`, and the state that they need."""

    def __init__(self, model: Model) -> None:
        self.network, self.topology = model.network, model.network.topology
        self.shape = self.topology.architecture
        self._arrays = arrays_of(model.network)
        self.state: dict[str, torch.Tensor] = {}
        self.parts: list[str] = []
        self.lines: list[str] = []
        last = self.topology.groups - 1
        for group in range(1, last + 1):
            summed = self._sum(group)
            activated = summed if group == last else f"({summed}).{self.network.activation}()"
            self.lines.append(f"group_{group} = {activated}")

    def _sum(self, group: int) -> str:
        """The expression of a group before its activation."""
        units = self.topology.units_of(group)
        biases = self._arrays["biases"][units.start - self.shape[0] : units.stop - self.shape[0]]
        layers = [
            layer for link in links_of(self.topology) if link.target == group for layer in self._layers(link)
        ]
        for number, layer in enumerate(layers):
            bias = "" if number == 0 else ", bias=False"
            self.parts.append(f"self.{layer.name} = nn.{layer.made}{bias})")
            self.state[f"{layer.name}.weight"] = torch.from_numpy(layer.weight)
        if layers:
            self.state[f"{layers[0].name}.bias"] = torch.from_numpy(biases.copy())
            return " + ".join(layer.called for layer in layers)
        side = () if self.shape.is_plain(group) else self.shape.sides[group]
        ones = ", 1" * len(side)
        self.parts.append(f"self.bias_{group} = nn.Parameter(torch.zeros({len(biases)}{ones}))")
        self.state[f"bias_{group}"] = torch.from_numpy(biases.reshape(-1, *(1 for _ in side)).copy())
        sizes = ", ".join(map(str, ("raw.shape[0]", len(biases), *side)))
        return f"self.bias_{group}.expand({sizes})"

    def _layers(self, link: MapLink) -> list[Layer]:
        """Of a link: one, or of neurons that read means and positions two."""
        span = slice(link.start, link.stop)
        values, code = self._arrays["values"][span], self._arrays["offset"][span] - link.port
        row = self._arrays["target"][span] - self.topology.offsets[link.target]
        unit = self._arrays["source"][span] - self.topology.offsets[link.source]
        n_in, n_out = self.shape[link.source], self.shape[link.target]
        name, read = f"{link.target}_{link.source}", f"group_{link.source}"
        if not self.shape.is_plain(link.target):
            weight = np.zeros((n_out, n_in, link.ports), np.float32)
            weight[row, unit, code] = values
            return [self._convolution(link, weight)]
        found, is_mean = [], code == 0
        if is_mean.any():
            weight = np.zeros((n_out, n_in), np.float32)
            weight[row[is_mean], unit[is_mean]] = values[is_mean]
            read_mean = read if self.shape.is_plain(link.source) else f"{read}.mean((2, 3))"
            found.append(
                Layer(f"linear_{name}", f"Linear({n_in}, {n_out}", f"self.linear_{name}({read_mean})", weight)
            )
        if not is_mean.all():
            at, area = ~is_mean, self.shape.area(link.source)
            weight = np.zeros((n_out, n_in * area), np.float32)
            weight[row[at], unit[at] * area + code[at] - 1] = values[at]
            made, called = f"Linear({n_in * area}, {n_out}", f"self.flat_{name}({read}.flatten(1))"
            found.append(Layer(f"flat_{name}", made, called, weight))
        return found

    def _convolution(self, link: MapLink, weight: np.ndarray) -> Layer:
        name, read, window = f"conv_{link.target}_{link.source}", f"group_{link.source}", self.shape.window
        (above, beside), own = padding_of(self.shape, (link.source, link.target))
        if own is None:
            read = f"pad({read}, {(*beside, *above)})"
        more = "" if (link.down, link.right) == (1, 1) else f", stride={link.down, link.right}"
        more += f", padding={own}" if own and any(own) else ""
        made = f"Conv2d({weight.shape[1]}, {weight.shape[0]}, {window}{more}"
        return Layer(name, made, f"self.{name}({read})", weight.reshape(*weight.shape[:2], window, window))
