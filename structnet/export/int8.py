"""Quantisation after training: the scales of an integer network from what its units do on training data.

A weight is rounded to a multiple of a step of its unit, after it was multiplied by the scale of what it reads: what
counts is how much a connection contributes, and the largest contribution to a unit has 127 steps (a step for each unit:
Krishnamoorthi 2018). Rounding moves the mean of a unit, and its bias takes that back (Nagel et al. 2019).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.sparse import csr_array

from structnet.data.tables import input_count
from structnet.errors import UserError
from structnet.export.int8_map_scales import map_ranges, maps_with_ranges, with_means_of
from structnet.export.int8_maps import IntegerMaps
from structnet.export.int8_network import LARGEST_SUM, Bends, IntegerNetwork
from structnet.export.int8_steps import (
    LARGEST_CODE,
    Ranges,
    Rows,
    Steps,
    connections_into,
    hidden_steps,
    least_steps,
    output_steps,
    rounded,
    with_thresholds,
)
from structnet.export.model import Model
from structnet.network.network import StructNet
from structnet.network.propagation import flatten, propagate
from structnet.network.topology import Topology

MOST_BEND_BITS = 14
LARGEST_BEND = 2**15 - 1


def quantised(model: Model, inputs: np.ndarray) -> IntegerNetwork:
    """The network of a model in whole numbers; inputs: of training, as a network takes them, float32 (n, input units).

    Raises UserError for values and activations that are not finite.
    """
    found = with_ranges(model, model.network, ranges_of(model, model.network, inputs))
    if isinstance(found, IntegerMaps):
        return with_means_of(found, model.network, inputs)
    return _with_means_of(found, model.network, inputs)


def ranges_of(model: Model, network: StructNet, inputs: np.ndarray) -> Ranges:
    """What the units of a network reach on these inputs, float32 (n, input units); an input that is a flag 0 and 1.

    Raises UserError where that is not finite.
    """
    if network.topology.architecture.has_maps:
        ranges = map_ranges(network, inputs)
        for numbers in (ranges.low, ranges.high):
            _check_finite(numbers, model, "activations")
        return ranges
    seen = _activations(network, inputs)
    _check_finite(seen, model, "activations")
    low, high = seen.min(axis=1), seen.max(axis=1)
    flags = np.flatnonzero(_is_flag(model))
    low[flags], high[flags] = 0.0, 1.0
    return Ranges(low, high)


def with_ranges(model: Model, network: StructNet, ranges: Ranges) -> IntegerNetwork:
    """A network like that of a model in whole numbers, where activations stay within these ranges.

    Group after group, because the scales of one decide on the steps of the next. Raises UserError for values that are
    not finite.
    """
    topology, flat = network.topology, network.values.detach().numpy().astype(np.float64)
    _check_finite(flat, model, "values")
    if topology.architecture.has_maps:
        return maps_with_ranges(model, network, ranges)
    input_shifts = _input_shifts(model, topology)
    scales, offsets = _input_codes(model, ranges)
    weights, biases, steps_of_all = [], [], []
    for group in range(1, topology.groups):
        source = topology.source[connections_into(topology, group)]
        factor = np.where(source < topology.architecture[0], 2.0 ** int(input_shifts[group]), 1.0)
        rows = Rows.of(topology, flat, group, scales[source], offsets[source], factor)
        least, sums = least_steps(rows)
        if group == topology.groups - 1:
            steps = output_steps(least, sums)
        else:
            units = topology.units_of(group)
            if topology.shape_numbers:
                least = with_thresholds(least, flat[topology.shapes_of(np.arange(units.start, units.stop))])
            steps = hidden_steps(network.activation, least, ranges.low[units], ranges.high[units])
        made_weights, made_biases = rounded(rows, steps.sums)
        weights.append(made_weights)
        biases.append(made_biases)
        scales, offsets = np.append(scales, steps.scales), np.append(offsets, steps.offsets)
        steps_of_all.append(steps)
    together = Steps(*(np.concatenate(part) for part in zip(*steps_of_all)))
    made = IntegerNetwork(
        topology,
        network.activation,
        model.preprocessing,
        np.concatenate(weights),
        np.concatenate(biases),
        together.multipliers.astype(np.int64),
        together.shifts.astype(np.int64),
        None,
        input_shifts,
        scales,
        offsets,
        together.sums,
        float(steps.sums[0] / steps.multipliers[0]),
    )
    return replace(made, bends=_bends(made, topology.shapes(flat))) if topology.shape_numbers else made


def _check_finite(numbers: np.ndarray, model: Model, what: str) -> None:
    if not np.isfinite(numbers).all():
        raise UserError(
            f"model '{model.name}' has {what} that are not finite, which no integers stand for: train it again"
        )


def _activations(network: StructNet, inputs: np.ndarray) -> np.ndarray:
    """Of inputs and hidden units, float64 (units, n)."""
    flat = flatten(torch.from_numpy(inputs), torch.float32)
    return torch.cat(propagate(network, network.values.detach(), flat)[:-1]).double().numpy()


def _is_flag(model: Model) -> np.ndarray:
    """(input units,) which inputs are 0 or 1 by what they are: those of categories, and of what is missing."""
    flags = np.zeros(model.network.architecture[0], dtype=bool)
    if model.preprocessing["kind"] == "table":
        at = 0
        for column in model.preprocessing["columns"]:
            count = input_count([column])
            flags[at + (column["kind"] == "number") : at + count] = True
            at += count
    return flags


def _input_codes(model: Model, ranges: Ranges) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset of the code of each input; of an image those that make inputs of its pixels."""
    inputs = model.network.architecture[0]
    if model.preprocessing["kind"] == "image":
        area = inputs // len(model.preprocessing["scale"])
        scale, offset = (np.repeat(model.preprocessing[name], area) for name in ("scale", "offset"))
        return 1 / scale, -offset / scale
    low, high = ranges.low[:inputs], ranges.high[:inputs]
    return np.where(high > low, high - low, 1.0) / LARGEST_CODE, low.copy()


def _input_shifts(model: Model, topology: Topology) -> np.ndarray:
    """(groups,) k of a group that reads inputs and hidden units: pixels that end below 255 are shifted to there."""
    shifts = np.zeros(topology.groups, dtype=np.int64)
    if model.preprocessing["kind"] == "image":
        most = round(np.log2(LARGEST_CODE / model.preprocessing["full_scale"]))
        both = {target for source, target in topology.links if source and (0, target) in topology.links}
        shifts[sorted(both)] = max(0, most)
    return shifts


def _bends(made: IntegerNetwork, shapes: np.ndarray) -> Bends:
    """SReLU of the hidden units of a network, from the numbers that shape them."""
    hidden = len(made.shifts)
    left, below, width, above = shapes.reshape(hidden, 4).T
    steepest = max(np.abs(below - 1).max(initial=0), np.abs(above - 1).max(initial=0))
    bits = MOST_BEND_BITS if steepest == 0 else int(np.floor(np.log2(LARGEST_BEND / steepest)))
    bits = min(max(bits, 1), MOST_BEND_BITS)

    # Sums reach no threshold that is further away.
    left, right = (
        np.clip(np.rint(at / made.sum_scales[:hidden]), -LARGEST_SUM, LARGEST_SUM).astype(np.int64)
        for at in (left, left + np.abs(width))
    )

    def bend(slope: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.clip(np.rint((slope - 1) * 2**bits), -LARGEST_BEND, LARGEST_BEND)
        return found.astype(np.int16)

    zeros = np.rint(-made.offsets[-hidden:] / made.scales[-hidden:]) if hidden else np.empty(0)
    return Bends(left, right, bend(below), bend(above), zeros.astype(np.uint8), bits)


def _with_means_of(rounded: IntegerNetwork, network: StructNet, inputs: np.ndarray) -> IntegerNetwork:
    """With biases by which the sum of each unit has the mean on these inputs that it has in the network."""
    topology, flat = network.topology, network.values.detach().numpy().astype(np.float64)
    values, means = topology.split(flat)
    exact = csr_array((values, (topology.target, topology.source)), shape=(topology.units,) * 2)
    last = topology.groups - 1
    seen = np.vstack([_activations(network, inputs), np.zeros((topology.architecture[last], len(inputs)))])
    means = means + (exact @ seen.mean(axis=1))[topology.architecture[0] :]
    state = np.zeros(seen.shape, dtype=np.int64)
    state[: topology.architecture[0]] = rounded.codes(inputs).T
    # Of 32 bits, what weights leave of the sums, and multipliers of those that are logits.
    share = np.ones(topology.bias_count, dtype=np.int64)
    share[-topology.architecture[last] :] = rounded.multipliers[-topology.architecture[last] :]
    room = LARGEST_SUM // share - (rounded.bounds - np.abs(rounded.biases.astype(np.int64)))
    for group in range(1, topology.groups):
        units = topology.units_of(group)
        behind = slice(units.start - topology.architecture[0], units.stop - topology.architecture[0])
        biases = rounded.biases.astype(np.float64)
        found = rounded.sums(group, state).mean(axis=1)
        biases[behind] += np.rint(means[behind] / rounded.sum_scales[behind] - found)
        rounded = rounded.with_biases(np.clip(biases, -room, room).astype(np.int32))
        if group < last:
            state[units] = rounded.codes_of(group, rounded.sums(group, state))
    return rounded
