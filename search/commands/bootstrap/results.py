"""What `structnet bootstrap` found, in tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

from search.session.console import Console
from search.session.tables import table_of
from structnet.experiments.seed_finder import Candidate, around, smallest_by_shape
from structnet.measure.statistics import ConfidenceInterval, mean_and_spread, paired_lead, shown_with_spread
from structnet.trials.starts import COMPARISONS, SMALL

NUMBERS = ("parameters", "learned", "least", "mean", "spread")


def print_ladder(
    found: Sequence[Candidate],
    chosen: Candidate | None,
    start: Candidate | None,
    chance: float,
    margin: float,
    console: Console,
) -> None:
    """The candidates around the one that was found, the smallest of every shape, and a sentence.

    start: the one that the larger network is made from.
    """

    def note(one: Candidate) -> str:
        return ", ".join(
            word
            for word, which in (("smallest", chosen), ("grown", start))
            if which is not None and which == one
        )

    near = around(found, chosen)
    shown = near if start is None or start in near else sorted([*near, start], key=lambda one: one.order)
    title = "Candidates around the smallest that learns" if chosen else "The most accurate candidates"
    console.show(_candidates([(one, note(one)) for one in shown], title))
    if chosen is None:
        console.say(
            f"No candidate learns: none is {margin:g} above chance, {chance:.4f}, with every rng_seed."
        )
        return
    by_shape = [(one, note(one)) for one in smallest_by_shape(found)]
    console.show(_candidates(by_shape, "The smallest that learns, by shape"))
    console.say(
        f"The fewest parameters that learn, at least {margin:g} above chance, {chance:.4f}, with all of "
        f"{chosen.rng_seeds} rng_seeds: {chosen.parameters:,}, by {chosen.shape} at density {chosen.density:g}, "
        f"{chosen.mean:.4f} on average."
    )


def _candidates(shown: Sequence[tuple[Candidate, str]], title: str) -> Table:
    table = table_of(("shape", "density"), NUMBERS, title=title)
    table.add_column("")
    for one, note in shown:
        mean, spread = mean_and_spread(one.accuracies) if one.accuracies else (0.0, 0.0)
        numbers = [f"{value:.4f}" for value in (min(one.accuracies, default=0.0), mean, spread)]
        learned = f"{one.learned} of {one.rng_seeds}"
        table.add_row(one.shape, f"{one.density:g}", f"{one.parameters:,}", learned, *numbers, note)
    return table


def leads(rows: Sequence[dict[str, Any]], method: str, column: str) -> dict[str, ConfidenceInterval]:
    """Arm -> how far the method is above it in this column, paired by rng_seed: mean and 95 % t interval.

    Pairs in which either failed are left out, and arms without any pair.
    """
    values: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["status"] == "finished":
            values.setdefault(row["network"], {})[row["rng_seed"]] = row[column]
    mine = values.get(method, {})
    found = {arm: paired_lead(mine, theirs) for arm, theirs in values.items() if arm != method}
    return {arm: lead for arm, lead in found.items() if lead is not None}


def in_words(lead: ConfidenceInterval) -> str:
    """Whether the 95 % interval of a lead in accuracy leaves a doubt."""
    if lead.is_above_zero:
        return "better than"
    return "worse than" if lead.is_below_zero else "not told apart from"


def print_comparison(name: str, rows: Sequence[dict[str, Any]], console: Console) -> None:
    """The arms of a comparison, and the verdict on what it stated beforehand; nothing without rows."""
    if not rows:
        return
    comparison = COMPARISONS[name]
    arms = {SMALL: "what it starts from"} if any(row["network"] == SMALL for row in rows) else {}
    mine = [row for row in rows if row["network"] in comparison.arms]
    by_accuracy, by_loss = (leads(mine, comparison.method, column) for column in ("accuracy", "loss"))
    title = f"{comparison.title}: ahead is {comparison.method} − the arm, paired by rng_seed, 95 % t interval"
    numbers = ("parameters", "accuracy", "ahead, points", "loss", "ahead, nats")
    table = table_of(["arm"], numbers, title=title)
    table.add_column("what it is")
    for arm, what in {**arms, **comparison.arms}.items():
        finished = [row for row in rows if row["network"] == arm and row["status"] == "finished"]
        if not finished:
            table.add_row(arm, "", "failed", "", "", "", what)
            continue
        table.add_row(
            arm,
            f"{np.mean([row['parameters'] for row in finished]):,.0f}",
            shown_with_spread([row["accuracy"] for row in finished]),
            by_accuracy[arm].shown(scale=100) if arm in by_accuracy else "",
            shown_with_spread([row["loss"] for row in finished]),
            by_loss[arm].shown(digits=4) if arm in by_loss else "",
            what,
        )
    console.show(table, 190)
    console.say(sentence_of(name, mine, by_accuracy))


def sentence_of(name: str, rows: Sequence[dict[str, Any]], found: dict[str, ConfidenceInterval]) -> str:
    """The verdict of a comparison. found: how far its method is ahead of each arm, in accuracy."""
    comparison = COMPARISONS[name]
    failed = {row["rng_seed"] for row in rows if row["status"] != "finished"}
    if comparison.control not in found:
        return f"{comparison.title}: no verdict, as training diverged with every rng_seed."
    lost = f"; training diverged with {len(failed)} more" if failed else ""
    main = found[comparison.control]
    seeds = len({row["rng_seed"] for row in rows} - failed)
    others = ", ".join(
        f"{in_words(found[arm])} {arm}"
        for arm in comparison.arms
        if arm in found and arm != comparison.control
    )
    return (
        f"{comparison.title}: {comparison.method} is {in_words(main)} {comparison.control}, as stated beforehand to be "
        f"compared: {main.shown(scale=100)} points of accuracy, {seeds} rng_seeds{lost}. It is {others}."
    )
