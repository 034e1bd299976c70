"""The story of a sweep: its settings compared, and what each option that is varied does."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from search.commands.sweep.effects import ACCURACY, effects_of
from search.commands.sweep.outcomes import Settings, short_of
from search.grid.telling import failures, lead_row, on_data, query
from search.report.blocks import Block, Card, Chart, Column, Section, Story, Table, Text
from search.report.charts import Axis, data_of, layered, leads, points
from search.report.records import Records
from structnet.measure.statistics import LEVEL
from structnet.trials.outcomes import ComparedSetting
from tournament.mechanisms import mechanism_counts

Row = dict[str, Any]
MOST_SETTINGS = 40  # of a chart
STAGES = ("proposed", "affordable", "last heat", "ahead", "eligible", "won")


def story(records: Records) -> Story:
    """What came of the settings."""
    settings = Settings(records)
    sections = []
    if settings.rows:
        sections.append(
            Section("Settings compared", [*_leads(settings), *_sizes(settings), _table(settings)])
        )
        if effects := effects_of(settings):
            sections.append(Section("What each option does", effects))
    if counted := _mechanisms(records):
        sections.append(Section("How far each mechanism got", counted))
    if failed := _failures(records, settings):
        sections.append(Section("What failed", failed))
    return Story(_lead(records, settings), _cards(records, settings), sections, _commands(records, settings))


# In words


def _lead(records: Records, settings: Settings) -> str:
    status, rows = records.status, settings.rows
    begins = "" if status == "finished" else f"{status.capitalize()}: not every trial has ended. "
    if not rows:
        return begins + "No setting has ended with any rng_seed yet."
    best, count = rows[0], len(rows)
    text = f"Of {count} settings {settings.said(best.setting)} is best on validation: {_accuracy(best)}"
    if best.lead is not None:
        text += f", {100 * best.lead.mean:+.1f} points over the base"
    text += "."
    if best.test is not None:
        text += f" On test it has {_spread(*best.test, best.rng_seeds)}."
    if count > 1:
        text += f" Chance flatters the best of {count}: trust it when it holds on rng_seeds that did not choose it."
    return begins + text


def _accuracy(row: ComparedSetting) -> str:
    return _spread(row.accuracy, row.spread, row.rng_seeds)


def _spread(mean: float, spread: float, seeds: int) -> str:
    return f"{mean:.1%} ± {spread:.1%} ({seeds} rng_seeds)" if seeds > 1 else f"{mean:.1%} (one rng_seed)"


def _cards(records: Records, settings: Settings) -> list[Card]:
    rows, trials = settings.rows, len(settings.outcomes)
    if not rows:
        return []
    failed = sum(outcome.accuracy is None for outcome in settings.outcomes)
    cards = [Card("settings", f"{len(settings.changes) or len(rows)}", f"of {settings.of}")]
    cards.append(Card("runs", f"{trials}", f"{failed} failed" if failed else "none failed"))
    best = rows[0]
    cards.append(Card("best on validation", f"{best.accuracy:.1%}", settings.said(best.setting)))
    if best.test is not None:
        cards.append(Card("its accuracy on test", f"{best.test[0]:.1%}", "read for it alone"))
    if base := next((row for row in rows if row.setting == settings.base), None):
        cards.append(Card("the base", f"{base.accuracy:.1%}", settings.said(base.setting)))
    if told := sum(row.has_interval for row in rows):
        note = f"of {told} intervals are expected to miss 0"
        cards.append(Card("by chance alone", f"{(1 - LEVEL) * told:.1f}", note))
    return cards


# Charts


def _leads(settings: Settings) -> list[Block]:
    """How far every setting is ahead of the base."""
    judged = [row for row in settings.rows if row.lead is not None]
    if not judged:
        return []
    shown = judged[:MOST_SETTINGS]
    title, labels = _labels(settings, [row.setting for row in shown])
    rows = [
        {**lead_row(labels[row.setting], row.lead, row.rng_seeds), "what": settings.said(row.setting)}
        for row in shown
        if row.lead is not None
    ]
    told = sum(row.has_interval for row in settings.rows)
    caption = (
        f"Accuracy on validation less that of the base, {settings.said(settings.base)}, paired by rng_seed, with the "
        f"95 % interval. Of {told} intervals about {(1 - LEVEL) * told:.1f} miss 0 by chance alone."
    )
    if title:
        caption += f" The names are the values of {title}."
    if len(shown) < len(judged):
        caption += f" The {len(shown)} best of {len(judged)} are shown."
    chart = leads(
        rows,
        Axis("arm", kind="nominal"),
        Axis("lead", "Points over the base", format="+.3~f"),
        "low",
        "high",
        more=[Axis("what", "setting", kind="nominal"), Axis("n", "rng_seeds")],
    )
    text = f"Leads over the base of {len(shown)} settings, the best first: {settings.said(shown[0].setting)}."
    return [Chart(chart, "settings", "How far each setting is ahead of the base", text, caption)]


def _labels(settings: Settings, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """What a setting is called on an axis: its values alone where all change the same options, which come first."""
    if settings.is_star or not settings.changes:
        return "", {name: settings.said(name) for name in names}
    title = " · ".join(settings.options)
    return title, {
        name: " · ".join(short_of(settings.value(name, one)) for one in settings.options) for name in names
    }


def _sizes(settings: Settings) -> list[Block]:
    """Accuracy against size, where settings differ in it."""
    import altair as alt

    rows = [
        {
            "parameters": row.parameters,
            "accuracy": row.accuracy,
            "low": row.accuracy - row.spread,
            "high": row.accuracy + row.spread,
            "setting": settings.said(row.setting),
            "is": "the base" if row.setting == settings.base else "the best" if not number else "others",
        }
        for number, row in enumerate(settings.rows)
    ]
    if len({row["parameters"] for row in rows}) < 2:
        return []
    x = Axis("parameters", "Parameters", log=True)
    whiskers = alt.Chart(data_of(rows)).mark_rule(opacity=0.5, color="currentColor")
    whiskers = whiskers.encode(
        x=x.encoded("x"), y=Axis("low", ACCURACY.title, format=".1%").encoded("y"), y2="high:Q"
    )
    dots = points(rows, x, ACCURACY, "is", more=[Axis("setting", "setting", kind="nominal")], size=80)
    return [
        Chart(
            layered(whiskers, dots),
            "sizes",
            "What the accuracy costs in size",
            text=f"Mean accuracy over mean parameters of {len(rows)} settings.",
            caption="A point is the mean of a setting over its rng_seeds, whiskers one standard deviation. Above and "
            "to the left is better.",
        )
    ]


# Tables


def _table(settings: Settings) -> Table:
    columns: list[Column | str] = [
        "setting",
        "changes",
        Column("rng_seeds"),
        Column("failed"),
        Column("accuracy", ".2%"),
        "± spread",
        "less base, points",
        "95 % interval",
        Column("parameters", ",.0f"),
    ]
    is_grow = settings.of == "grow"
    if is_grow:
        columns.append(Column("parameter-steps", ",.3g"))
    rows = []
    for row in settings.rows:
        lead = row.lead
        sure = lead is not None and isfinite(lead.low)
        cells = [
            row.setting,
            settings.said(row.setting),
            row.rng_seeds,
            row.failed,
            row.accuracy,
            f"± {row.spread:.2%}" if row.rng_seeds > 1 else "",
            f"{100 * lead.mean:+.2f}" if lead is not None else "",
            f"{100 * lead.low:+.2f} to {100 * lead.high:+.2f}" if lead is not None and sure else "",
            row.parameters,
        ]
        rows.append([*cells, row.parameter_steps] if is_grow else cells)
    marked = frozenset(number for number, row in enumerate(settings.rows) if row.setting == settings.base)
    return Table(columns, rows, "Settings, the best on validation first; the base stands out", marked)


def _mechanisms(records: Records) -> list[Block]:
    """Of a lenient sweep: how often each action came how far."""
    mechanism = records.config.get("lenient")
    if not mechanism:
        return []
    counts = mechanism_counts(records.rows("candidates"))
    table = Table(
        ("mechanism", *STAGES),
        [(action, *(count[stage] for stage in STAGES)) for action, count in sorted(counts.items())],
    )
    return [
        Text(f"The thresholds of {mechanism} were made easy to meet, to see whether it fires at all."),
        table,
    ]


def _failures(records: Records, settings: Settings) -> list[Block]:
    if settings.of != "grow":
        return failures(records.rows("networks"))
    runs = [row for row in records.runs if row["trial"]]
    return failures([{**row, "network": row["trial"]} for row in runs])


# What to do next


def _commands(records: Records, settings: Settings) -> list[tuple[str, str]]:
    config, lines = records.config, []
    if settings.rows and not config.get("lenient"):
        best = settings.changes.get(settings.rows[0].setting, {})
        fixed = dict(part.partition("=")[::2] for part in config.get("set") or ())
        words = _words({**fixed, **best})
        fresh = int(config.get("rng_seed") or 0) + int(config.get("rng_seeds") or 1)
        again = f"structnet {settings.of}{on_data(config)}{words} --rng-seed {fresh}"
        again += " --repeats 5" if settings.of == "grow" else ""
        lines.append(("Does the best hold on rng_seeds that did not choose it?", again + records.where))
    table = "experiments" if settings.of == "grow" else "networks"
    sql = (
        f"select trial, accuracy, parameters from {table} where experiment = '{records.name}' and trial <> '' "
        "order by accuracy desc"
    )
    return [*lines, ("Ask the table", query(records.where, sql))]


def _words(changes: Mapping[str, Any]) -> str:
    """Options as they stand on a line, with a space before them."""
    words = []
    for name, value in changes.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            words.append(f"--{flag} {shlex.quote(short_of(value))}")
    return "".join(f" {word}" for word in words)
