"""What the strategies came to, in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from search.session.console import Console
from search.session.tables import table_of
from structnet.heads.strategies import NONE, TOURNAMENT
from structnet.measure.statistics import paired_lead, shown_with_spread

Row = Mapping[str, Any]
WIDTH = 170  # of the table, where there is no terminal

TEXTS = ("removed", "strategy")
NUMBERS = (
    "test loss",
    "test, %",
    "pruned",
    "final",
    "recovery",
    "heads",
    "parameters",
    "steps",
    "seconds",
    "loss against",
)


def level_of(row: Row) -> str:
    """As a share of all heads."""
    return f"{row['level']:.0%}"


def first_of(rows: Sequence[Row]) -> str:
    """The strategy that the others are compared with: the tournament, or the first that removes heads."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    others = [method for method in methods if method != NONE]
    return TOURNAMENT if TOURNAMENT in methods else (others or methods)[0]


def settings_of(rows: Sequence[Row]) -> list[tuple[float, str, list[Row]]]:
    """Level, strategy and rows, the control first, then by level in the order of the strategies."""
    keys = sorted(dict.fromkeys((row["level"], row["method"]) for row in rows), key=lambda key: key[0])
    order = list(dict.fromkeys(row["method"] for row in sorted(rows, key=lambda row: row["trial"])))
    keys.sort(key=lambda key: (key[0], order.index(key[1])))
    return [
        (level, method, [row for row in rows if (row["level"], row["method"]) == (level, method)])
        for level, method in keys
    ]


def lead_over(mine: Sequence[Row], first: Sequence[Row]) -> str:
    """The test loss above that of the first strategy, paired over rng_seeds, in nats with a 95 % interval."""
    values, its = ({row["rng_seed"]: row["test_loss"] for row in some} for some in (mine, first))
    lead = paired_lead(values, its)
    if lead is None:
        return ""
    return lead.shown(digits=3) if np.isfinite(lead.low) else f"{lead.mean:+.3f}"


def recovery_of(rows: Sequence[Row]) -> str:
    """Of the loss that pruning added, the share that is gone again, of the mean losses; nothing where it added none."""
    known = [row for row in rows if row["pruned_loss"] is not None]
    if not known:
        return ""
    baseline, pruned, final = (
        float(np.mean([row[name] for row in known])) for name in ("baseline_loss", "pruned_loss", "loss")
    )
    return f"{(pruned - final) / (pruned - baseline):.2f}" if pruned > baseline else ""


def cells_of(rows: Sequence[Row]) -> list[list[str]]:
    """A line for every level and strategy, in the order of TEXTS and NUMBERS."""
    lines, first = [], first_of(rows)
    settings = settings_of(rows)
    compared = {level: mine for level, method, mine in settings if method == first}
    for level, method, mine in settings:
        pruned = [row["pruned_loss"] for row in mine if row["pruned_loss"] is not None]
        lines.append(
            [
                level_of(mine[0]),
                method,
                shown_with_spread([row["test_loss"] for row in mine], digits=3),
                shown_with_spread([row["test_accuracy"] for row in mine], scale=100, digits=2),
                f"{np.mean(pruned):.3f}" if pruned else "",
                f"{np.mean([row['loss'] for row in mine]):.3f}",
                recovery_of(mine),
                f"{np.mean([row['heads'] for row in mine]):g}",
                f"{np.mean([row['parameters'] for row in mine]):,.0f}",
                f"{np.mean([row['steps'] for row in mine]):.0f}",
                f"{np.mean([row['seconds'] for row in mine]):.1f}",
                "" if method == first else lead_over(mine, compared.get(level, [])),
            ]
        )
    return lines


def sentences_of(rows: Sequence[Row]) -> list[str]:
    """How the first strategy stands against each other one, a line each: of both the mean over the levels.

    Paired over rng_seeds; the intervals of all lines hold together at 95 %.
    """
    first = first_of(rows)
    others = [
        method for method in dict.fromkeys(row["method"] for row in rows) if method not in (first, NONE)
    ]
    its, found = by_seed(rows, first), []
    for method in others:
        lead = paired_lead(its, by_seed(rows, method), comparisons=len(others))
        if lead is None:
            continue
        if not np.isfinite(lead.low):
            found.append(f"{first} against {method}: {lead.mean:+.4f} nats of test loss, of one rng_seed")
            continue
        word = "better" if lead.is_below_zero else "worse" if lead.is_above_zero else "not shown to differ"
        found.append(
            f"{first} against {method}: {lead.shown(digits=4, named=True)} nats of test loss: {word}"
        )
    return found


def by_seed(rows: Sequence[Row], method: str) -> dict[int, float]:
    """rng_seed -> the mean test loss over the levels."""
    losses: dict[int, list[float]] = {}
    for row in rows:
        if row["method"] == method:
            losses.setdefault(row["rng_seed"], []).append(row["test_loss"])
    return {seed: float(np.mean(values)) for seed, values in losses.items()}


def print_results(rows: Sequence[Row], console: Console) -> None:
    """The table, and what its columns mean."""
    table = table_of(TEXTS, NUMBERS)
    for cells in cells_of(rows):
        table.add_row(*cells)
    console.show(table, WIDTH)
    console.say(
        "Losses in nats. Pruned and final: on validation data, before and after training on. Recovery: of the loss "
        "that pruning added, the share that is gone again. Steps: that train. Last column: test loss above that of "
        f"{first_of(rows)}, paired over rng_seeds with a 95 % interval. All spend the same steps: what is tried out "
        "or scored trains less."
    )
    for line in sentences_of(rows):
        console.say(line)
