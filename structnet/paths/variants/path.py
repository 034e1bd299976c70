"""`path`: 18 slots, stem and decoder among them, and paths from any to any later one, around at most one transition."""

from __future__ import annotations

from structnet.paths.network import Plan, Variant, every_free
from structnet.paths.slots import SlotNetwork, SlotRival, crossed

POSITIONS = 16
TRANSITIONS = (1, 4, 8, 14)
DECODER = POSITIONS + 1  # a slot too: what is added to it, only the decoder reads

PLACES = tuple(
    (source, target)
    for target in range(1, DECODER + 1)
    for source in range(target)
    if crossed((source, target), TRANSITIONS) <= 1
)


def make(plan: Plan) -> SlotNetwork:
    """The backbone."""
    return SlotNetwork(plan, DECODER + 1, TRANSITIONS)


def rival(plan: Plan, factor: float) -> SlotRival:
    """The residual network, with as many blocks as the one of 50 layers of He et al. (2015)."""
    return SlotRival(plan, POSITIONS, TRANSITIONS, factor)


VARIANT = Variant("path", 15, 0.5, PLACES, make, rival, every_free)
