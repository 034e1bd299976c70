"""Feature maps of a torch module that is followed: sums of convolutions of groups, as long as they are that exactly.

A value of channels × height × width holds, for each group of maps, a kernel: position p is the sum of weight[i, j] ·
source at stride · p + start + (i, j), where what lies beyond the source is 0. A convolution of such a value is one of
the groups again, with a larger kernel, unless it reads beyond the value, which is 0 there and the sum is not. Then, and
where the larger kernel would be a waste, a value that is never negative becomes a group of its own: a ReLU does not
change it.

What becomes flat again is an `Affine`, whose columns are, for each map of a group, its mean and its positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from typing_extensions import override

from structnet.compiled.normalise import LEAST_VARIANCE
from structnet.network.architecture import POINT, Architecture, Geometry, Side
from structnet.network.from_module_values import Affine, Reading, Value, WrongSize


class Kernel(NamedTuple):
    """weight: (channels, units of the source, height, width) float64. start: of its first row and column."""

    weight: np.ndarray
    stride: Side
    start: Side


class Norm(NamedTuple):
    """A batch norm that nothing has followed yet: of which value, with which numbers, and as messages name it."""

    before: Maps
    mean: np.ndarray
    variance: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    name: str


class Statistics(NamedTuple):
    """Of a group that is normalised: means and variances of its maps before that."""

    mean: np.ndarray
    variance: np.ndarray


@dataclass
class MapReading(Reading):
    """A module with feature maps on its way through.

    units, sides: of each group, the input first. keeps_norms: whether batch norms that a ReLU follows become
    statistics. statistics: by group; kept: the names of their batch norms.
    """

    units: list[int] = field(default_factory=list)
    sides: list[Side] = field(default_factory=list)
    keeps_norms: bool = True
    statistics: dict[int, Statistics] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)

    @property
    def all_are_normalised(self) -> bool:
        """Whether every hidden group of maps is."""
        return all(
            group in self.statistics or side == POINT for group, side in enumerate(self.sides) if group
        )

    def area(self, group: int) -> int:
        """Positions of each map of a group."""
        high, wide = self.sides[group]
        return high * wide

    def columns(self, group: int) -> int:
        """Columns of a unit of a group: its mean and its positions, or one of a neuron."""
        return 1 if self.sides[group] == POINT else 1 + self.area(group)

    def inputs(self, features: tuple[int, ...]) -> Affine:
        """What the module is given, pixel by pixel."""
        count, area = self.units[0] * self.area(0), self.area(0)
        row = np.arange(count)
        column = row // area * self.columns(0) + self.columns(0) - area + row % area
        size = (count, self.units[0] * self.columns(0))
        matrix = sparse.csr_array((np.ones(count), (row, column)), shape=size)
        return Affine(self, features, {0: matrix}, np.zeros(count))

    @override
    def closed(self, value: Affine, activation: str) -> Affine:
        self.units.append(len(value.bias))
        self.sides.append(POINT)
        return super().closed(value, activation)

    def closed_maps(self, value: Maps, activation: str) -> Maps:
        """The activations of a new group of maps, one for each channel of the value before them."""
        value.check_steps()
        group, scale, statistics = len(self.groups) + 1, np.ones(value.channels), None
        if self.keeps_norms and value.norm is not None and activation == "relu":
            value, scale, statistics = self._normalised(value, value.norm)
        self.begin_group(value, activation)
        if statistics is not None:
            self.statistics[group] = statistics
        self.units.append(value.channels)
        self.sides.append(value.side)
        kernel = Kernel(np.diag(scale)[:, :, None, None], (1, 1), (0, 0))
        return Maps(self, value.features, {group: kernel}, np.zeros(value.channels))

    def _normalised(self, value: Maps, norm: Norm) -> tuple[Maps, np.ndarray, Statistics | None]:
        """The value before its norm, with the bias behind it; what its ReLU is multiplied by; and its statistics.

        relu(w · n + b) is w · relu(n + b ÷ w) if w is positive; the value as it is, and no statistics, if one is not.
        """
        variance = norm.variance - LEAST_VARIANCE
        if (norm.weight <= 0).any() or (variance < 0).any():
            return value, np.ones(value.channels), None
        self.folded.remove(norm.name)
        self.kept.append(norm.name)
        bare = Maps(self, value.features, norm.before.terms, norm.bias / norm.weight)
        return bare, norm.weight, Statistics(norm.mean - norm.before.bias, variance)


class Maps(Value):
    """(BATCH, channels, height, width): for each group of maps a kernel, and a bias, (channels,)."""

    def __init__(
        self,
        reading: MapReading,
        features: tuple[int, ...],
        terms: Mapping[int, Kernel],
        bias: np.ndarray,
        norm: Norm | None = None,
    ) -> None:
        super().__init__(reading, features)
        self.reading: MapReading = reading
        self.terms, self.bias, self.norm = dict(terms), bias, norm

    @property
    def channels(self) -> int:
        """Maps of the value."""
        return self.features[0]

    @property
    def side(self) -> Side:
        """Height and width."""
        return self.features[1], self.features[2]

    @override
    def copied(self) -> Maps:
        return Maps(self.reading, self.features, self.terms, self.bias, self.norm)

    @override
    def becomes(self, other: Maps) -> Maps:
        self.features, self.terms, self.bias, self.norm = other.features, other.terms, other.bias, other.norm
        return self

    @override
    def constant(self, value: Any) -> np.ndarray:
        """One number for each channel, (channels,)."""
        try:
            tensor = torch.as_tensor(value).detach().to("cpu", torch.float64)
            whole = torch.broadcast_to(tensor, (1, *self.features)).reshape(self.channels, -1).numpy()
        except (RuntimeError, TypeError, ValueError) as error:
            shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise WrongSize(
                f"{self.reading.where} joins maps of {self.features} with a constant of {shape}, but one number for "
                "all or one for each channel can be taken over",
                0,
                0,
            ) from error
        if (whole != whole[:, :1]).any():
            self.reading.refuse(
                "joins maps with a constant that differs from position to position, but one number for each channel "
                "can be taken over"
            )
        return whole[:, 0].copy()

    @override
    def scaled(self, factor: np.ndarray) -> Maps:
        terms = {
            group: kernel._replace(weight=kernel.weight * factor[:, None, None, None])
            for group, kernel in self.terms.items()
        }
        return Maps(self.reading, self.features, terms, self.bias * factor)

    @override
    def shifted(self, added: np.ndarray) -> Maps:
        return Maps(self.reading, self.features, self.terms, self.bias + added)

    @override
    def plus(self, other: Maps) -> Maps:
        terms = dict(self.terms)
        for group, kernel in other.terms.items():
            terms[group] = self._joined(terms[group], kernel) if group in terms else kernel
        return Maps(self.reading, self.features, terms, self.bias + other.bias)

    def _joined(self, one: Kernel, other: Kernel) -> Kernel:
        if one.stride != other.stride:
            self.reading.refuse(
                f"adds values that step by {one.stride} and {other.stride} over the same maps, but a link has one "
                "stride: put an activation behind one of them"
            )
        start = (min(one.start[0], other.start[0]), min(one.start[1], other.start[1]))
        ends = [np.add(kernel.start, kernel.weight.shape[2:]) for kernel in (one, other)]
        weight = np.zeros((*one.weight.shape[:2], *(np.max(ends, axis=0) - start)))
        for kernel in (one, other):
            (top, left), (high, wide) = np.subtract(kernel.start, start), kernel.weight.shape[2:]
            weight[:, :, top : top + high, left : left + wide] += kernel.weight
        return Kernel(weight, one.stride, start)

    @property
    def is_pointwise(self) -> bool:
        """Whether each position reads one of each map at most."""
        return all(kernel.weight.shape[2:] == POINT for kernel in self.terms.values())

    @property
    def is_whole(self) -> bool:
        """Whether each position is a sum of the same position of groups of the same sides."""
        return self.is_pointwise and all(
            kernel.start == (0, 0) and kernel.stride == (1, 1) and self.reading.sides[group] == self.side
            for group, kernel in self.terms.items()
        )

    @property
    def is_never_negative(self) -> bool:
        """Whether a ReLU does not change it, as it adds what ReLUs gave."""
        return (
            self.reading.activation == "relu"
            and 0 not in self.terms
            and not (self.bias < 0).any()
            and not any((kernel.weight < 0).any() for kernel in self.terms.values())
        )

    def is_zero_beyond(self, beyond: tuple[tuple[int, int], tuple[int, int]]) -> bool:
        """Whether the sum is 0 so many positions above and below, left and right of the value."""
        if all(count == 0 for pair in beyond for count in pair):
            return True
        if self.bias.any():
            return False
        for group, kernel in self.terms.items():
            for axis, (before, after) in enumerate(beyond):
                size = self.side[axis]
                places = np.concatenate([np.arange(-before, 0), np.arange(size, size + after)])
                taps = np.flatnonzero(kernel.weight.any(axis=(0, 1, 3 - axis)))
                read = kernel.stride[axis] * places[:, None] + kernel.start[axis] + taps
                if ((read >= 0) & (read < self.reading.sides[group][axis])).any():
                    return False
        return True

    def check_steps(self) -> None:
        """Raises UserError for steps from position to position that links between maps of these sides do not have."""
        for group, kernel in self.terms.items():
            source = self.reading.sides[group]
            if any(after > before for before, after in zip(source, self.side)):
                self.reading.refuse(
                    f"has maps of {self.side} of maps of {source}, but sides may not grow: pad by half a kernel at most"
                )
            steps = geometry_of(source, self.side).stride
            if any(self.side[axis] > 1 and kernel.stride[axis] != steps[axis] for axis in range(2)):
                self.reading.refuse(
                    f"has maps of {self.side} that step by {kernel.stride} over maps of {source}, but links between "
                    f"such maps step by {steps}: pad by half a kernel"
                )

    def convolved(self, weight: np.ndarray, bias: np.ndarray, stride: Side, start: Side, side: Side) -> Maps:
        """A convolution, where nothing beyond the value counts. weight: (channels, mine, height, width)."""
        terms = {}
        for group, kernel in self.terms.items():
            size = [
                step * (outer - 1) + inner
                for step, outer, inner in zip(kernel.stride, weight.shape[2:], kernel.weight.shape[2:])
            ]
            made = np.zeros((len(weight), kernel.weight.shape[1], *size))
            for row, column in np.ndindex(weight.shape[2:]):
                part = np.einsum("oc,cuij->ouij", weight[:, :, row, column], kernel.weight)
                top, left = row * kernel.stride[0], column * kernel.stride[1]
                made[:, :, top : top + part.shape[2], left : left + part.shape[3]] += part
            places = zip(kernel.start, kernel.stride, start)
            first = [inner + step * outer for inner, step, outer in places]
            steps = np.multiply(kernel.stride, stride).tolist()
            terms[group] = Kernel(made, (steps[0], steps[1]), (first[0], first[1]))
        total = weight.sum((2, 3)) @ self.bias + bias
        return Maps(self.reading, (len(weight), *side), terms, total)

    def flattened(self) -> Affine:
        """(BATCH, channels, height, width), as a sum of positions of groups."""
        terms = {group: self._positions(group, kernel) for group, kernel in self.terms.items()}
        high, wide = self.side
        return Affine(self.reading, self.features, terms, np.repeat(self.bias, high * wide))

    def _positions(self, group: int, kernel: Kernel) -> Any:
        """(channels · positions, columns of the group)."""
        (high, wide), (source_high, source_wide) = self.side, self.reading.sides[group]
        shape = self.channels * high * wide, kernel.weight.shape[1] * self.reading.columns(group)
        row, column, values = [np.empty(0, int)], [np.empty(0, int)], [np.empty(0)]
        y, x = (place.reshape(-1) for place in np.mgrid[:high, :wide])
        for i, j in np.ndindex(kernel.weight.shape[2:]):
            source_y = kernel.stride[0] * y + kernel.start[0] + i
            source_x = kernel.stride[1] * x + kernel.start[1] + j
            inside = (source_y >= 0) & (source_y < source_high) & (source_x >= 0) & (source_x < source_wide)
            at = np.flatnonzero(inside)
            channel, unit = np.nonzero(kernel.weight[:, :, i, j])
            place = 1 + source_y[at] * source_wide + source_x[at]
            row.append((channel[:, None] * (high * wide) + at).reshape(-1))
            column.append((unit[:, None] * self.reading.columns(group) + place).reshape(-1))
            values.append(np.repeat(kernel.weight[channel, unit, i, j], len(at)))
        entries = np.concatenate(values), (np.concatenate(row), np.concatenate(column))
        return sparse.csr_array(entries, shape=shape)

    def averaged(self) -> Affine:
        """(BATCH, channels): the mean of each channel."""
        if self.is_whole:
            terms = {}
            for group, kernel in self.terms.items():
                channel, unit = np.nonzero(kernel.weight[:, :, 0, 0])
                shape = self.channels, kernel.weight.shape[1] * self.reading.columns(group)
                places = channel, unit * self.reading.columns(group)
                terms[group] = sparse.csr_array((kernel.weight[channel, unit, 0, 0], places), shape=shape)
            return Affine(self.reading, self.features[:1], terms, self.bias)
        area = self.features[1] * self.features[2]
        channel, position = np.divmod(np.arange(self.channels * area), area)
        mean = sparse.csr_array((np.full(len(channel), 1 / area), (channel, channel * area + position)))
        return self.flattened().through(mean)


def geometry_of(source: Side, target: Side) -> Geometry:
    """Of a link between maps of these sides."""
    return Architecture((1, 1, 1), (source, target, POINT)).geometry((0, 1))


def maps_of(value: Affine) -> Maps | None:
    """A value of channels × height × width as maps, if each position is the same sum of the same position of groups."""
    reading = value.reading
    assert isinstance(reading, MapReading)
    channels, side = value.features[0], (value.features[1], value.features[2])
    bias = value.bias.reshape(channels, -1)
    if (bias != bias[:, :1]).any() or any(reading.sides[group] != side for group in value.terms):
        return None
    terms, area = {}, side[0] * side[1]
    for group, matrix in value.terms.items():
        first = matrix[::area][:, 1 :: reading.columns(group)].toarray()
        terms[group] = Kernel(first[:, :, None, None], (1, 1), (0, 0))
    made = Maps(reading, value.features, terms, bias[:, 0].copy())
    again = made.flattened()
    is_same = all((again.terms[group] != matrix).nnz == 0 for group, matrix in value.terms.items())
    return made if is_same else None
