"""What the methods reached, in a table and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from search.session.console import Console
from search.session.tables import table_of
from structnet.experiments.error_curve import Gap, Point, gap_between
from structnet.measure.statistics import paired_lead, shown_with_spread
from structnet.network.architecture import bias_count, possible_connections

Rows = Sequence[Mapping[str, Any]]


def print_results(rows: Rows, console: Console) -> None:
    """A line for every size and method, mean and spread over the rng_seeds that did not diverge."""
    titles = (
        "test accuracy",
        "chosen on validation",
        "best on test",
        "rng_seeds",
        "parameters (connections)",
        "million parameter-steps",
        "billion multiply-adds",
        "seconds",
    )
    table = table_of(("at most", "method"), titles)
    sizes = sorted({row["max_parameters"] for row in rows})
    methods = methods_of(rows)
    for size in sizes:
        for method in methods:
            mine = [row for row in finished(rows, method) if row["max_parameters"] == size]
            table.add_row(f"{size:,}" if method == methods[0] else "", method, *_cells(mine))
    console.show(table)
    console.say(
        "Accuracy on test: after the last epoch; after the epoch that is best on validation; and, as some papers "
        "report it, after the one that is best on test, which is too high."
    )
    if failed := [row for row in rows if row["status"] != "finished"]:
        console.say(
            f"training diverged for {len(failed)} of {len(rows)} networks, which are left out: lower --learning-rate"
        )


def print_gaps(rows: Rows, console: Console) -> None:
    """How far each method's curve of error against size lies above that of the first; of one size, its accuracy."""
    first, *others = methods_of(rows)
    has_curves = len({row["max_parameters"] for row in rows}) > 1
    for method in others:
        if not has_curves:
            console.say(compared(rows, method, first))
            continue
        gap = gap_between(curves_of(rows, method), curves_of(rows, first))
        if gap is None:
            console.say(
                f"{method} against {first}: no two sizes that both reach, so there is no area to compare"
            )
            continue
        console.say(described(method, first, gap))


def compared(rows: Rows, method: str, first: str) -> str:
    """One line on networks of one size: accuracy on test after the last epoch, paired over rng_seeds."""
    mine, its = (
        {row["rng_seed"]: row["test_accuracy"] for row in finished(rows, name)} for name in (method, first)
    )
    lead = paired_lead(mine, its)
    if lead is None:
        return f"{method} against {first}: no rng_seed of which both ended, so there is nothing to compare"
    both = len(mine.keys() & its.keys())
    shown = lead.shown(scale=100, named=True) if both > 1 else f"{100 * lead.mean:+.2f}"
    return f"{method} against {first}: {shown} points of test accuracy, {both} rng_seeds"


def methods_of(rows: Rows) -> list[str]:
    """The methods, in the order of the rows."""
    return list(dict.fromkeys(row["method"] for row in rows))


def finished(rows: Rows, method: str) -> list[Mapping[str, Any]]:
    """The rows of a method that did not diverge."""
    return [row for row in rows if row["method"] == method and row["status"] == "finished"]


def curves_of(rows: Rows, method: str) -> dict[int, list[Point]]:
    """rng_seed -> the sizes a method reached, and its errors on test."""
    curves: dict[int, list[Point]] = {}
    for row in finished(rows, method):
        curves.setdefault(row["rng_seed"], []).append(Point(row["parameters"], 1 - row["test_accuracy"]))
    return curves


def described(method: str, first: str, gap: Gap) -> str:
    """One line."""
    area, height = (lead.shown(scale=100, named=True) for lead in (gap.area, gap.height))
    return (
        f"{method} has {height} points more error than {first} on average over {gap.smallest:,.0f} to "
        f"{gap.largest:,.0f} parameters; area between the curves {area} points × doublings, "
        f"{gap.rng_seeds} rng_seeds"
    )


def _cells(rows: Rows) -> list[str]:
    if not rows:
        return ["", "", "", "0", "", "", "", ""]
    parameters = np.mean([row["parameters"] for row in rows])
    others = np.mean([_of_units(row) for row in rows])
    return [
        *(
            shown_with_spread([row[name] for row in rows])
            for name in ("test_accuracy", "chosen_test_accuracy", "best_test_accuracy")
        ),
        str(len(rows)),
        f"{parameters:,.0f} ({parameters - others:,.0f})",
        f"{np.mean([row['parameter_steps'] for row in rows]) / 1e6:,.2f}",
        f"{np.mean([row['multiply_adds'] for row in rows]) / 1e9:,.2f}",
        f"{np.mean([row['seconds'] for row in rows]):,.1f}",
    ]


def _of_units(row: Mapping[str, Any]) -> int:
    """Parameters of a network that are no connections."""
    if row["sides"]:
        return bias_count(row["architecture"])
    return int(row["parameters_dense"]) - possible_connections(row["architecture"])
