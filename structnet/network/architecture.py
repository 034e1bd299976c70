"""Architecture: how many units each group has, and of which size the maps of a group are.

A group of feature maps is so many maps of height × width; a plain group is maps of 1 × 1, and its units are what
others call neurons. A connection into maps is a *tap*: one weight, from a source map seen at an offset, used at every
position of the target. How a source map can be seen is its *port*: at an offset of the window; as its mean, by what has
one position; or, where the maps are flat, at one position of its own. A unit of a plain group has one port: itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from structnet.errors import UserError

WINDOW = 5
FLAT = "flat"
Side = tuple[int, int]
POINT: Side = (1, 1)


class Geometry(NamedTuple):
    """How the positions of a link's target lie on its source, along height and width: at stride · p + start."""

    stride: Side
    start: Side


class Architecture(tuple[int, ...]):
    """Units per group, input first: a tuple of numbers, which knows the sides of its groups as well.

    sides: (height, width) of the maps of every group, all (1, 1) by default. window: height and width of the window of
    taps, odd. flat: the groups whose maps plain groups read position by position, and not only as a mean. Equal to a
    plain tuple where all groups are plain. Raises UserError for sides that grow from a group to the next, for an
    output of maps, and for a window that is even.
    """

    sides: tuple[Side, ...]
    window: int
    flat: frozenset[int]

    def __new__(
        cls,
        units: Iterable[int],
        sides: Iterable[Side] | None = None,
        window: int = WINDOW,
        flat: Iterable[int] = (),
    ) -> Architecture:
        """As the class says."""
        made = super().__new__(cls, (int(size) for size in units))
        made.sides = (
            (POINT,) * len(made) if sides is None else tuple((int(high), int(wide)) for high, wide in sides)
        )
        made.window = int(window)
        made.flat = frozenset(group for group in flat if made.sides[group] != POINT)
        made._check()
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self), self.sides, self.window, tuple(sorted(self.flat))

    def __reduce__(self) -> tuple[Any, ...]:
        return Architecture, self.__getnewargs__()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, tuple):
            return NotImplemented
        return tuple(self) == tuple(other) and self._maps == getattr(other, "_maps", None)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(tuple(self)) if self._maps is None else hash((tuple(self), self._maps))

    def __repr__(self) -> str:
        return f"Architecture({self})" if self.has_maps else tuple.__repr__(self)

    def __str__(self) -> str:
        parts = []
        for group, (size, (high, wide)) in enumerate(zip(self, self.sides)):
            side = f"{high}" if high == wide else f"{high}x{wide}"
            parts.append(f"{size}" if self.is_plain(group) else f"{size}@{side}")
            parts += [FLAT] if group in self.flat else []
        if self.has_maps and self.window != WINDOW:
            parts.insert(1, f"{self.window}x{self.window}")
        return ",".join(parts)

    @property
    def _maps(self) -> tuple[Any, ...] | None:
        """All that a plain tuple of the same numbers lacks; None where it lacks nothing."""
        return (self.sides, self.window, self.flat) if self.has_maps else None

    def _check(self) -> None:
        if len(self.sides) != len(self):
            raise UserError(f"{len(self.sides)} sides for {len(self)} groups, but each group has one")
        if self.window < 1 or self.window % 2 == 0:
            raise UserError(
                f"the window is {self.window}, but must be odd and at least 1: it lies around a centre"
            )
        for group, ((high, wide), (next_high, next_wide)) in enumerate(pairwise(self.sides)):
            if next_high > high or next_wide > wide or min(next_high, next_wide) < 1:
                raise UserError(
                    f"group {group + 1} has maps of {next_high} × {next_wide} after maps of {high} × {wide}, but sides "
                    "are at least 1 and may not grow from a group to the next"
                )
        if self.sides and self.sides[-1] != POINT:
            raise UserError(
                f"the output is {self}, but must be plain: classes have no positions, so write their number alone"
            )

    @property
    def has_maps(self) -> bool:
        """Whether some group has maps of more than one position."""
        return any(side != POINT for side in self.sides)

    @property
    def inputs(self) -> int:
        """Numbers that an image has: positions of all input maps."""
        return self[0] * self.area(0)

    def is_plain(self, group: int) -> bool:
        """Whether the maps of a group are 1 × 1."""
        return self.sides[group] == POINT

    def area(self, group: int) -> int:
        """Positions of each map of a group."""
        high, wide = self.sides[group]
        return high * wide

    @cached_property
    def port_counts(self) -> tuple[int, ...]:
        """Ports of each unit, by group: of maps the offsets of the window, the mean, and where flat the positions."""
        window = self.window**2
        return tuple(
            1 if self.is_plain(group) else window + 1 + (self.area(group) if group in self.flat else 0)
            for group in range(len(self))
        )

    def port_range(self, pair: tuple[int, int]) -> range:
        """Which ports of a unit of the source group a link into the target group can start at."""
        source, target = pair
        if self.is_plain(source):
            return range(1)
        window = self.window**2
        return range(window, self.port_counts[source]) if self.is_plain(target) else range(window)

    def regular_ports(self, pair: tuple[int, int]) -> range:
        """As `port_range`, of a dense network: what reads maps position by position needs no mean."""
        source, target = pair
        every = self.port_range(pair)
        is_flat = self.is_plain(target) and source in self.flat
        return every[1:] if is_flat else every

    def offset_of(self, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far from the centre, down and right, the ports of these codes within the window lie."""
        reach = self.window // 2
        return code // self.window - reach, code % self.window - reach

    @property
    def centre(self) -> int:
        """The code of the port in the middle of the window."""
        return self.window**2 // 2

    def geometry(self, pair: tuple[int, int]) -> Geometry:
        """Of a link into maps: as many steps as fit, centred; a window that leaves the source reads zeros there."""
        along = [_fitted(*sizes) for sizes in zip(self.sides[pair[0]], self.sides[pair[1]])]
        (down, top), (right, left) = along
        return Geometry((down, right), (top, left))

    def possible(self, pair: tuple[int, int]) -> int:
        """Connections of a dense link between two groups."""
        return self[pair[0]] * len(self.regular_ports(pair)) * self[pair[1]]

    def resized(self, units: Iterable[int]) -> Architecture:
        """The same groups with other numbers of units; those left with none are gone."""
        sizes = list(units)
        stay = [group for group, size in enumerate(sizes) if size > 0]
        return self._of(stay, [sizes[group] for group in stay])

    def with_group(self, position: int, units: int, side: Side, *, flat: bool = False) -> Architecture:
        """With one more group of so many units and this side before group `position`; flat: whether its maps are."""
        sizes, sides = list(self), list(self.sides)
        sizes.insert(position, units)
        sides.insert(position, side)
        flats = [group + (group >= position) for group in self.flat] + [position] * flat
        return Architecture(sizes, sides, self.window, flats)

    def _of(self, groups: Sequence[int], units: Sequence[int]) -> Architecture:
        flat = [place for place, group in enumerate(groups) if group in self.flat]
        return Architecture(units, [self.sides[group] for group in groups], self.window, flat)


def _fitted(size_in: int, size_out: int) -> tuple[int, int]:
    """Stride and first position along one axis.

    The stride that strided convolutions of others have (as many steps as cover the source), or, where the last step
    would lie behind the source, the largest that does not.
    """
    if size_out == 1:
        return 1, (size_in - 1) // 2
    stride = -(-size_in // size_out)
    if (size_out - 1) * stride > size_in - 1:
        stride = (size_in - 1) // (size_out - 1)
    return stride, (size_in - 1 - (size_out - 1) * stride) // 2


def architecture_of(sizes: Sequence[int] | str) -> Architecture:
    """An architecture as it is, a sequence of numbers as that of plain groups, or what a text says (`sizes_of`)."""
    if isinstance(sizes, str):
        return sizes_of(sizes)
    return sizes if isinstance(sizes, Architecture) else Architecture(sizes)


def bias_count(architecture: Sequence[int]) -> int:
    """Units that have a bias: all but the input."""
    return sum(architecture[1:])


def unit_parameters(architecture: Sequence[int], shape_numbers: int = 0) -> int:
    """Parameters that are no connections: biases, and so many numbers of each hidden unit."""
    return bias_count(architecture) + shape_numbers * hidden_units(architecture)


def hidden_units(architecture: Sequence[int]) -> int:
    """Units that are neither input nor output."""
    return sum(architecture[1:-1])


def possible_connections(architecture: Sequence[int]) -> int:
    """Connections of this shape with every neighbouring pair of groups fully connected."""
    shape = architecture_of(architecture)
    return sum(shape.possible(pair) for pair in pairwise(range(len(shape))))


def parameters_dense(architecture: Sequence[int], shape_numbers: int = 0) -> int:
    """Parameters of the fully connected network of this shape."""
    return possible_connections(architecture) + unit_parameters(architecture, shape_numbers)


def density_for(architecture: Sequence[int], parameters: int, shape_numbers: int = 0) -> float:
    """The density at which this shape has so many parameters."""
    own = unit_parameters(architecture, shape_numbers)
    return (parameters - own) / possible_connections(architecture)


def architecture_of_row(row: Mapping[str, Any]) -> Architecture:
    """The architecture that a row of a table tells of."""
    if row.get("sides") is None:
        return Architecture(row["architecture"])
    return Architecture(row["architecture"], row["sides"], row.get("window") or WINDOW, row.get("flat") or ())


def sizes_of(text: str) -> Architecture:
    """`784,100,10`, `784-100-10` or `1@28,8@14,16@7,10`; raises UserError for anything else.

    A group of maps is maps@side or maps@heightxwidth; `flat` behind it lets plain groups read its maps position by
    position. `3x3` behind the input is a window other than 5 × 5.
    """
    sizes: list[int] = []
    sides: list[Side] = []
    flat, window = [], WINDOW
    for part in text.replace("-", ",").split(","):
        found = re.fullmatch(r"\s*(\d+)(?:@(\d+)(?:[x×](\d+))?)?\s*", part)
        if found:
            size, high, wide = found.groups()
            sizes.append(int(size))
            sides.append((int(high or 1), int(wide or high or 1)))
        elif part.strip() == FLAT and sizes:
            flat.append(len(sizes) - 1)
        elif (told := re.fullmatch(r"\s*(\d+)[x×]\1\s*", part)) and len(sizes) == 1:
            window = int(told[1])
        else:
            raise UserError(
                f"architecture is '{text}', but must be sizes such as 784,100,10, or maps@side such as "
                "1@28,8@14,16@7,10"
            )
    return check_architecture(Architecture(sizes, sides, window, flat))


def dashed(architecture: Sequence[int]) -> str:
    """`784-100-10` or `1@28-8@14-16@7-10`: as names and lines have it, and `sizes_of` reads it."""
    return str(architecture_of(architecture)).replace(",", "-")


def plain_form(architecture: Sequence[int]) -> list[int] | str:
    """What `architecture_of` reads, for JSON: numbers, or a text where there are maps."""
    shape = architecture_of(architecture)
    return str(shape) if shape.has_maps else list(shape)


def check_architecture(architecture: Sequence[int]) -> Architecture:
    """The architecture; raises UserError unless it is at least two sizes of 1 or more."""
    sizes = architecture_of(architecture)
    if len(sizes) < 2 or min(sizes) < 1:
        raise UserError(
            f"architecture is '{sizes}', but must be two or more sizes of at least 1, such as 784,100,10"
        )
    return sizes
