"""`shuffle`: 38 positions, in each but the transitions room for one path, from the slot before; it moves on and on.

A path comes where none has ever been, or, when there is no such place any more, where none has been for longest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from structnet.paths.network import Place, Plan, Variant
from structnet.paths.slots import SlotNetwork, SlotRival

POSITIONS = 38
TRANSITIONS = (1, 8, 18, 34)

PLACES = tuple((slot - 1, slot) for slot in range(1, POSITIONS + 1) if slot not in TRANSITIONS)


def make(plan: Plan) -> SlotNetwork:
    """The backbone, with a fixed bottleneck behind each transition."""
    return SlotNetwork(plan, POSITIONS + 1, TRANSITIONS, has_fixed=True)


def rival(plan: Plan, factor: float) -> SlotRival:
    """The residual network."""
    return SlotRival(plan, POSITIONS, TRANSITIONS, factor)


def longest_unused(free: Sequence[Place], emptied: Mapping[Place, int], count: int) -> list[Place]:
    """All that were never used; if these are too few, also those that were emptied first, up to the count."""
    never = [place for place in free if place not in emptied]
    others = sorted((place for place in free if place in emptied), key=lambda place: (emptied[place], place))
    return never + others[: max(0, count - len(never))]


VARIANT = Variant("shuffle", 15, 0.5, PLACES, make, rival, longest_unused)
