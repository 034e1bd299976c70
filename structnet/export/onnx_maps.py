"""The part of an ONNX graph that computes a network of feature maps: a convolution for each link between maps.

A kernel is as large as the window, with 0 where there is no tap. Where windows end before their source does, a part of
the source is cut out before.
"""

from __future__ import annotations

import numpy as np

from structnet.export.arrays import MapLink, arrays_of, links_of
from structnet.export.model import Model
from structnet.export.onnx_nodes import Nodes, add_matrix
from structnet.network.padding import padding_of


def add_maps(nodes: Nodes, model: Model, inputs: str) -> None:
    """Adds what makes `logits` of inputs, (batch, input units)."""
    _Graph(nodes, model, inputs).add()


class _Graph:
    def __init__(self, nodes: Nodes, model: Model, inputs: str) -> None:
        self.nodes, self.network = nodes, model.network
        self.topology, self.shape = model.network.topology, model.network.topology.architecture
        self.arrays = arrays_of(model.network)
        batch = np.array([-1, self.shape[0], *self.shape.sides[0]])
        self.maps = [nodes.add("Reshape", inputs, batch, name="maps_0")]
        self.means: dict[int, str] = {}
        self.flat: dict[int, str] = {}

    def add(self) -> None:
        nodes, topology, last = self.nodes, self.topology, self.topology.groups - 1
        for group in range(1, topology.groups):
            units = topology.units_of(group)
            own = slice(units.start - self.shape[0], units.stop - self.shape[0])
            biases = self.arrays["biases"][own]
            terms = [
                term for link in links_of(topology) if link.target == group for term in self._terms(link)
            ]
            shaped = biases.reshape((1, -1) if self.shape.is_plain(group) else (1, -1, 1, 1))
            state = shaped if terms else self._repeated(shaped, group)
            for number, term in enumerate(terms):
                is_end = group == last and number == len(terms) - 1
                state = nodes.add("Add", term, state, name="logits" if is_end else "")
            if group == last:
                if not terms:
                    nodes.add("Identity", state, name="logits")
                return
            self.maps.append(nodes.add(self.network.activation.capitalize(), state, name=f"maps_{group}"))

    def _repeated(self, biases: np.ndarray, group: int) -> str:
        """Biases at every position of every input."""
        batch = self.nodes.add("Shape", "raw", start=0, end=1)
        side = () if self.shape.is_plain(group) else self.shape.sides[group]
        size = self.nodes.add("Concat", batch, np.array([self.shape[group], *side]), axis=0)
        return self.nodes.add("Expand", biases, size)

    def _terms(self, link: MapLink) -> list[str]:
        """What a link adds to its target, in parts."""
        span = slice(link.start, link.stop)
        values, code = self.arrays["values"][span], self.arrays["offset"][span].astype(np.int64) - link.port
        row = self.arrays["target"][span].astype(np.int64) - self.topology.offsets[link.target]
        unit = self.arrays["source"][span].astype(np.int64) - self.topology.offsets[link.source]
        units, classes = self.shape[link.source], self.shape[link.target]
        name = f"weight_{link.source}_{link.target}"
        if not self.shape.is_plain(link.target):
            size = (classes, units, self.shape.window, self.shape.window)
            cells = (row * units + unit) * link.ports + code
            return [self._convolved(link, add_matrix(self.nodes, cells, values, size, name))]
        parts = []
        is_mean = code == 0
        if is_mean.any():
            weight = add_matrix(
                self.nodes, (unit * classes + row)[is_mean], values[is_mean], (units, classes), name
            )
            parts.append(self.nodes.add("MatMul", self._mean(link.source), weight))
        if not is_mean.all():
            area, at = self.shape.area(link.source), ~is_mean
            cells = ((unit * area + code - 1) * classes + row)[at]
            weight = add_matrix(self.nodes, cells, values[at], (units * area, classes), f"{name}_flat")
            parts.append(self.nodes.add("MatMul", self._positions(link.source), weight))
        return parts

    def _mean(self, group: int) -> str:
        """(batch, units): means of maps, or neurons as they are."""
        if self.shape.is_plain(group):
            return self.maps[group]
        if group not in self.means:
            self.means[group] = self.nodes.add("ReduceMean", self.maps[group], axes=[2, 3], keepdims=0)
        return self.means[group]

    def _positions(self, group: int) -> str:
        """(batch, units · positions)."""
        if group not in self.flat:
            self.flat[group] = self.nodes.add("Flatten", self.maps[group], axis=1)
        return self.flat[group]

    def _convolved(self, link: MapLink, kernel: str) -> str:
        given = self.maps[link.source]
        (top, bottom), (left, right) = padding_of(self.shape, (link.source, link.target)).margins
        if min(top, bottom, left, right) < 0:
            high, wide = self.shape.sides[link.source]
            first = np.array([max(0, -top), max(0, -left)])
            last = np.array([high - max(0, -bottom), wide - max(0, -right)])
            given = self.nodes.add("Slice", given, first, last, np.array([2, 3]))
        pads = [max(0, margin) for margin in (top, left, bottom, right)]
        return self.nodes.add("Conv", given, kernel, pads=pads, strides=[link.down, link.right])
