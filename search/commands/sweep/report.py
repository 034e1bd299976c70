"""What a sweep prints: its plan, its settings compared, and how far each mechanism got."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from search.commands.sweep.plans import describe
from search.commands.sweep.settings import Plan
from search.session.console import Console
from search.session.tables import table_of
from structnet.measure.statistics import LEVEL
from structnet.storage.tables import read_table
from structnet.trials.outcomes import ComparedSetting
from tournament.cost import SPEED, Cost
from tournament.mechanisms import mechanism_counts, plateaus


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


def print_comparison(rows: Sequence[ComparedSetting], plan: Plan, console: Console) -> None:
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
    found = [plateaus(by_trial[trial]) for trial, own in options.items() if own.trigger == "plateau"]
    fired, asked = (sum(numbers) for numbers in zip(*found)) if found else (0, 0)
    if found:
        lines.append(f"plateau: fired in {fired} of {asked} rounds")
    met = {"economy": decisions["unaffordable"], "plateau": fired}
    times = met[mechanism] if mechanism in met else counts.get(mechanism, Counter())["won"]
    lines.append(f"Made lenient, {mechanism} " + (f"fires: {times} times." if times else "does not fire."))
    console.say("\n".join(lines))
