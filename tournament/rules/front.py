"""The front: what every size is worth, which of its networks to take, and how far that choice flatters itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from structnet.seeds import stream
from tournament.rules.goal import Target
from tournament.rules.sizes import Visit, information_by_size

HALVES = 200  # ways to cut the validation images in two


def smallest_holding(visits: Sequence[Visit]) -> Visit | None:
    """The one of fewest parameters that holds the target; of equal ones the one of most information."""
    holding = [visit for visit in visits if visit.holds]
    return min(holding, key=lambda visit: (visit.parameters, -visit.information), default=None)


def nearest(visits: Sequence[Visit]) -> Visit:
    """The one that lacks least of the target."""
    return min(visits, key=lambda visit: (visit.error, visit.parameters))


def knee(visits: Sequence[Visit], bits: float) -> Visit:
    """The size from which on a doubling gains less than so many bits; of its networks the one of most information."""
    best = information_by_size(visits)
    sizes = sorted(best, reverse=True)
    found = sizes[0]
    for smaller in sizes[1:]:
        if best[found] - best[smaller] >= bits * math.log2(found / smaller):
            break
        found = smaller
    return next(visit for visit in visits if visit.size == found and visit.information == best[found])


def undominated(rows: Sequence[dict[str, Any]], by: str = "information") -> list[dict[str, Any]]:
    """Rows of the fronts table than which no smaller one is as good by this column, smallest first.

    The one that was chosen is among them, by whatever figure it was.
    """
    found: list[dict[str, Any]] = []
    best = -math.inf
    for row in sorted(rows, key=lambda row: (row["parameters"], -row[by])):
        if row[by] > best or row["chosen"]:
            found.append(row)
        best = max(best, row[by])
    return found


def size_it_would_take(visits: Sequence[Visit]) -> int | None:
    """Parameters at which the target would hold, from a power law through the two largest sizes.

    None where the larger is not better, or the error allowed is none.
    """
    best: dict[int, float] = {}
    for visit in visits:
        best[visit.size] = min(visit.error, best.get(visit.size, math.inf))
    sizes = sorted(best)[-2:]
    if len(sizes) < 2 or not 0 < best[sizes[1]] < best[sizes[0]] < math.inf:
        return None
    slope = math.log(best[sizes[0]] / best[sizes[1]]) / math.log(sizes[1] / sizes[0])
    doublings = math.log2(best[sizes[1]]) / slope
    return round(sizes[1] * 2**doublings) if doublings < 20 else None


def shortfall(
    right: np.ndarray, bits: np.ndarray, labels: np.ndarray, parameters: Sequence[int], target: Target
) -> float | None:
    """By how much the figure of the smallest network that holds is likely to be better here than on fresh images.

    right, bits: (networks, images) of all that were looked at. The images are cut in two at random, again and again:
    one half chooses, the other confirms. Where σ is the error of the choice on all images, that on half of them is
    √2 σ, and so is what the choice flatters itself by. None where no half finds a network that holds.
    """
    order, images = np.argsort(parameters, kind="stable"), len(labels)
    rng = stream(0, "halves")
    found: list[float] = []
    for _ in range(HALVES):
        cut = rng.permutation(images)
        choosing, confirming = cut[: images // 2], cut[images // 2 :]
        for network in order:
            here = target.found(right[network, choosing], bits[network, choosing], labels[choosing])
            if target.error(here) <= 1:
                fresh = target.found(
                    right[network, confirming], bits[network, confirming], labels[confirming]
                )
                found.append(here - fresh if target.rises else fresh - here)
                break
    return float(np.mean(found)) / math.sqrt(2) if found else None
