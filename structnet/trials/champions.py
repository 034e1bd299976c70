"""What makes a small network worth growing, and which of many to keep: pure functions of table rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

MARGIN = 0.1  # above chance, from which on a network counts as having learned
# On digits, in ten repetitions set aside for it, this kept every champion and saved a seventh of the cost; half of
# the rows from the first epoch on, as is usual, lost some champion in nine of ten.
CULLED_AT = (0.4, 0.6)  # shares of the training
SURVIVING_SHARE, LEAST_SURVIVORS = 0.25, 4


def efficiency(accuracy: float, chance: float, parameters: int) -> float:
    """Accuracy above chance per parameter."""
    return (accuracy - chance) / parameters


def openness(saturated: int, dead: int, hidden_units: int, accuracy: float) -> float | None:
    """Share of the hidden units that are saturated or dead × what is left to learn; None without hidden units."""
    return (saturated + dead) / hidden_units * (1 - accuracy) if hidden_units else None


def patchability(
    saturated: int, dead: int, hidden_units: int, accuracy: float, chance: float
) -> float | None:
    """`openness`, but None for a network that has not learned: one at chance would have the most of it."""
    return openness(saturated, dead, hidden_units, accuracy) if accuracy >= chance + MARGIN else None


CRITERIA = ("accuracy", "efficiency", "patchability")


def best(rows: Iterable[dict[str, Any]], criterion: str) -> dict[str, Any] | None:
    """The row with the most of it; of equals the one of least loss, then fewest parameters, then first by name."""
    known = [row for row in rows if row[criterion] is not None and math.isfinite(row[criterion])]
    return min(known, key=lambda row: _order(row, criterion), default=None)


def champions(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, float | None], dict[str, Any]]:
    """(criterion, density or None for all) -> the best row."""
    groups: dict[float | None, Sequence[dict[str, Any]]] = {None: rows}
    for density in sorted({row["density"] for row in rows}):
        groups[density] = [row for row in rows if row["density"] == density]
    found = {
        (criterion, density): best(group, criterion)
        for criterion in CRITERIA
        for density, group in groups.items()
    }
    return {place: row for place, row in found.items() if row is not None}


def survivors(rows: Sequence[dict[str, Any]]) -> list[int]:
    """Successive halving (Jamieson & Talwalkar 2016) by all criteria at once: positions of the rows that go on.

    A row goes on if it is in the best quarter of the rows by any criterion, or among the best four. Patchability
    is taken without its condition, as `openness`: what has not learned yet may still do so.
    """
    room = max(LEAST_SURVIVORS, math.ceil(SURVIVING_SHARE * len(rows)))
    kept: set[int] = set()
    for criterion in ("accuracy", "efficiency", "openness"):
        known = [index for index, row in enumerate(rows) if row[criterion] is not None]
        kept.update(sorted(known, key=lambda index: _order(rows[index], criterion))[:room])
    return sorted(kept)


def is_culling_epoch(epoch: int, epochs: int) -> bool:
    """Whether networks are culled after this epoch of so many."""
    return epoch < epochs and epoch in {math.ceil(share * epochs) for share in CULLED_AT}


def _order(row: dict[str, Any], criterion: str) -> tuple[Any, ...]:
    return -row[criterion], row["loss"], row["parameters"], row["network"]
