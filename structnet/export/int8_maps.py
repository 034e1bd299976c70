"""A network of feature maps in whole numbers: as structnet.export.int8_network says, with a scale for each map.

What is beyond a map counts as 0, for which the code nearest to 0 stands. Means have codes of their own, which a sum of
codes becomes as a sum of weights does: sum · multiplier ÷ 2^shift. Pixels that end below 255 are shifted to there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from typing_extensions import override

from structnet.export.arrays import Maps, links_of, maps_of
from structnet.export.c_inputs import Codes
from structnet.export.int8_network import CODES, LARGEST_SUM, IntegerNetwork, rounded_codes
from structnet.export.map_layout import Layout
from structnet.export.numpy_maps import convolved, gathered, kernels
from structnet.export.rows import Part, parts_of, smallest

BLOCK = 200  # inputs computed at once


class Known(NamedTuple):
    """What is known of a group: its codes or activations, float64 (units, height, width, n), and means, (units, n)."""

    states: np.ndarray
    means: np.ndarray


@dataclass(frozen=True, eq=False)
class IntegerMaps(IntegerNetwork):
    """Weights, biases and what makes codes of sums and means.

    scales, offsets: by map. mean_multipliers, mean_shifts: int64, (input and hidden units,), of what makes codes of
    means; mean_scales: float64, what 1 stands for in these. pixel_bits: by how many bits pixels are shifted.
    """

    mean_multipliers: np.ndarray
    mean_shifts: np.ndarray
    mean_scales: np.ndarray
    pixel_bits: int

    @cached_property
    def groups(self) -> list[Maps]:
        """As structnet.export.arrays has them."""
        return maps_of(self.topology)

    @cached_property
    def zeros(self) -> np.ndarray:
        """(input and hidden units,) uint8, the codes that stand for 0."""
        return rounded_codes(-self.offsets / self.scales)

    @cached_property
    def layout(self) -> Layout:
        """How maps lie: those of the input apart where their codes of 0 differ."""
        inputs = self.zeros[: self.topology.architecture[0]]
        return Layout(self.topology, is_apart=bool((inputs != inputs[0]).any()))

    @property
    @override
    def fits_32_bits(self) -> bool:
        areas = np.repeat([group.high * group.wide for group in self.groups], self.topology.architecture)
        sums = (CODES - 1) * areas[: len(self.mean_shifts)]
        largest = sums * self.mean_multipliers + (np.int64(1) << self.mean_shifts)
        return super().fits_32_bits and bool(largest.max() <= LARGEST_SUM)

    @property
    @override
    def input_codes(self) -> Codes:
        inputs, area = self.topology.architecture[0], self.topology.architecture.area(0)
        return Codes(np.repeat(self.scales[:inputs], area), np.repeat(self.offsets[:inputs], area))

    @property
    @override
    def read_codes(self) -> Codes:
        unit = self.topology.source_unit
        means = self._reads_mean
        return Codes(np.where(means, self.mean_scales[unit], self.scales[unit]), self.offsets[unit])

    @property
    def _reads_mean(self) -> np.ndarray:
        """(connections,) booleans."""
        code = self.topology.code_of_port(self.topology.source)
        is_mean: np.ndarray = code == self.topology.architecture.window**2
        return is_mean

    @cached_property
    @override
    def parts(self) -> list[list[Part]]:
        return parts_of(self.topology, 1, self.layout)

    @cached_property
    def _kernels(self) -> list[np.ndarray]:
        topology = self.topology
        code = topology.code_of_port(topology.source)
        links = [tuple(link) for link in links_of(topology)]
        groups = [tuple(group) for group in self.groups]
        made = kernels(groups, links, self.weights, topology.source_unit, code, topology.target)
        return [kernel.astype(np.float64) for kernel in made]

    @override
    def codes_of_raw(self, raw: np.ndarray) -> np.ndarray:
        codes: np.ndarray = super().codes_of_raw(raw)
        if self.preprocessing["kind"] != "image":
            return codes
        shifted: np.ndarray = np.minimum(codes.astype(np.int64) << self.pixel_bits, CODES - 1)
        return shifted.astype(np.uint8)

    @override
    def logits_of(self, codes: np.ndarray) -> np.ndarray:
        classes = self.topology.architecture[-1]
        found = np.empty((len(codes), classes), dtype=np.int32)
        for start in range(0, len(codes), BLOCK):
            block = codes[start : start + BLOCK]
            known = [self.known_input(block)]
            for group in range(1, self.topology.groups - 1):
                known.append(self.known(group, self.map_sums(group, known)))
            sums = self.map_sums(self.topology.groups - 1, known)
            found[start : start + BLOCK] = (sums * self.multipliers[-classes:, None]).T
        return found

    def known_input(self, codes: np.ndarray) -> Known:
        """Of codes of inputs, (n, input units)."""
        _, units, high, wide = self.groups[0]
        return self._with_means(0, codes.T.reshape(units, high, wide, -1))

    def known(self, group: int, sums: np.ndarray) -> Known:
        """Of a hidden group, from its sums."""
        _, units, high, wide = self.groups[group]
        return self._with_means(group, self.codes_of(group, sums).reshape(units, high, wide, -1))

    def _with_means(self, group: int, codes: np.ndarray) -> Known:
        units, states = self.topology.units_of(group), codes.astype(np.float64)
        if self.topology.architecture.is_plain(group):
            return Known(states, states[:, 0, 0])
        sums = codes.sum((1, 2), dtype=np.int64)
        multiplier, shift = self.mean_multipliers[units, None], self.mean_shifts[units, None]
        means = (sums * multiplier + (np.int64(1) << (shift - 1))) >> shift
        return Known(states, np.minimum(means, CODES - 1).astype(np.float64))

    def map_sums(self, group: int, known: list[Known]) -> np.ndarray:
        """int64 (units of the group, positions · n), of the codes of all groups before it."""
        found = self.exact_sums(group, known, self._kernels, self.zeros.astype(np.float64))
        units = self.topology.units_of(group)
        total: np.ndarray = found.astype(np.int64) + self.biases[self._behind(units), None]
        return total

    def exact_sums(
        self, group: int, known: list[Known], weights: list[np.ndarray], zeros: np.ndarray
    ) -> np.ndarray:
        """float64 (units, positions · n), without biases; zeros: (input and hidden units,) what counts beyond a map.

        Whole numbers stay whole: they are far below 2^53.
        """
        _, units, high, wide = self.groups[group]
        count = known[0].states.shape[3]
        found = np.zeros((units, high, wide, count))
        for link, kernel in zip(links_of(self.topology), weights):
            if link.target != group:
                continue
            states, means = known[link.source]
            if high * wide == 1:
                found += gathered(states, means, kernel)
                continue
            zero = zeros[self.topology.units_of(link.source)]
            step, start = (link.down, link.right), (link.top, link.left)
            found += convolved(states - zero[:, None, None, None], kernel, (high, wide), step, start)
            found += (kernel.sum(0).T @ zero)[:, None, None, None]
        return found.reshape(units, -1)

    @override
    def tables(self) -> dict[str, np.ndarray]:
        found = super().tables()
        if self.layout.is_apart:
            found["g0_zeros"] = self.zeros[: self.topology.architecture[0]]
        for group in sorted(self.layout.means):
            units = self.topology.units_of(group)
            found[f"g{group}_mean_multipliers"] = smallest(self.mean_multipliers[units])
            found[f"g{group}_mean_shifts"] = smallest(self.mean_shifts[units])
        return found
