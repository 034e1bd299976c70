"""The story of a study: what was asked, what the verdict is, and the rows that it follows from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from search.commands.study.registry import STUDIES
from search.commands.study.study import Finding, Row, Study
from search.commands.study.work import TABLE, rows_in_order, summary_sql
from search.grid.telling import on_data, query
from search.report.blocks import Block, Card, Chart, Folded, Section, Story, Table, Text
from search.report.records import Records
from search.report.reports import duration
from structnet.measure.statistics import mean_and_spread

ENOUGH_SEEDS = 5  # from which on a verdict is a claim
SAID = {
    "yes": "The claim holds",
    "no": "The claim does not hold",
    "in part": "The claim holds in part",
    "open": "Whether the claim holds stays open",
}


def story(records: Records) -> Story:
    """Of a study of any version: where this one does not know it, what was measured."""
    rows = rows_in_order(records.rows(TABLE))
    study = STUDIES.get(records.config.get("study", ""))
    finding = judged(study, rows) if study else None
    final = finding if records.status == "finished" else None
    sections = [Section("Every number", [_numbers(rows)])] if rows else []
    if study:
        asked = Section("The question", [Text(study.question), Text(f"The claim: {study.claim}.")])
        sections = [asked, *_found(study, rows, finding, records), *sections]
    return Story(
        lead_of(study, rows, final), cards_of(rows, final), sections, _commands(records, study, rows)
    )


def judged(study: Study, rows: Sequence[Row]) -> Finding | None:
    """The verdict; None where the rows are not enough for one. A judge of what is not all there raises anything."""
    try:
        return study.judge(rows)
    except Exception:
        return None


def lead_of(study: Study | None, rows: Sequence[Row], finding: Finding | None) -> str:
    """The verdict with its first sentence, or how far it is."""
    if study is None:
        return "This version has no study of this name; what it measured stands below."
    if finding is None:
        tasks = len({(row.arm, row.rng_seed) for row in rows})
        return f"No verdict yet. Tasks measured so far: {tasks}." if rows else "Nothing is measured yet."
    return " ".join([f"{SAID[finding.holds]}.", *finding.sentences[:1]])


def cards_of(rows: Sequence[Row], finding: Finding | None) -> list[Card]:
    """The verdict, and how much it rests on."""
    verdict = [Card("Does the claim hold?", finding.holds)] if finding else []
    arms = {row.arm for row in rows}
    tasks = {(row.arm, row.rng_seed) for row in rows}
    seconds = sum(row.value for row in rows if row.quantity == "seconds")
    return [
        *verdict,
        Card("rng_seeds", f"{len({row.rng_seed for row in rows})}", "of every arm"),
        Card("Tasks", f"{len(tasks)}", f"arms: {len(arms)}"),
        Card("Work", duration(seconds), "of all tasks together"),
    ]


def warnings_of(rows: Sequence[Row], quick: bool) -> list[Block]:
    """What a verdict is not worth."""
    seeds = len({row.rng_seed for row in rows})
    if quick:
        text = "Made with --quick, which shows that the study runs: its verdict is an anecdote."
    elif seeds < ENOUGH_SEEDS:
        text = f"There are {seeds} rng_seeds, and a claim has at least {ENOUGH_SEEDS}: this is an anecdote."
    else:
        return []
    return [Text(text, "warning")]


def _found(study: Study, rows: Sequence[Row], finding: Finding | None, records: Records) -> list[Section]:
    """Sentences, chart and table of the verdict; of rows that are not all there, what they say so far."""
    if not rows:
        return []
    sentences = finding.sentences if finding else ()
    blocks = warnings_of(rows, bool(records.config.get("quick")))
    if records.status != "finished" or finding is None:
        blocks.append(Text("Not all of it is measured yet, so this is what the rows say so far.", "note"))
    blocks += [Text(sentence) for sentence in sentences]
    if sentences:
        blocks.append(Text("Brackets hold 95 % intervals, paired over rng_seeds.", "note"))
    blocks += _drawn(study, rows, sentences)
    if finding and finding.table:
        header, *body = finding.table
        blocks.append(Table(header, body, "Mean ± standard deviation over rng_seeds where one is given"))
    return [Section("What was found", blocks)]


def _drawn(study: Study, rows: Sequence[Row], sentences: Sequence[str]) -> list[Block]:
    """The chart of a study; nothing where the rows are not enough for one."""
    try:
        chart = study.draw(rows)
    except Exception:  # as of a judge
        return []
    return [Chart(chart, study.name, study.seen, " ".join([f"{study.seen}.", *sentences]), study.reading)]


def _numbers(rows: Sequence[Row]) -> Block:
    """Every quantity of every arm: of the items of a rng_seed the mean, over rng_seeds mean and spread."""
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in rows:
        found.setdefault((row.arm, row.quantity), {}).setdefault(row.rng_seed, []).append(row.value)
    cells: list[list[Any]] = []
    for (arm, quantity), by_seed in found.items():
        mean, spread = mean_and_spread([mean_and_spread(values)[0] for values in by_seed.values()])
        shown = [_shown(mean), _shown(spread) if len(by_seed) > 1 else None]
        cells.append([arm, quantity, *shown, len(by_seed)])
    columns = ("arm", "quantity", "mean", "standard deviation", "rng_seeds")
    return Folded(f"{len(cells):,} quantities", [Table(columns, cells)])


def _shown(value: float) -> float | int:
    """Quantities are of all sizes: of a large one no fraction is shown."""
    return round(value) if 1000 <= abs(value) < math.inf else value


def _commands(records: Records, study: Study | None, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The study again, as it was meant or on rng_seeds that are new, and what the tables can be asked."""
    asked = ("Every quantity of every arm, from the tables", query(records.where, summary_sql(records.name)))
    if study is None:
        return [asked]
    line, seeds = f"structnet study {study.name}{on_data(records.config)}", {row.rng_seed for row in rows}
    if records.config.get("quick") or len(seeds) < ENOUGH_SEEDS:
        again = (f"All of it, with {ENOUGH_SEEDS} rng_seeds", f"{line}{records.where}")
    else:
        fresh = f"{line} --rng-seed {max(seeds) + 1}{records.where}"
        again = ("Does it hold on rng_seeds that are new?", fresh)
    return [again, asked, ("Other questions", "structnet study list")]
