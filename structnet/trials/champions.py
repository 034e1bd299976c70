"""What makes a small network worth growing, and which of many to keep: pure functions of table rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

MARGIN = 0.1  # above chance, from which on a network counts as having learned
# On digits, in ten repetitions set aside for it, this kept 142 of 143 champions, every patchable one among them, and
# saved a seventh of the cost. Half of the rows at epochs 1, 2, 4, 8, 16, as is usual, lost some in each repetition.
CULLED_AT = (0.4, 0.6)  # shares of the training
SURVIVING_SHARE, LEAST_SURVIVORS = 0.25, 4


def efficiency(accuracy: float, chance: float, parameters: int) -> float:
    """Accuracy above chance per parameter."""
    return (accuracy - chance) / parameters


def patchability(
    saturated: int, dead: int, hidden_units: int, accuracy: float, chance: float
) -> float | None:
    """Share of the hidden units that are saturated or dead × what is left to learn, as the source has it.

    None without hidden units, and for a network that has not learned: one at chance would have the most of it.
    """
    if not hidden_units or accuracy < chance + MARGIN:
        return None
    return (saturated + dead) / hidden_units * (1 - accuracy)


CRITERIA = ("accuracy", "efficiency", "patchable")
JUDGED_BY = ("accuracy", "efficiency", "patchability")  # the columns that `amount` reads


def amount(row: dict[str, Any], criterion: str) -> float | None:
    """How much a row has of a criterion, more being better; None where it cannot be judged by it.

    patchable: the error 1 - accuracy, of networks with hidden units that have learned, which are those with a
    patchability. `structnet study patchability` finds that what a patch gains follows the error more closely than the
    patchability, and no less than the gain that gradients of absent connections predict, which costs a backward pass.
    """
    if criterion == "patchable":
        return None if row["patchability"] is None else 1 - row["accuracy"]
    value: float | None = row[criterion]
    return value


def best(rows: Iterable[dict[str, Any]], criterion: str) -> dict[str, Any] | None:
    """The row with the most of it; of equals the one of least loss, then fewest parameters, then first by name."""
    listed = list(rows)
    ranked = _ranked(listed, criterion)
    return listed[ranked[0]] if ranked else None


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


def survivors(rows: Sequence[dict[str, Any]], chance: float) -> list[int]:
    """Successive halving (Jamieson & Talwalkar 2016) by all criteria at once: positions of the rows that go on.

    A row goes on if it is in the best quarter of the rows by any criterion, or among the best four, or if it may
    become patchable (`_is_learning`). chance: accuracy of guessing.
    """
    room = max(LEAST_SURVIVORS, math.ceil(SURVIVING_SHARE * len(rows)))
    kept = {index for index, row in enumerate(rows) if _is_learning(row, chance)}
    for criterion in CRITERIA:
        kept.update(_ranked(rows, criterion)[:room])
    return sorted(kept)


def _is_learning(row: dict[str, Any], chance: float) -> bool:
    """Whether it has hidden units and is above chance, but not yet by the margin.

    The most patchable network of the end is one that has only just learned, so on the way it mostly is one of these.
    """
    return bool(row["hidden_units"]) and chance < row["accuracy"] < chance + MARGIN


def is_culling_epoch(epoch: int, epochs: int) -> bool:
    """Whether networks are culled after this epoch of so many."""
    return epoch < epochs and epoch in {math.ceil(share * epochs) for share in CULLED_AT}


def _ranked(rows: Sequence[dict[str, Any]], criterion: str) -> list[int]:
    """Positions of the rows that can be judged by it, best first."""
    order = {
        index: (-value, row["loss"], row["parameters"], row["network"])
        for index, row in enumerate(rows)
        if (value := amount(row, criterion)) is not None and math.isfinite(value)
    }
    return sorted(order, key=order.__getitem__)
