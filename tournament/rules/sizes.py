"""Which size a network is given next, on the way to the smallest that does its job. Pure functions of what was found.

From a size that holds the next is told by how much better it is than it has to be, and is half of it at least; from one
that misses, the step to the smallest that held is halved. Each size begins where the one before ended, so those that
come later have been trained for longer: a size that misses by little, and the first one, get a second try, and what
missed before another held does not count any more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

NEAR = 0.04  # a miss by less than this share of the allowed error is tried again
BOLD = 0.7  # share of a size that held at which the next is asked for at most
WORTH_A_STEP = 1.05  # sizes that differ by less are not told apart
# How the error falls with the size, as a power: MNIST .5 to .8, digits 1.3. Told from sizes WIDE apart or more.
FLATTEST, USUAL, STEEPEST, WIDE = 0.5, 0.75, 1.5, 1.4
PROGRESS = 0.8  # of the miss that must be left at most when the size is doubled, or no size will do
ALMOST = 1.5  # of the error that is allowed: up to there a target is almost held


@dataclass(frozen=True)
class Visit:
    """A size that was reached and annealed.

    round: whose snapshot it is. size: parameters asked for; parameters: what it has. information: bits on validation.
    error: of the figure of the target, as a share of the error that it allows; 0 without a target.
    """

    round: int
    size: int
    parameters: int
    information: float
    error: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the target holds; always without one."""
        return self.error <= 1

    @property
    def miss(self) -> float:
        """What lacks, as a share of the error that is allowed."""
        return max(0.0, self.error - 1)


@dataclass(frozen=True)
class Sizes:
    """What bounds the search: where it starts, and the least and the most parameters that it may ask for."""

    start: int
    least: int
    most: int


def next_for_target(visits: Sequence[Visit], sizes: Sizes) -> int | None:
    """The next size on the way to the smallest that holds the target; None where no step is worth it any more."""
    if not visits:
        return sizes.start
    holding = [visit for visit in visits if visit.holds]
    if not holding:
        return _upwards(visits, sizes)
    held = min(reversed(holding), key=lambda visit: visit.size)
    # What missed before had been trained for less.
    missed = visits[visits.index(held) + 1 :]
    if not missed:
        untried = not any(visit.error > 1 and visit.size < held.size for visit in visits)
        share = 0.5 if untried else _promised(held, visits)
        return _unless(held.size, max(sizes.least, round(share * held.size)))
    last = missed[-1]
    if last.miss < NEAR and _tries(missed, last.size) == 1:
        return last.size
    most = max(visit.size for visit in missed)
    between = round(math.sqrt(held.size * most))
    return between if held.size > WORTH_A_STEP**2 * most and between > most else None


def _promised(held: Visit, visits: Sequence[Visit]) -> float:
    """The share of the size that held at which the error would be what is allowed, by a power law.

    From a half to BOLD of it. The exponent is that between it and the best of the larger sizes, within what is seen of
    such networks.
    """
    slopes = [
        math.log(held.error / other.error) / math.log(other.size / held.size)
        for other in visits
        if other.size > WIDE * held.size and 0 < other.error < held.error
    ]
    slope = min(STEEPEST, max(FLATTEST, *slopes)) if slopes else USUAL
    return float(min(BOLD, max(0.5, held.error ** (1 / slope))))


def _upwards(visits: Sequence[Visit], sizes: Sizes) -> int | None:
    """Where nothing holds yet: again, then twice the size while that brings the target nearer.

    Then half of the first, and so on while that does: where there is little to learn from, smaller networks may be
    better, and at the limit two sizes show what it would take.
    """
    largest, smallest, last = max(map(_size, visits)), min(map(_size, visits)), visits[-1]
    if last.size == largest:
        if _tries(visits, largest) == 1:
            return largest
        before = [visit.miss for visit in visits if visit.size < largest]
        nearer = not before or min(visit.miss for visit in visits) <= PROGRESS * min(before)
        if nearer and largest < sizes.most:
            return min(sizes.most, 2 * largest)
    larger = [visit.error for visit in visits if visit.size > smallest]
    if last.size == smallest and larger and last.error >= min(larger):
        return None
    return _unless(smallest, max(sizes.least, smallest // 2))


def almost(visits: Sequence[Visit]) -> Visit | None:
    """Where the path to a target would end and nothing holds: the closest, if it is worth a long phase; else None.

    Below a size that holds a long phase is no help: MNIST, 98 %, 5 rng_seeds, the same sizes for a quarter more.
    """
    closest = min(visits, key=lambda visit: (visit.error, visit.parameters), default=None)
    return closest if closest and 1 < closest.error < ALMOST else None


def next_for_knee(visits: Sequence[Visit], sizes: Sizes, bits: float) -> int | None:
    """The next size on the way to the knee: the size from which on a doubling gains less than so many bits.

    Sizes are halved until a halving loses more; where the first one does, they are doubled until a doubling gains less.
    """
    if len(visits) < 2:
        return sizes.start
    known = information_by_size(visits)
    by_size = sorted(known)
    smallest, largest = by_size[0], by_size[-1]
    if smallest == sizes.start:
        return _unless(smallest, max(sizes.least, smallest // 2))
    if largest == sizes.start:
        if known[by_size[1]] - known[smallest] < bits * math.log2(by_size[1] / smallest):
            return _unless(smallest, max(sizes.least, smallest // 2))
        if by_size[1] < largest:
            return None
    elif known[largest] - known[by_size[-2]] < bits * math.log2(largest / by_size[-2]):
        return None
    return _unless(largest, min(sizes.most, 2 * largest))


def next_of(visits: Sequence[Visit], wanted: Sequence[int]) -> int | None:
    """The next of the sizes that were asked for by name, the largest first and twice; None after the last."""
    largest_first = sorted(wanted, reverse=True)
    in_turn = largest_first[:1] + largest_first
    return in_turn[len(visits)] if len(visits) < len(in_turn) else None


def information_by_size(visits: Sequence[Visit]) -> dict[int, float]:
    """The most information that was found at every size."""
    best: dict[int, float] = {}
    for visit in visits:
        best[visit.size] = max(visit.information, best.get(visit.size, -math.inf))
    return best


def _size(visit: Visit) -> int:
    return visit.size


def _tries(visits: Sequence[Visit], size: int) -> int:
    return sum(visit.size == size for visit in visits)


def _unless(size: int, other: int) -> int | None:
    return None if other == size else other
