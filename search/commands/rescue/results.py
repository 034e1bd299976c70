"""What came of a rescue: the plateau, the arms over all rng_seeds, the verdict, and how they are printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from search.commands.rescue.command import RescueOptions
from search.session.console import Console, outcome
from search.session.tables import table_of
from structnet.experiments.cliff import LEARNS
from structnet.experiments.rescue import ARMS
from structnet.experiments.verdict import RescueVerdict, judge
from structnet.measure.statistics import shown_with_spread

PLATEAU_DENSITIES = (0.5, 0.2, 0.1)  # the three densest rungs of a ladder
WHAT_ARMS_ARE = {
    "static": "the start, trained",
    "growth": "grown on the way",
    "random": "as many connections, at random places",
    "rewire": "its weakest connections moved, none added",
}


def plateaus_of(rows: Sequence[dict[str, Any]]) -> list[float]:
    """Mean accuracy of the dense networks, for every rng_seed of which all are finished."""
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        if row["status"] == "finished":
            by_seed.setdefault(row["rng_seed"], []).append(row["accuracy"])
    return [
        float(np.mean(found)) for _, found in sorted(by_seed.items()) if len(found) == len(PLATEAU_DENSITIES)
    ]


def no_plateau(plateaus: Sequence[float], chance: float) -> str | None:
    """Why there is nothing to be rescued to, or None."""
    if not plateaus:
        return "no verdict: training of dense networks diverged with every rng_seed: lower --learning-rate"
    mean = float(np.mean(plateaus))
    if mean - chance < LEARNS:
        return f"no verdict: the plateau is {mean:.4f}, not {LEARNS:g} above chance, {chance:.4f}: raise --epochs"
    return None


def finished_arms(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Arm -> its rows in the order of the rng_seeds, of those rng_seeds of which no arm failed."""
    failed = {row["rng_seed"] for row in rows if row["status"] != "finished"}
    ordered = sorted((row for row in rows if row["rng_seed"] not in failed), key=lambda row: row["rng_seed"])
    return {arm: [row for row in ordered if row["network"] == arm] for arm in ARMS}


def verdict_of(rows: Sequence[dict[str, Any]], plateau: float, chance: float) -> RescueVerdict | None:
    """What the arms say; None if training diverged with every rng_seed."""
    arms = finished_arms(rows)
    if not arms["growth"]:
        return None
    accuracies = {arm: [row["accuracy"] for row in found] for arm, found in arms.items()}
    return judge(accuracies, plateau, chance)


def summary_columns(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The columns of the experiment: the grown network of least loss."""
    row = min(finished_arms(rows)["growth"], key=lambda row: (row["loss"], row["rng_seed"]), default=None)
    return {name: row[name] for name in ("parameters", "accuracy", "snapshot")} if row else {}


def print_arms(
    rows: Sequence[dict[str, Any]], verdict: RescueVerdict, options: RescueOptions, console: Console
) -> None:
    """Mean and spread of every arm, how far growth is ahead of it, and the verdicts."""
    arms = finished_arms(rows)
    table = table_of(["arm"], ("parameters", "density", "accuracy", "growth is ahead, points", "loss"))
    table.add_column("what it is")
    for arm, found in arms.items():
        table.add_row(
            arm,
            f"{np.mean([row['parameters'] for row in found]):,.0f}",
            f"{np.mean([row['density_real'] for row in found]):.3g}",
            shown_with_spread([row["accuracy"] for row in found]),
            verdict.leads[arm].shown(scale=100) if arm in verdict.leads else "",
            shown_with_spread([row["loss"] for row in found]),
            WHAT_ARMS_ARE[arm],
        )
    console.show(table)
    added = [
        grown["parameters"] - still["parameters"] for grown, still in zip(arms["growth"], arms["static"])
    ]
    console.say(f"growth added {np.mean(added):,.0f} of {options.budget:,} parameters on average")
    if lost := options.rng_seeds - len(added):
        console.say(f"training diverged with {lost} of {options.rng_seeds} rng_seeds, which are left out")
    outcome(verdict=verdict.sentences)
    for sentence in verdict.sentences:
        console.say(sentence)
