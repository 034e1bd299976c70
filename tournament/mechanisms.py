"""How far the mechanisms of growth got, counted from the tables of tournaments."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any


def mechanism_counts(candidates: Iterable[Mapping[str, Any]]) -> dict[str, Counter[str]]:
    """Action -> how many of its sites were proposed, affordable, in the last heat, ahead, eligible, and won.

    Ahead: of the better control, by two standard errors. candidates: rows of the table; of sites that are too dear
    a round has only the best of each action.
    """
    rows = [row for row in candidates if not row["control"] and not row.get("audit")]
    last: dict[tuple[str, int], int] = defaultdict(int)
    for row in rows:
        place = row["trial"], row["round"]
        last[place] = max(last[place], row["heat"])
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        count = counts[row["action"]]
        if row["heat"] == 1:
            count["proposed"] += 1
            count["affordable"] += row["affordable"]
        if row["affordable"] and row["heat"] == last[row["trial"], row["round"]]:
            count["last heat"] += 1
            gain, error = row["gain"], row["gain_se"]
            count["ahead"] += gain is not None and gain > 2 * error
        count["eligible"] += row["eligible"]
        count["won"] += row["won"]
    return dict(counts)


def plateaus(rounds: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """In how many rounds the plateau trigger fired, and in how many it was asked. rounds: rows of the table."""
    asked = [row["triggered_by"] for row in rounds if row["triggered_by"]]
    return asked.count("plateau"), len(asked)
