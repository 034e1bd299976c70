"""`structnet status`: what experiments are doing, read from their tables by any process that can read them.

Nothing here speaks to the process that runs the experiment: its heartbeat says whether it is alive.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.commands.status.command import StatusOptions
from search.report.standing import Standing, progress, span, unreadable
from search.session.console import Console, outcome
from search.session.tables import table_of
from structnet.errors import UserError
from structnet.network.architecture import architecture_of_row, dashed
from structnet.storage.schemas import SCHEMAS
from structnet.storage.sql import check_experiment, check_folder, run_query
from structnet.storage.tables import read_table
from structnet.trials.champions import CRITERIA, JUDGED_BY, amount, best

SHOWN_TRIALS, SHOWN_FAILURES = 30, 10
READ = {
    "experiments": SCHEMAS["experiments"].names,
    "rounds": SCHEMAS["rounds"].names,
    "candidates": ["trial", "round", "candidate", "action", "won", "status", "error"],
    "networks": ["network", "parameters", "loss", *JUDGED_BY, "status", "error"],
    "measurements": ["trial", "arm"],
}
COUNTED = """
    SELECT * FROM experiments
    LEFT JOIN (SELECT experiment, trial, max(round) AS round FROM rounds GROUP BY ALL) USING (experiment, trial)
    LEFT JOIN (SELECT experiment, count(*) AS networks FROM networks GROUP BY ALL) USING (experiment)
    LEFT JOIN (SELECT experiment, count(DISTINCT trial) AS tasks FROM measurements GROUP BY ALL) USING (experiment)
    ORDER BY experiment, trial
"""


def run(options: StatusOptions) -> None:
    """Prints the table of all experiments, or one in detail; with watch every so many seconds until it has ended.

    Silence is an end too. Raises UserError for a name that is not there.
    """
    name, results, watch = options.name, options.results, options.watch
    if watch is not None and watch <= 0:
        raise UserError(f"watch is {watch:g}, but must be above 0: it is the seconds between two looks")
    console = Console(asked=True)
    redraws = console.is_terminal and watch is not None
    with Live(console=console, auto_refresh=False) if redraws else nullcontext() as page:
        try:
            while True:
                shown, goes_on = look(name, results, datetime.now(UTC))
                if page:
                    page.update(shown, refresh=True)
                else:
                    console.show(shown)
                if watch is None or not goes_on:
                    return
                time.sleep(watch)
        except KeyboardInterrupt:
            sys.exit(130)


def look(name: str | None, results: str, now: datetime) -> tuple[RenderableType, bool]:
    """The page as of now, and whether anything on it still runs. A line names each damaged part that is left out."""
    check_folder(results)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        if name is None:
            found = all_experiments(results)
            page: RenderableType = overview(found, results, now)
            outcome(results=results, experiments=[as_object(one, now) for one in found])
        else:
            tables = tables_of(results, name)
            if not tables["experiments"]:
                raise UserError(unreadable(name))
            found = [Standing.of(name, tables["experiments"])]
            page = details(found[0], tables, now)
            outcome(results=results, **as_object(found[0], now), tables=tables)
    notes = [Text(str(warning.message)) for warning in caught if warning.category is UserWarning]
    return Group(page, *notes), any(one.status == "running" and not one.silence(now) for one in found)


def as_object(one: Standing, now: datetime) -> dict[str, Any]:
    """What `--json` prints of an experiment: the row that stands for it, and how it stands."""
    row = {name: value for name, value in one.main.items() if name not in ("trial", "versions")}
    return row | {
        "experiment": one.name,
        "config": one.config,
        "status": one.status,
        "silent": one.silence(now) > 0,
        "heartbeat_at": one.heartbeat,
        "seconds": one.seconds,
        "advice": one.advice(now) or None,
    }


def all_experiments(results: str) -> list[Standing]:
    """Every experiment there is, the one started last first. Rows have columns round, networks and tasks besides."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in run_query(results, COUNTED).to_pylist():
        by_name.setdefault(row["experiment"], []).append(row)
    found = [Standing.of(name, rows) for name, rows in by_name.items()]
    return sorted(found, key=lambda one: str(one.main["started_at"] or ""), reverse=True)


def tables_of(results: str, name: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of the tables that `details` shows; UserError with the names that are near if there are none."""
    check_experiment(results, name, ["experiments"])
    return {
        table: read_table(results, table, name, skip_damaged=True).select(columns).to_pylist()
        for table, columns in READ.items()
    }


def overview(found: Sequence[Standing], results: str, now: datetime) -> RenderableType:
    """All experiments as a table, and below it what to do about those that went silent."""
    if not found:
        return Text(f"There are no experiments in '{results}' yet.")
    texts = ("experiment", "command", "dataset", "status", "progress")
    table = table_of(texts, ("heartbeat", "seconds", "accuracy", "parameters"))
    for one in found:
        row, silent = one.main, one.silence(now)
        table.add_row(
            one.name,
            row["command"],
            row["dataset"],
            Text("silent", "yellow") if silent else one.status,
            progress(one, row["round"], row["networks"] or 0, row["tasks"] or 0),
            span((now - one.heartbeat).total_seconds()) if one.heartbeat else "",
            f"{one.seconds:,.0f}",
            number(row["accuracy"], ".4f"),
            number(row["parameters"], ",d"),
        )
    silent_ones = [Text(f"{one.name}: {one.advice(now)}") for one in found if one.silence(now)]
    return Group(table, *silent_ones)


def details(one: Standing, tables: dict[str, list[dict[str, Any]]], now: datetime) -> RenderableType:
    """One experiment: how it stands, its trials, its tournament or its networks, and what failed."""
    row = one.main
    head = Text(f"{one.name}: {row['command']} on {row['dataset']}, {one.status}")
    if one.heartbeat:
        head.append(f", last heartbeat {span((now - one.heartbeat).total_seconds())} ago")
    head.append(f", {span(one.seconds)} of work")
    parts: list[RenderableType] = [head]
    if advice := one.advice(now):
        parts.append(Text(advice, "yellow"))
    if one.main["error"]:
        parts.append(Text(f"error: {one.main['error']}"))
    if one.trials:
        parts.append(_trials(one.trials))
    if one.main["accuracy"] is not None and not one.trials:
        parts.append(Text(_result(one.main)))
    # Of trials at the same time, rounds do not tell which was the last.
    if rounds := [found for found in tables["rounds"] if found["trial"] == row["trial"]]:
        parts.append(_last_round(rounds[-1]))
    if tables["candidates"]:
        parts.append(by_action(tables["candidates"]))
    if tables["networks"]:
        parts += _networks(tables["networks"], one.seconds)
    if tables["measurements"]:
        arms = Counter(arm for arm, _ in {(row["arm"], row["trial"]) for row in tables["measurements"]})
        parts.append(Text(f"tasks done: {sum(arms.values()):,} ({_counts(arms)})"))
    parts += failures(tables)
    return Group(*parts)


def _result(row: dict[str, Any]) -> str:
    texts = [f"validation accuracy {row['accuracy']:.4f}"]
    if row["test_accuracy"] is not None:
        texts.append(f"test accuracy {row['test_accuracy']:.4f}")
    if row["parameters"] is not None:
        texts.append(f"{row['parameters']:,} parameters")
    return ", ".join(texts)


def _trials(trials: Sequence[dict[str, Any]]) -> RenderableType:
    """How many there are of each status, and those that were written last."""
    newest = sorted(trials, key=lambda row: str(row["heartbeat_at"] or ""))[-SHOWN_TRIALS:]
    table = table_of(("trial", "status"), ("seconds", "accuracy", "test accuracy", "parameters"))
    for row in newest:
        table.add_row(
            row["trial"],
            row["status"],
            number(row["seconds"], ",.0f"),
            number(row["accuracy"], ".4f"),
            number(row["test_accuracy"], ".4f"),
            number(row["parameters"], ",d"),
        )
    return Group(Text(f"trials: {_counts(Counter(row['status'] for row in trials))}"), table)


def _last_round(last: dict[str, Any]) -> Text:
    """What a tournament decided last, and the network that came of it."""
    where = f" of {last['trial']}" if last["trial"] else ""
    decision = last["decision"].replace("_", " ")
    action = f" {last['action']} at {last['site']}" if last["action"] else ""
    gain = "" if last["gain"] is None else f", gain {last['gain']:+.4f} ± {last['gain_se']:.4f} bits"
    shape = dashed(architecture_of_row(last))
    return Text(
        f"round {last['round']}{where}: {decision}{action}{gain}\n"
        f"{shape}: accuracy {last['accuracy']:.4f}, {last['parameters']:,} parameters, balance "
        f"{last['balance']:,.0f} credits, {last['steps']:,} steps ({last['steps_all']:,} with all forks)"
    )


def by_action(candidates: Sequence[dict[str, Any]]) -> Table:
    """Forks by action and by what became of them. A fork has a row in every heat that it ran in."""
    forks: dict[tuple[Any, ...], tuple[str, str]] = {}
    won: Counter[str] = Counter()
    for row in candidates:
        forks[row["trial"], row["round"], row["candidate"]] = row["action"], row["status"]
        won[row["action"]] += row["won"]
    counts = Counter(forks.values())
    statuses = ("finished", "failed", "unaffordable")
    table = table_of(["action"], (*statuses, "won"))
    for action in sorted({action for action, _ in counts}):
        numbers = [*(counts[action, status] for status in statuses), won[action]]
        table.add_row(action, *(f"{count:,}" if count else "" for count in numbers))
    return table


def _networks(rows: Sequence[dict[str, Any]], seconds: float) -> list[RenderableType]:
    """Networks by status, how many a second, and the best by every criterion."""
    speed = f", {len(rows) / seconds:.2f} a second" if seconds else ""
    status = _counts(Counter(row["status"] for row in rows))
    finished = [row for row in rows if row["status"] == "finished"]
    table = table_of(("best so far by", "network"), ("value", "parameters"))
    for criterion in CRITERIA:
        if row := best(finished, criterion):
            value, parameters = number(amount(row, criterion), ".4g"), number(row["parameters"], ",d")
            table.add_row(criterion, row["network"], value, parameters)
    line = Text(f"networks: {len(rows):,} done ({status}){speed}")
    return [line, table] if table.row_count else [line]


def failures(tables: dict[str, list[dict[str, Any]]]) -> list[RenderableType]:
    """What failed, the same errors together, the most frequent first."""
    named = {"experiments": "trial", "candidates": "action", "networks": "network"}
    found: dict[tuple[str, str], list[str]] = {}
    for table, name in named.items():
        for row in tables[table]:
            if row["status"] == "failed" and row[name]:
                found.setdefault((table, row["error"] or "no reason given"), []).append(row[name])
    ranked = sorted(found.items(), key=lambda item: -len(item[1]))
    lines: list[RenderableType] = [
        Text(f"failed: {len(names):,} {table} such as {names[0]}: {error}", "red")
        for (table, error), names in ranked[:SHOWN_FAILURES]
    ]
    left = len(ranked) - SHOWN_FAILURES
    return [*lines, Text(f"and {left} other errors")] if left > 0 else lines


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counter.items()))


def number(value: float | None, shown: str) -> str:
    """A number in a format, or nothing."""
    return "" if value is None else f"{value:{shown}}"
