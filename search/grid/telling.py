"""What the stories of many networks have in common: chance, how networks ended, curves over epochs, lines to copy."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from search.report.blocks import Block, Table, Text
from structnet.measure.statistics import ConfidenceInterval, mean_and_spread

Row = Mapping[str, Any]
MOST_POINTS = 3000  # of a chart
MOST_ROWS = 5000  # of a table
ENDED = ("finished", "culled", "failed")


def chance_of(rows: Iterable[Row]) -> float | None:
    """Accuracy of always saying the commonest class, as rows of `networks` tell it; None where none does.

    Rows of before the column `majority` have it in their efficiency, which is accuracy above chance per parameter.
    """
    found = None
    for row in rows:
        if row["majority"] is not None:
            return float(row["majority"])
        if found is None and None not in (row["accuracy"], row["efficiency"], row["parameters"]):
            found = row["accuracy"] - row["efficiency"] * row["parameters"]
    return None if found is None else round(found, 9)


def finished(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows of networks that were trained to their end, and have an accuracy."""
    return [dict(row) for row in rows if row["status"] == "finished" and row["accuracy"] is not None]


def tally(rows: Sequence[Row]) -> str:
    """How many networks ended in which way: `40 finished, 6 culled, 1 failed`."""
    counts = Counter(row["status"] for row in rows)
    return ", ".join(f"{counts[status]:,} {status}" for status in ENDED if counts[status])


def so_far(status: str, ended: int, planned: int) -> str:
    """The sentence that a story begins with while it is not whole; nothing for one that is finished."""
    if status == "finished":
        return ""
    of = f" of {planned:,}" if planned >= ended and planned else ""
    begins = {"running": "Running", "failed": "Failed", "interrupted": "Interrupted"}.get(status, "Not whole")
    return f"{begins}: {ended:,}{of} networks have ended. "


def failures(rows: Iterable[Row]) -> list[Block]:
    """Why networks failed, the commonest reason first; nothing where none did."""
    reasons: dict[str, list[Row]] = {}
    for row in rows:
        if row["status"] == "failed":
            reasons.setdefault(row["error"] or "no reason is known", []).append(row)
    if not reasons:
        return []
    found = sorted(reasons.items(), key=lambda reason: (-len(reason[1]), reason[0]))
    table = Table(
        ("why", "networks", "such as"), [(why, len(mine), mine[0]["network"]) for why, mine in found]
    )
    return [Text("Networks that failed, which every mean here leaves out:"), table]


def with_spread(values: Sequence[float], style: str = ".1%") -> str:
    """Mean ± standard deviation of several numbers, one alone as it is; empty without any."""
    if not values:
        return ""
    mean, spread = mean_and_spread(values)
    return format(mean, style) + (f" ± {spread:{style}}" if len(values) > 1 else "")


def means(rows: Iterable[Row], by: str, x: str, y: str) -> list[dict[str, Any]]:
    """Of the rows that are alike in `by` and x the mean of y, with `spread`, `low`, `high` (a spread each way), `n`.

    In the order in which `by` comes, and of x. Rows without a y are left out.
    """
    groups: dict[Any, dict[Any, list[float]]] = {}
    for row in rows:
        if row[y] is not None:
            groups.setdefault(row[by], {}).setdefault(row[x], []).append(row[y])
    found = []
    for name, values in groups.items():
        for place in sorted(values):
            mean, spread = mean_and_spread(values[place])
            numbers = {"spread": spread, "low": mean - spread, "high": mean + spread, "n": len(values[place])}
            found.append({by: name, x: place, y: mean, **numbers})
    return found


def thinned(
    rows: Sequence[dict[str, Any]], most: int = MOST_POINTS, keep: Callable[[Row], bool] = lambda row: False
) -> list[dict[str, Any]]:
    """At most so many rows, at equal distances in their order, and all that are to be kept."""
    if len(rows) <= most:
        return list(rows)
    step = len(rows) / most
    chosen = {int(number * step) for number in range(most)}
    return [row for place, row in enumerate(rows) if place in chosen or keep(row)]


def said_thinned(shown: int, every: int) -> str:
    """What the caption of a chart says where not all are shown."""
    return f" Of {every:,} networks {shown:,} are shown, at equal distances." if shown < every else ""


def lead_row(arm: str, lead: ConfidenceInterval, n: int, scale: float = 100.0) -> dict[str, Any]:
    """A row for search.report.charts.leads: in points, without an interval where there is but one pair."""
    mean, low, high = (scale * value if abs(value) != float("inf") else None for value in lead)
    return {"arm": arm, "lead": mean, "low": low, "high": high, "n": n}


def on_data(config: Mapping[str, Any]) -> str:
    """The options of a command that say which data, as they stand on its line; with a space before them."""
    words: list[str] = []
    for name in ("dataset", "data_dir", "label", "size"):
        if config.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", shlex.quote(str(config[name]))]
    if config.get("standardise") is not None:
        words.append("--standardise" if config["standardise"] else "--no-standardise")
    if config.get("balance"):
        words.append("--balance")
    if config.get("dataset") == "teacher" and config.get("teacher_seed"):
        words += ["--teacher-seed", str(config["teacher_seed"])]
    return "".join(f" {word}" for word in words)


def query(records_where: str, sql: str) -> str:
    """A line that asks the tables; sql without double quotes."""
    return f'structnet query "{sql}"{records_where}'


def numbers_of(config: Mapping[str, Any], name: str) -> list[float]:
    """The numbers of an option that is a list in a text; none where it is something else."""
    try:
        return [float(part) for part in str(config.get(name) or "").replace(",", " ").split()]
    except ValueError:
        return []
