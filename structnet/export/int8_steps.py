"""Steps of an integer network: how fine its sums and codes are, so that everything fits 8 and 32 bits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from structnet.export.int8_network import CODES, FRACTION, LARGEST_WEIGHT, LAST, PER_ONE
from structnet.network.topology import Topology

LARGEST_CODE = CODES - 1
LARGEST_BIAS = 2**20  # in steps of a unit whose weights are so small that its bias decides on its step
ROOM = 2**30  # steps that a sum may take, half of what 32 bits hold: the rest is for rounding
LARGEST_MULTIPLIER = 255
MOST_SHIFT = 32
FINEST_CODE = 1 / 128  # in steps of the sum, of SReLU, which may be steep
LEAST_STEP = 1e-6  # of a unit that has neither weights nor a bias


class Ranges(NamedTuple):
    """The least and the largest activation of each input and hidden unit, float64 (units,).

    means: the largest mean of each, over the positions of its map; None without maps.
    """

    low: np.ndarray
    high: np.ndarray
    means: np.ndarray | None = None


class Steps(NamedTuple):
    """Of units: what 1 stands for in their sums, what makes codes of these, and what the codes stand for."""

    sums: np.ndarray
    multipliers: np.ndarray
    shifts: np.ndarray
    scales: np.ndarray
    offsets: np.ndarray


class Rows(NamedTuple):
    """The connections into a group, and its biases.

    row: of their targets in the group. factor: 2^k of those from the input. contributions: their values times the
    scales of what they read. shifted: their values times its offsets. read: these offsets and scales.
    """

    row: np.ndarray
    factor: np.ndarray
    contributions: np.ndarray
    shifted: np.ndarray
    read: tuple[np.ndarray, np.ndarray]
    biases: np.ndarray

    @classmethod
    def of(
        cls,
        topology: Topology,
        flat: np.ndarray,
        group: int,
        scales: np.ndarray,
        offsets: np.ndarray,
        factor: np.ndarray,
    ) -> Rows:
        """flat: all values, float64. scales, offsets: of what each connection into the group reads; factor: of each."""
        values, biases = topology.split(flat)
        units, inputs = topology.units_of(group), topology.architecture[0]
        where = connections_into(topology, group)
        return cls(
            topology.target[where] - units.start,
            factor,
            values[where] * scales,
            values[where] * offsets,
            (offsets, scales),
            biases[units.start - inputs : units.stop - inputs],
        )

    def total(self, numbers: np.ndarray) -> np.ndarray:
        """(units,) of numbers of the connections."""
        return np.bincount(self.row, numbers, len(self.biases))


def connections_into(topology: Topology, group: int) -> slice:
    """The connections that end at a group."""
    units = topology.units_of(group)
    start, stop = np.searchsorted(topology.target, [units.start, units.stop])
    return slice(int(start), int(stop))


def rounded(rows: Rows, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights, int8, and biases, int32, in steps of the sums, (units,)."""
    step = sums[rows.row] * rows.factor
    weights = np.clip(np.rint(rows.contributions / step), -LARGEST_WEIGHT, LARGEST_WEIGHT)
    # An offset goes with the weight as it was rounded, so that both are wrong by the same factor.
    offsets, scales = rows.read
    shifted = rows.total(weights * step * offsets / scales)
    biases = np.clip(np.rint((rows.biases + shifted) / sums), -ROOM, ROOM)
    return weights.astype(np.int8), biases.astype(np.int32)


def least_steps(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """(units,) the least step with which weights, bias and sum of each unit fit; and what its sum cannot exceed."""
    largest = np.zeros(len(rows.biases))
    np.maximum.at(largest, rows.row, np.abs(rows.contributions) / rows.factor)
    bias = np.abs(rows.biases + rows.total(rows.shifted))
    sums = rows.total(np.abs(rows.contributions)) * LARGEST_CODE + bias
    least = np.max([largest / LARGEST_WEIGHT, bias / LARGEST_BIAS, sums / ROOM], axis=0)
    return np.where(least > 0, least, LEAST_STEP), sums


def with_thresholds(least: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Steps with which the thresholds of SReLU fit that sums around 0 lie beyond."""
    left, _, width, _ = shapes.reshape(len(least), 4).T
    found: np.ndarray = np.max([least, left / ROOM, -(left + np.abs(width)) / ROOM], axis=0)
    return found


def output_steps(least: np.ndarray, sums: np.ndarray) -> Steps:
    """Steps that are multiples of one scale, by multipliers that leave the logits within 32 bits."""
    scale = max(least.max() / LARGEST_MULTIPLIER, sums.max() / ROOM)
    multipliers, none = np.ceil(least / scale), np.empty(0)
    return Steps(multipliers * scale, multipliers, none, none, none)


def hidden_steps(activation: str, least: np.ndarray, low: np.ndarray, high: np.ndarray) -> Steps:
    """As fine as weights and codes allow. low, high: (units,) of their activations."""
    if activation in ("tanh", "sigmoid"):
        # The argument of the sigmoid, in steps between the entries of its table; tanh(x) is 2 · sigmoid(2x) - 1.
        stretch, scale, offset = (2, 2.0, -1.0) if activation == "tanh" else (1, 1.0, 0.0)
        per_one = stretch * PER_ONE * FRACTION
        multipliers, shifts = fixed_point(least * per_one, upwards=True)
        # Steps beyond this all lie where the table has ended.
        multipliers = np.minimum(multipliers, LAST * PER_ONE * FRACTION)
        sums = np.maximum(least, multipliers / 2.0**shifts / per_one)
        each = np.ones(len(least))
        return Steps(sums, multipliers, shifts, each * scale / LARGEST_CODE, each * offset)
    if activation == "relu":
        multipliers, shifts = fixed_point(least / np.maximum(high / LARGEST_CODE, least))
        scales = least * 2.0**shifts / multipliers
        return Steps(least, multipliers, shifts, scales, np.zeros(len(least)))
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    multipliers, shifts = fixed_point(least / np.maximum((high - low) / LARGEST_CODE, least * FINEST_CODE))
    scales = least * 2.0**shifts / multipliers
    return Steps(least, multipliers, shifts, scales, -np.rint(-low / scales) * scales)


def fixed_point(ratios: np.ndarray, *, upwards: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers of 8 bits and shifts: multiplier ÷ 2^shift is at most the ratio, or at least it.

    A ratio above 255 has the shift 0 and a multiplier that is larger.
    """
    shifts = np.clip(np.floor(np.log2(LARGEST_MULTIPLIER / ratios)), 0, MOST_SHIFT)
    exact = ratios * 2.0**shifts
    return np.maximum(np.ceil(exact) if upwards else np.floor(exact), 1), shifts
