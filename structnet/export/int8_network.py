"""A network in whole numbers: what the C header of int8 computes, the same number for number, with numpy.

Inputs and hidden units have codes, 0 to 255, which stand for scale · code + offset, with scale and offset of their own;
of an image the codes are its pixels. Scales are folded into the weights of what reads them, offsets into its biases, so
that a unit is

    sum = bias + 2^k · Σ weight · code of an input + Σ weight · code of a hidden unit

whatever groups it reads, and its code is what its activation makes of sum · multiplier ÷ 2^shift. Since the scale of
the code follows from the multiplier that was rounded, a multiplier of 8 bits costs no precision. Logits are sum ·
multiplier without a shift, in one scale. Every sum and every logit fits 32 bits, whatever the codes are.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from structnet.export.c_inputs import Codes, coded
from structnet.export.rows import Part, parts_of, smallest
from structnet.network.topology import Topology

CODES = 256
LARGEST_WEIGHT = 127
LARGEST_SUM = 2**31 - 1
BLOCK = 2_000  # inputs computed at once

# The sigmoid of 0, 1/4, …, 8, of which lines are drawn between neighbours; below 0 it is 1 less that of -x.
PER_ONE = 4
LAST = 8
FRACTION = 256  # steps from one entry to the next
SIGMOID = np.rint(255 * 256 / (1 + np.exp(-np.arange(LAST * PER_ONE + 1) / PER_ONE))).astype(np.uint16)


@dataclass(frozen=True, eq=False)
class Bends:
    """SReLU in whole numbers: y · 2^bits = sum · 2^bits + below · min(sum - left, 0) + above · max(sum - right, 0).

    left, right: int64 (hidden units,) in units of the sum. below, above: int16, slope - 1 times 2^bits. zeros: uint8,
    the code of 0.
    """

    left: np.ndarray
    right: np.ndarray
    below: np.ndarray
    above: np.ndarray
    zeros: np.ndarray
    bits: int


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """Weights, biases and what makes codes of sums.

    weights: int8 (connections,) in the order of the topology. biases: int32 and multipliers: int64, (units behind the
    input,). shifts: int64 (hidden units,). bends: of SReLU. input_shifts: (groups,) the k above. scales, offsets:
    float64 (input and hidden units,) of codes. sum_scales: float64 (units behind the input,) what 1 stands for in their
    sums. scale: what 1 stands for in a logit. Raises ValueError if a sum or a logit could leave 32 bits.
    """

    topology: Topology
    activation: str
    preprocessing: dict[str, Any]
    weights: np.ndarray
    biases: np.ndarray
    multipliers: np.ndarray
    shifts: np.ndarray
    bends: Bends | None
    input_shifts: np.ndarray
    scales: np.ndarray
    offsets: np.ndarray
    sum_scales: np.ndarray
    scale: float

    def __post_init__(self) -> None:
        last = self.topology.architecture[-1]
        logits = self.bounds[-last:] * self.multipliers[-last:]
        if self.bounds.max() > LARGEST_SUM or logits.max() > LARGEST_SUM:
            raise ValueError("a sum of this network may leave 32 bits")

    @cached_property
    def bounds(self) -> np.ndarray:
        """(units behind the input,) what no sum of this unit exceeds in size, whatever the codes are."""
        topology, inputs = self.topology, self.topology.architecture[0]
        largest = np.abs(self.weights.astype(np.int64)) * (CODES - 1) * self._factors
        sums = np.zeros(topology.bias_count, dtype=np.int64)
        np.add.at(sums, topology.target - inputs, largest)
        found: np.ndarray = sums + np.abs(self.biases.astype(np.int64))
        return found

    @cached_property
    def _factors(self) -> np.ndarray:
        """(connections,) 2^k of those from the input, 1 of others."""
        topology = self.topology
        shifts = self.input_shifts[topology.group_of(topology.target)]
        return np.where(topology.source < topology.architecture[0], np.int64(1) << shifts, 1)

    @cached_property
    def _matrix(self) -> csr_array:
        """int64 (units, units) weights, those from the input times 2^k."""
        topology = self.topology
        cells = (self.weights.astype(np.int64) * self._factors, (topology.target, topology.source))
        return csr_array(cells, shape=(topology.units, topology.units))

    @property
    def fits_32_bits(self) -> bool:
        """Whether sums of hidden units do, times their multipliers."""
        hidden = len(self.shifts)
        largest = self.bounds[:hidden] * self.multipliers[:hidden] + (np.int64(1) << self.shifts)
        return bool(largest.max(initial=0) <= LARGEST_SUM)

    @property
    def input_codes(self) -> Codes:
        """What codes of the inputs stand for."""
        inputs = self.topology.architecture[0]
        return Codes(self.scales[:inputs], self.offsets[:inputs])

    @property
    def read_codes(self) -> Codes:
        """What codes stand for that connections read, (connections,)."""
        return Codes(self.scales[self.topology.source], self.offsets[self.topology.source])

    @cached_property
    def parts(self) -> list[list[Part]]:
        """The rows of each group behind the input, as they are exported."""
        return parts_of(self.topology, 1)

    @property
    def bytes(self) -> int:
        """Of all tables, indices included; preprocessing and names of classes are not among them."""
        return sum(table.nbytes for table in self.tables().values())

    def codes(self, inputs: np.ndarray) -> np.ndarray:
        """Inputs as a network takes them, float32 (n, input units), as codes: uint8 (n, input units)."""
        scales, offsets = self.input_codes
        return rounded_codes((inputs.astype(np.float64) - offsets) / scales)

    def codes_of_raw(self, raw: np.ndarray) -> np.ndarray:
        """Raw values, (n, *shape), as codes; pixels are rounded to whole numbers of 0 to 255."""
        if self.preprocessing["kind"] == "image":
            return rounded_codes(raw.reshape(len(raw), -1).astype(np.float64))
        return rounded_codes(coded(self.preprocessing, self.input_codes, raw))

    def logits(self, raw: np.ndarray) -> np.ndarray:
        """Raw values, (n, *shape), to logits, int32 (n, classes), of which 1 stands for `scale`."""
        return self.logits_of(self.codes_of_raw(raw))

    def logits_of(self, codes: np.ndarray) -> np.ndarray:
        """Codes of inputs, uint8 (n, input units), to logits, int32 (n, classes)."""
        classes = self.topology.architecture[-1]
        found = np.empty((len(codes), classes), dtype=np.int32)
        for start in range(0, len(codes), BLOCK):
            block = codes[start : start + BLOCK]
            state = np.zeros((self.topology.units, len(block)), dtype=np.int64)
            state[: block.shape[1]] = block.T
            for group in range(1, self.topology.groups - 1):
                state[self.topology.units_of(group)] = self.codes_of(group, self.sums(group, state))
            logits = self.sums(self.topology.groups - 1, state) * self.multipliers[-classes:, None]
            found[start : start + BLOCK] = logits.T
        return found

    def sums(self, group: int, state: np.ndarray) -> np.ndarray:
        """int64 (units of the group, n), of the codes of all units before it; state: (units, n)."""
        units = self.topology.units_of(group)
        found: np.ndarray = self._matrix[units] @ state + self.biases[self._behind(units), None]
        return found

    def codes_of(self, group: int, sums: np.ndarray) -> np.ndarray:
        """What the activation of a hidden group makes of its sums, int64 (units of the group, n): codes."""
        behind = self._behind(self.topology.units_of(group))
        multiplier, shift = self.multipliers[behind, None], self.shifts[behind, None]
        if self.bends is not None:
            return _bent(sums, self.bends, behind, multiplier, shift)
        if self.activation == "relu":
            scaled = (np.maximum(sums, 0) * multiplier + (np.int64(1) << (shift - 1))) >> shift
            codes: np.ndarray = np.minimum(scaled, CODES - 1)
            return codes
        return _curved(sums, multiplier, shift)

    def values(self) -> np.ndarray:
        """The flat vector, float32 (parameters,), of the network that this one is but for the rounding of codes."""
        topology, inputs = self.topology, self.topology.architecture[0]
        unit = topology.target - inputs
        steps = self.weights * self.sum_scales[unit] * self._factors
        scales, offsets = self.read_codes
        folded = np.zeros(topology.bias_count)
        np.add.at(folded, unit, steps / scales * offsets)
        made = [steps / scales, self.biases * self.sum_scales - folded]
        if self.bends is not None:
            bends, one = self.bends, self.sum_scales[: len(self.shifts)]
            slopes = (1 + slope / 2.0**bends.bits for slope in (bends.below, bends.above))
            below, above = slopes
            width = (bends.right.astype(np.float64) - bends.left) * one
            made.append(np.stack([bends.left * one, below, width, above], axis=1).reshape(-1))
        return np.concatenate(made).astype(np.float32)

    def tables(self) -> dict[str, np.ndarray]:
        """All that is exported, each as smallest integers; names begin with the group."""
        found: dict[str, np.ndarray] = {}
        for group, parts in enumerate(self.parts, start=1):
            behind = self._behind(self.topology.units_of(group))
            found[f"g{group}_biases"] = smallest(self.biases[behind])
            for part in parts:
                found |= part.tables(self.weights)
            found[f"g{group}_multipliers"] = smallest(self.multipliers[behind])
            if group == self.topology.groups - 1:
                continue
            found[f"g{group}_shifts"] = smallest(self.shifts[behind])
            if self.bends is not None:
                # Beyond a threshold that no sum reaches there is nothing, so that it may as well be nearer.
                beyond = np.minimum(self.bounds[behind] + 1, LARGEST_SUM)
                found[f"g{group}_left"] = smallest(np.maximum(self.bends.left[behind], -beyond))
                found[f"g{group}_right"] = smallest(np.minimum(self.bends.right[behind], beyond))
                for name in ("below", "above", "zeros"):
                    found[f"g{group}_{name}"] = smallest(getattr(self.bends, name)[behind])
        if self.activation in ("tanh", "sigmoid") and self.topology.groups > 2:
            found["sigmoid"] = SIGMOID
        return found

    def with_biases(self, biases: np.ndarray) -> IntegerNetwork:
        """The same with other biases."""
        return dataclasses.replace(self, biases=biases)

    def _behind(self, units: slice) -> slice:
        """Units by their numbers behind the input."""
        inputs = self.topology.architecture[0]
        return slice(units.start - inputs, units.stop - inputs)


def rounded_codes(codes: np.ndarray) -> np.ndarray:
    """The nearest codes, uint8; 0 of NaN."""
    # A comparison that is false for NaN, whose code is 0.
    rounded: np.ndarray = np.minimum(np.where(codes > 0, np.floor(codes + 0.5), 0), CODES - 1)
    return rounded.astype(np.uint8)


def _curved(sums: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The sigmoid by its table; sum · multiplier ÷ 2^shift is in steps of 1 / (PER_ONE · FRACTION)."""
    table = SIGMOID.astype(np.int64)
    place = np.minimum((np.abs(sums) * multiplier) >> shift, LAST * PER_ONE * FRACTION - 1)
    entry, fraction = place // FRACTION, place % FRACTION
    between = table[entry] * FRACTION + (table[entry + 1] - table[entry]) * fraction
    code: np.ndarray = (between + 2**15) >> 16
    return np.where(sums < 0, CODES - 1 - code, code)


def _bent(
    sums: np.ndarray, bends: Bends, units: slice, multiplier: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    left, right, below, above, zeros = (
        number[units, None].astype(np.int64)
        for number in (bends.left, bends.right, bends.below, bends.above, bends.zeros)
    )
    bent = (sums << bends.bits) + below * np.minimum(sums - left, 0) + above * np.maximum(sums - right, 0)
    places = shift + bends.bits
    half = np.int64(1) << (places - 1)
    codes: np.ndarray = np.clip((bent * multiplier + (zeros << places) + half) >> places, 0, CODES - 1)
    return codes
