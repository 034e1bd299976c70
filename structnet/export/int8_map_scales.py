"""Quantisation after training of networks of feature maps: as structnet.export.int8, with one scale for each map."""

from __future__ import annotations

import numpy as np
import torch

from structnet.errors import UserError
from structnet.export.arrays import links_of, maps_of
from structnet.export.int8_maps import IntegerMaps, Known
from structnet.export.int8_network import LARGEST_SUM
from structnet.export.int8_steps import (
    LARGEST_CODE,
    Ranges,
    Rows,
    Steps,
    connections_into,
    fixed_point,
    hidden_steps,
    least_steps,
    output_steps,
    rounded,
)
from structnet.export.model import Model
from structnet.export.numpy_maps import kernels
from structnet.network.network import StructNet
from structnet.network.propagation import flatten, propagate
from structnet.network.topology import Topology

BLOCK = 200  # inputs computed at once
MOST_FOR_MEANS = 500  # inputs, of maps with many positions each


def map_ranges(network: StructNet, inputs: np.ndarray) -> Ranges:
    """What maps and neurons reach on these inputs, float32 (n, input units)."""
    low, high, means = [], [], []
    for start in range(0, len(inputs), BLOCK):
        seen = known_activations(network, inputs[start : start + BLOCK])
        low.append(np.concatenate([known.states.min((1, 2, 3)) for known in seen]))
        high.append(np.concatenate([known.states.max((1, 2, 3)) for known in seen]))
        means.append(np.concatenate([known.means.max(1) for known in seen]))
    return Ranges(np.min(low, axis=0), np.max(high, axis=0), np.max(means, axis=0))


def known_activations(network: StructNet, inputs: np.ndarray) -> list[Known]:
    """Activations of the groups before the output, and their means."""
    flat = flatten(torch.from_numpy(np.ascontiguousarray(inputs)), torch.float32)
    seen = propagate(network, network.values.detach(), flat)[:-1]
    found = []
    for (_, units, high, wide), one in zip(maps_of(network.topology), seen):
        states = one.double().numpy().reshape(units, high, wide, -1)
        found.append(Known(states, states.mean((1, 2))))
    return found


def maps_with_ranges(model: Model, network: StructNet, ranges: Ranges) -> IntegerMaps:
    """A network of feature maps in whole numbers, where activations stay within these ranges."""
    topology, flat = network.topology, network.values.detach().numpy().astype(np.float64)
    codes = _Codes(topology, ranges)
    pixel_bits = codes.start(model, ranges)
    weights, biases, steps_of_all = [], [], []
    for group in range(1, topology.groups):
        scales, offsets = codes.read_by(group)
        rows = Rows.of(topology, flat, group, scales, offsets, np.ones(len(scales)))
        least, sums = least_steps(rows)
        if group == topology.groups - 1:
            steps = output_steps(least, sums)
        else:
            units = topology.units_of(group)
            steps = hidden_steps(network.activation, least, ranges.low[units], ranges.high[units])
            codes.take(group, steps.scales, steps.offsets)
        made = rounded(rows, steps.sums)
        weights.append(made[0])
        biases.append(made[1])
        steps_of_all.append(steps)
    together = Steps(*(np.concatenate(part) for part in zip(*steps_of_all)))
    return IntegerMaps(
        topology,
        network.activation,
        model.preprocessing,
        np.concatenate(weights),
        np.concatenate(biases),
        together.multipliers.astype(np.int64),
        together.shifts.astype(np.int64),
        None,
        np.zeros(topology.groups, dtype=np.int64),
        codes.scales,
        codes.offsets,
        together.sums,
        float(steps.sums[0] / steps.multipliers[0]),
        codes.mean_multipliers.astype(np.int64),
        codes.mean_shifts.astype(np.int64),
        codes.mean_scales,
        pixel_bits,
    )


class _Codes:
    """What codes of maps, neurons and means stand for, (input and hidden units,) each, as far as that is known."""

    def __init__(self, topology: Topology, ranges: Ranges) -> None:
        assert ranges.means is not None
        self._topology, self._highest_means = topology, ranges.means
        units = topology.units - topology.architecture[-1]
        self.scales, self.offsets, self.mean_scales = (np.zeros(units) for _ in range(3))
        self.mean_multipliers, self.mean_shifts = np.ones(units), np.ones(units)
        self._code = topology.code_of_port(topology.source)

    def start(self, model: Model, ranges: Ranges) -> int:
        """Takes the codes of the input, and says by how many bits its pixels are shifted.

        Raises UserError for channels that differ where a map has pixels of several of them, and for columns of a table.
        """
        inputs = self._topology.architecture[0]
        preprocessing = model.preprocessing
        if preprocessing["kind"] == "table":
            raise UserError(
                f"int8 is given, but the columns of {model.name} are of different kinds, and a map has one scale: "
                "leave it out"
            )
        if preprocessing["kind"] == "columns":
            # What is beyond a map is 0, which has to have a code.
            low, high = np.minimum(ranges.low[:inputs], 0), np.maximum(ranges.high[:inputs], 0)
            self.take(0, np.where(high > low, high - low, 1.0) / LARGEST_CODE, low)
            return 0
        each = [np.array(preprocessing[name]) for name in ("scale", "offset")]
        if all((one == one[0]).all() for one in each):
            scale, offset = (np.full(inputs, one[0]) for one in each)
        elif inputs % len(each[0]) == 0:
            scale, offset = (np.repeat(one, inputs // len(one)) for one in each)
        else:
            raise UserError(
                f"int8 is given, but maps of {model.name} have pixels of several channels, which are scaled in "
                "different ways: leave it out"
            )
        bits = int(np.floor(np.log2(LARGEST_CODE / preprocessing["full_scale"])))
        bits = max(0, bits)
        self.take(0, 1 / scale / 2**bits, -offset / scale)
        return bits

    def take(self, group: int, scales: np.ndarray, offsets: np.ndarray) -> None:
        """What codes of a group stand for; the codes of its means follow."""
        units = self._topology.units_of(group)
        self.scales[units], self.offsets[units] = scales, offsets
        if self._topology.architecture.is_plain(group):
            self.mean_scales[units] = scales
            return
        least = scales / self._topology.architecture.area(group)
        reach = np.maximum(self._highest_means[units] - offsets, 0)
        multipliers, shifts = fixed_point(least / np.maximum(reach / LARGEST_CODE, least))
        self.mean_multipliers[units], self.mean_shifts[units] = multipliers, shifts
        self.mean_scales[units] = least * 2.0**shifts / multipliers

    def read_by(self, group: int) -> tuple[np.ndarray, np.ndarray]:
        """Scales and offsets of what each connection into a group reads."""
        topology = self._topology
        where = connections_into(topology, group)
        unit, is_mean = topology.source_unit[where], self._code[where] == topology.architecture.window**2
        return np.where(is_mean, self.mean_scales[unit], self.scales[unit]), self.offsets[unit]


def with_means_of(found: IntegerMaps, network: StructNet, inputs: np.ndarray) -> IntegerMaps:
    """With biases by which the sum of each unit has the mean on these inputs that it has in the network."""
    topology, some = network.topology, inputs[:MOST_FOR_MEANS]
    exact = known_activations(network, some)
    values, means = topology.split(network.values.detach().numpy().astype(np.float64))
    links, groups = ([tuple(one) for one in of(topology)] for of in (links_of, maps_of))
    code = topology.code_of_port(topology.source)
    weights = kernels(groups, links, values, topology.source_unit, code, topology.target)
    nothing = np.zeros(len(found.scales))
    # Of 32 bits, what weights leave of the sums, and multipliers of those that are logits.
    last, classes = topology.groups - 1, topology.architecture[-1]
    share = np.ones(topology.bias_count, dtype=np.int64)
    share[-classes:] = found.multipliers[-classes:]
    room = LARGEST_SUM // share - (found.bounds - np.abs(found.biases.astype(np.int64)))
    known = [found.known_input(found.codes(some))]
    for group in range(1, topology.groups):
        units = topology.units_of(group)
        behind = slice(units.start - topology.architecture[0], units.stop - topology.architecture[0])
        wanted = found.exact_sums(group, exact, weights, nothing).mean(axis=1) + means[behind]
        biases = found.biases.astype(np.float64)
        seen = found.map_sums(group, known).mean(axis=1)
        biases[behind] += np.rint(wanted / found.sum_scales[behind] - seen)
        changed = found.with_biases(np.clip(biases, -room, room).astype(np.int32))
        assert isinstance(changed, IntegerMaps)
        found = changed
        if group < last:
            known.append(found.known(group, found.map_sums(group, known)))
    return found
