"""Which shapes compete: the hidden groups of a seed, and others around it.

Between networks of more of the same - connections that growth places by gradient or at random - a short training hardly
tells, and pruning decides without asking. Between shapes it tells.
"""

from __future__ import annotations

from collections.abc import Sequence

from structnet.network.architecture import Architecture
from tournament.rules.score import Gain

# What is taken where nothing is known; a seed of another width has to be surely better than it.
USUAL, USUAL_MOVE = (100,), "usual"
NARROW_MOVE = "narrow"
FACTOR = 3
SETTLED = "settled"  # the move of a shape that was not beaten
ALIKE = 2.0  # widths within this factor of each other are not both tried

Shape = tuple[int, ...]


def usual_of(architecture: Architecture) -> Shape | None:
    """The hidden groups to take where nothing is known; None where they are maps, of which no shape is usual."""
    return None if architecture.has_maps else USUAL


def challengers(hidden: Shape, last: str = "", usual: Shape | None = USUAL) -> dict[str, Shape]:
    """Move -> hidden groups, for the shape of now. last: the move that led to it; empty for a seed.

    From a seed: `wide` and `narrow`; where its width is far from the usual one, only `usual`. After `wide` and `usual`
    the next wider one. Narrow networks learn faster than they end, so after `narrow` there is nothing, as where none
    was better. Deeper ones were surely better nowhere: the teacher, the digits and MNIST lose by a second hidden
    group.
    """
    wide = tuple(FACTOR * units for units in hidden)
    narrow = tuple(max(2, units // FACTOR) for units in hidden)
    if last:
        found = {"wide": wide} if last in ("wide", USUAL_MOVE) else {}
    elif usual is None or any(_alike(usual, shape) for shape in (hidden, wide, narrow)):
        found = {"wide": wide, NARROW_MOVE: narrow}
    else:
        found = {USUAL_MOVE: usual}
    return {move: shape for move, shape in found.items() if shape != hidden}


def reference(architecture: Architecture) -> Architecture:
    """The shape that sizes and costs are reckoned from: that of the seed, or the usual one where that is far off."""
    hidden = tuple(architecture[1:-1])
    offered = challengers(hidden, usual=usual_of(architecture))
    return with_hidden(architecture, offered.get(USUAL_MOVE, hidden))


def with_hidden(architecture: Architecture, hidden: Sequence[int]) -> Architecture:
    """The architecture with these hidden groups; maps keep their sides, and are as many groups."""
    sizes = (architecture[0], *hidden, architecture[-1])
    return architecture.resized(sizes) if architecture.has_maps else Architecture(sizes)


def proves(move: str, now: Gain, in_the_end: Gain, z: float) -> bool:
    """Whether a shape takes the place of another: it is surely better, or the usual one and not surely worse.

    What is narrow learns fast and ends worse, so it has to be better in the end too, if leads go on as they went. The
    lead of what is wide rises: asked for both, none is adopted on a table where three times the width brings 1.8
    points, and seven of eight where it has to be better now.
    """
    if move == USUAL_MOVE:
        return in_the_end.upper(z) > 0
    return (min(now.lower(z), in_the_end.lower(z)) if move == NARROW_MOVE else now.lower(z)) > 0


def _alike(one: Shape, other: Shape) -> bool:
    return len(one) == len(other) and all(
        max(a, b) <= ALIKE * min(a, b) for a, b in zip(one, other, strict=True)
    )
