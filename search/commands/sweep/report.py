"""What came of a sweep: settings compared over the same rng_seeds, and how far each mechanism got."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from search.commands.sweep.cost import SPEED, Cost
from search.commands.sweep.plans import describe
from search.commands.sweep.settings import Plan
from search.session.console import Console
from search.session.tables import table_of
from structnet.measure.statistics import LEVEL, ConfidenceInterval, mean_and_spread, paired_lead
from structnet.storage.tables import read_table
from structnet.training.loop import steps_per_epoch
from tournament.winning_line import LONGEST_WAIT


@dataclass(frozen=True)
class SettingOutcome:
    """What a setting came to with one rng_seed; without an accuracy it failed.

    Of a hunt: the mean over the networks of that rng_seed, and the sum of their parameter-steps.
    """

    setting: str
    rng_seed: int
    accuracy: float | None = None
    parameters: float = 0.0
    parameter_steps: float = 0.0
    test_accuracy: float | None = None


@dataclass(frozen=True)
class Compared:
    """A setting over its rng_seeds: means, and with spread the sample standard deviation.

    accuracy is on validation. lead: over the base, paired by rng_seed; None for the base itself, and where they share
    no rng_seed.
    """

    setting: str
    rng_seeds: int
    failed: int
    accuracy: float
    spread: float
    parameters: float
    parameter_steps: float
    lead: ConfidenceInterval | None
    test: tuple[float, float] | None

    @property
    def has_interval(self) -> bool:
        """Whether it shares more than one rng_seed with the base."""
        return self.lead is not None and math.isfinite(self.lead.low)


def tournament_outcomes(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[SettingOutcome]:
    """From rows of `experiments`, each with the setting it belongs to. Those still running are left out."""
    found = []
    for setting, row in rows:
        if row["status"] == "finished":
            numbers = (
                row[name] for name in ("accuracy", "parameters", "parameter_steps_all", "test_accuracy")
            )
            found.append(SettingOutcome(setting, row["rng_seed"], *numbers))
        elif row["status"] == "failed":
            found.append(SettingOutcome(setting, row["rng_seed"]))
    return found


def network_outcomes(rows: Iterable[tuple[str, Mapping[str, Any], int]], images: int) -> list[SettingOutcome]:
    """From rows of `networks`, each with its setting and batch size, trained on so many images."""
    groups: dict[tuple[str, int], list[tuple[float, float, float]]] = defaultdict(list)
    for setting, row, batch_size in rows:
        group = groups[setting, row["rng_seed"]]
        if row["accuracy"] is not None:
            steps = row["epochs"] * steps_per_epoch(images, batch_size)
            group.append((row["accuracy"], row["parameters"], row["parameters"] * steps))
    found = []
    for (setting, rng_seed), numbers in groups.items():
        if numbers:
            accuracy, parameters, spent = np.array(numbers).T
            outcome = SettingOutcome(
                setting, rng_seed, *map(float, (accuracy.mean(), parameters.mean(), spent.sum()))
            )
        else:
            outcome = SettingOutcome(setting, rng_seed)
        found.append(outcome)
    return found


def compared(outcomes: Sequence[SettingOutcome], base: str) -> list[Compared]:
    """The settings by mean accuracy on validation, best first; one where every rng_seed failed is left out."""
    of_base = {
        found.rng_seed: found.accuracy
        for found in outcomes
        if found.setting == base and found.accuracy is not None
    }
    rows = []
    for setting in dict.fromkeys(found.setting for found in outcomes):
        mine = [found for found in outcomes if found.setting == setting]
        right = {found.rng_seed: found.accuracy for found in mine if found.accuracy is not None}
        if not right:
            continue
        whole = [found for found in mine if found.accuracy is not None]
        test = [found.test_accuracy for found in whole if found.test_accuracy is not None]
        mean, spread = mean_and_spread(list(right.values()))
        rows.append(
            Compared(
                setting=setting,
                rng_seeds=len(right),
                failed=len(mine) - len(right),
                accuracy=mean,
                spread=spread,
                parameters=float(np.mean([found.parameters for found in whole])),
                parameter_steps=float(np.mean([found.parameter_steps for found in whole])),
                lead=paired_lead(right, of_base) if setting != base else None,
                test=mean_and_spread(test) if test else None,
            )
        )
    return sorted(rows, key=lambda row: (-row.accuracy, row.parameters, row.setting))


def print_plan(plan: Plan, cores: int, console: Console) -> None:
    """Every setting and what all of it will cost."""
    table = table_of(("setting", "changes"), ("trials", "steps", "parameter-steps", "core minutes"))
    for setting in plan.settings:
        cost = setting.cost
        numbers = f"{cost.steps:,.0f}", f"{cost.parameter_steps:.2g}", f"{cost.seconds / 60:.1f}"
        changes = describe(setting.changes) + (" (base)" if setting is plan.base else "")
        table.add_row(setting.name, changes, str(len(setting.trials)), *numbers)
    console.show(table)
    if plan.fixed:
        console.say(f"All with {describe(plan.fixed)}.")
    trials = plan.trials
    total = sum((trial.cost for trial in trials), Cost())
    networks = sum(len(trial.block.members) for trial in trials if trial.block)
    what = f"{networks:,} networks" if networks else f"{len(trials):,} tournaments"
    console.say(
        f"{len(plan.settings)} settings, {len(trials)} trials, {what}: about {total.steps:,.0f} steps, "
        f"{total.parameter_steps:.2g} parameter-steps, {total.seconds / 60 / cores:.1f} minutes on {cores} cores "
        f"(very roughly: {SPEED}). Nothing was run."
    )


def print_comparison(rows: Sequence[Compared], plan: Plan, console: Console) -> None:
    """The settings, best first, and the test accuracy of the first alone."""
    changes = {setting.name: setting.changes for setting in plan.settings}
    what = "rng_seeds", "accuracy", "± spread", "less base", "95 % interval", "parameters", "param.-steps"
    table = table_of(("setting", "changes"), what)
    for row in rows:
        table.add_row(
            row.setting,
            describe(changes[row.setting]) + (" (base)" if row.setting == plan.base.name else ""),
            f"{row.rng_seeds}" + (f" ({row.failed} failed)" if row.failed else ""),
            f"{row.accuracy:.4f}",
            f"{row.spread:.4f}" if row.rng_seeds > 1 else "",
            f"{row.lead.mean:+.4f}" if row.lead else "",
            f"{row.lead.low:+.4f} … {row.lead.high:+.4f}" if row.lead and row.has_interval else "",
            f"{row.parameters:,.0f}",
            f"{row.parameter_steps:.3g}",
        )
    console.show(table)
    lost = [name for name in changes if name not in {row.setting for row in rows}]
    if lost:
        console.say(f"No rng_seed ended well with {', '.join(lost)}.")
    told = sum(row.has_interval for row in rows)
    if told:
        console.say(
            f"Accuracy is on validation. Of {told} intervals about {(1 - LEVEL) * told:.1f} miss 0 by chance alone."
        )
    if rows[0].test:
        mean, spread = rows[0].test
        console.say(
            f"Chosen on validation: {rows[0].setting}, {describe(changes[rows[0].setting])}. Its accuracy on test: "
            f"{mean:.4f} ± {spread:.4f} over {rows[0].rng_seeds} rng_seeds."
        )


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


def plateaus(rounds: Sequence[Mapping[str, Any]], round_steps: int, heat_steps: int) -> tuple[int, int]:
    """In how many rounds of one tournament the plateau trigger fired, and of how many.

    Without it the line waits for its longest. rounds: the rows from round 0 on, in which it is not asked, without
    the final one.
    """
    fired = 0
    for before, row in pairwise(rounds):
        trained = row["steps"] - before["steps"] - heat_steps
        fired += trained < LONGEST_WAIT * round_steps
    return fired, max(0, len(rounds) - 1)


def print_mechanisms(
    results: str, experiment: str, mechanism: str, options: Mapping[str, Any], console: Console
) -> None:
    """How far every mechanism got, from the tables. options: trial -> those of its tournament."""
    counts = mechanism_counts(read_table(results, "candidates", experiment).to_pylist())
    stages = ("proposed", "affordable", "last heat", "ahead", "eligible", "won")
    table = table_of(["mechanism"], stages)
    for action, count in sorted(counts.items()):
        table.add_row(action, *(f"{count[stage]:,}" for stage in stages))
    console.show(table)
    by_trial: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in read_table(results, "rounds", experiment).to_pylist():
        by_trial[row["trial"]].append(row)
    rows = [row for trial in by_trial.values() for row in trial]
    decisions = Counter(row["decision"].replace("_", " ") for row in rows if row["round"])
    totals = {name: sum(row[f"credits_{name}"] for row in rows) for name in ("earned", "spent", "refunded")}
    lines = [
        "rounds: " + ", ".join(f"{number} {decision}" for decision, number in sorted(decisions.items())),
        "credits: " + ", ".join(f"{amount:,.0f} {name}" for name, amount in totals.items()),
    ]
    found = [
        plateaus(
            [row for row in by_trial[trial] if row["decision"] != "final"], own.round_steps, own.heat_steps
        )
        for trial, own in options.items()
        if own.trigger == "plateau"
    ]
    fired, asked = (sum(numbers) for numbers in zip(*found)) if found else (0, 0)
    if found:
        lines.append(f"plateau: fired in {fired} of {asked} rounds")
    met = {"economy": decisions["unaffordable"], "plateau": fired}
    times = met[mechanism] if mechanism in met else counts.get(mechanism, Counter())["won"]
    lines.append(f"Made lenient, {mechanism} " + (f"fires: {times} times." if times else "does not fire."))
    console.say("\n".join(lines))
