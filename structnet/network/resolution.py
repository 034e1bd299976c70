"""The network with maps of other sides: what taps mean stays, where they look follows from the sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from structnet.network.architecture import Architecture, Side
from structnet.network.edit import Edit
from structnet.network.network import StructNet
from structnet.network.topology import Topology


def with_sides(network: StructNet, sides: Sequence[Side]) -> Edit:
    """The network whose groups have these sides, none larger than before.

    Taps keep their offsets, and strides follow from the sides. What read one position of a flat map reads the position
    that this lies in; connections that come to read the same one become one, whose value is their sum. Statistics stay
    what they were. Raises ValueError if a group of maps would become plain, as then taps have no window to lie in.
    """
    before = network.topology
    old = before.architecture
    shape = Architecture(old, sides, old.window, old.flat)
    if any(shape.is_plain(group) != old.is_plain(group) for group in range(len(old))):
        raise ValueError(
            f"sides of {old} are to be {list(sides)}, but maps of more than one position have to stay so"
        )
    nothing = np.empty(0, dtype=np.int32)
    source = Topology(shape, nothing, nothing).port_of(before.source_unit, _codes(before, shape))
    ends, first, place = np.unique(
        source.astype(np.int64) * before.units + before.target, return_index=True, return_inverse=True
    )
    flat = network.values.detach().cpu().double().numpy()
    values = np.bincount(place, weights=flat[: before.connections], minlength=len(ends))
    topology, order = Topology.sorted(shape, ends // before.units, ends % before.units, before.shape_numbers)
    behind = np.arange(before.connections, before.parameters)
    return Edit(
        network.like(topology, np.concatenate([values[order], flat[behind]]), network.statistics),
        np.concatenate([first[order], behind]),
        np.arange(before.units),
        before.parameters,
    )


def halved(architecture: Architecture, group: int) -> list[Side] | None:
    """Sides with maps of a hidden group of half the height and width, rounded up, and none behind it that are larger.

    None if maps would have a single position then.
    """
    high, wide = ((size + 1) // 2 for size in architecture.sides[group])
    sides = [
        side if number < group else (min(side[0], high), min(side[1], wide))
        for number, side in enumerate(architecture.sides)
    ]
    lost = [(1, 1) == side != before for side, before in zip(sides, architecture.sides)]
    return None if any(lost) else sides


def _codes(before: Topology, shape: Architecture) -> np.ndarray:
    """(connections,) codes of the ports that connections start at; those of positions follow the sides."""
    code, first = before.code_of_port(before.source).copy(), shape.window**2 + 1
    group = before.group_of(before.source_unit)
    for number in shape.flat:
        here = np.flatnonzero((group == number) & (code >= first))
        (old_high, old_wide), (high, wide) = before.architecture.sides[number], shape.sides[number]
        row, column = np.divmod(code[here] - first, old_wide)
        code[here] = first + row * high // old_high * wide + column * wide // old_wide
    return code
