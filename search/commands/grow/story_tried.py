"""What was tried over all rounds, and what came of it; which units did nothing."""

from __future__ import annotations

from typing import Any

from search.commands.grow.story_rounds import FORK, outcome
from search.report.blocks import Block, Chart, Column, Section, Table, Text
from search.report.charts import Axis, layered, lines, points, rule
from search.report.records import Records, Rows

CHARTED = 1_000  # forks on a chart; of more, those of each round that came furthest


def tried(records: Records, trial: str) -> list[Section]:
    """Nothing where no forks were."""
    found = [row for row in records.rows("candidates", trial) if not row["audit"]]
    sections = []
    if any(not row["control"] for row in found):
        sections.append(Section("Who was tried, and who won", _forks(found)))
    if idle := _idle(records.rows("rounds", trial)):
        sections.append(Section("Saturated and dead units", idle))
    return sections


def _forks(found: Rows) -> list[Block]:
    last: dict[tuple[int, int], dict[str, Any]] = {}
    for row in found:
        last[row["round"], row["candidate"]] = row
    forks = [row for row in last.values() if not row["control"]]
    return [
        Text(
            "Every fork trained beside controls that add nothing, on the same batches. Gain: bits of information about "
            "the label, over the better control, on validation images. Score: gain per thousand parameters added."
        ),
        *_gains(forks),
        _by_action(forks),
        _all(last),
    ]


def _gains(forks: Rows) -> list[Block]:
    measured = [row for row in forks if row["gain"] is not None]
    if not measured:
        return []
    by_round: dict[int, Rows] = {}
    for row in sorted(measured, key=lambda row: (not row["won"], -row["heat"], -row["gain"])):
        by_round.setdefault(row["round"], []).append(row)
    most = max(1, CHARTED // max(1, len(by_round)))
    shown = [row for mine in by_round.values() for row in mine[: most if len(measured) > CHARTED else None]]
    rows = [
        {
            "round": row["round"],
            "gain": row["gain"],
            "action": row["action"].replace("_", " "),
            "outcome": "won" if row["won"] else "in the last heat" if row["survived"] else "out before",
            "adds": row["parameters_added"],
            "error": row["gain_se"],
        }
        for row in shown
    ]
    number, gain = (
        Axis("round", "Round", kind="ordinal"),
        Axis("gain", "Gain over the better control, bits", format="+.2~g"),
    )
    more = [
        Axis("action", kind="nominal"),
        Axis("adds", "parameters added", format=",.0f"),
        Axis("error", "± error"),
    ]
    chart = layered(rule(0, "the better control"), points(rows, number, gain, "outcome", more=more))
    thinned = f" Shown: the {most} of each round that came furthest." if len(shown) < len(measured) else ""
    won = sum(row["won"] for row in forks)
    rounds = len({row["round"] for row in forks})
    text = f"{len(forks):,} forks in {rounds} {'round' if rounds == 1 else 'rounds'}, of which {won} won."
    return [Chart(chart, "forks", "Gain of every fork", text, f"{text}{thinned}")]


def _by_action(forks: Rows) -> Table:
    by: dict[str, Rows] = {}
    for row in forks:
        by.setdefault(row["action"], []).append(row)
    columns = [
        Column("action"),
        Column("tried", bar=True),
        Column("won"),
        Column("in the last heat"),
        Column("mean gain, bits", "+.4f"),
        Column("mean score", "+.3f"),
        Column("failed"),
        Column("not affordable"),
    ]
    rows = []
    for action, mine in sorted(
        by.items(), key=lambda item: (-sum(row["won"] for row in item[1]), -len(item[1]), item[0])
    ):
        gains = [row["gain"] for row in mine if row["gain"] is not None]
        scores = [row["score"] for row in mine if row["score"] is not None]
        rows.append(
            [
                action.replace("_", " "),
                sum(row["status"] == "finished" for row in mine),
                sum(row["won"] for row in mine),
                sum(row["survived"] for row in mine),
                sum(gains) / len(gains) if gains else None,
                sum(scores) / len(scores) if scores else None,
                sum(row["status"] == "failed" for row in mine),
                sum(row["status"] == "unaffordable" for row in mine),
            ]
        )
    return Table(columns, rows, "By kind of growth")


def _all(last: dict[tuple[int, int], dict[str, Any]]) -> Table:
    columns = [Column("round"), *FORK.values(), Column("came of it")]
    rows = [[*(row[name] for name in ("round", *FORK)), outcome(row)] for row in last.values()]
    marked = frozenset(number for number, row in enumerate(last.values()) if row["won"])
    return Table(columns, rows, "Every fork, in the last heat that it took part in", marked)


def _idle(rounds: Rows) -> list[Block]:
    """Saturated and dead units after every round."""
    rows = [
        {"round": row["round"], "units": sum(row[column]), "are": name}
        for row in rounds
        for column, name in (("group_saturated", "saturated"), ("group_dead", "dead"))
        if row[column]
    ]
    if not any(row["units"] for row in rows):
        return []
    text = (
        "A dead unit fires on less than 1 % of the training images. A saturated one puts out far more than the others "
        "of its group, or, if its output is bounded, the most it can on more than half of the images."
    )
    if len({row["round"] for row in rows}) == 1:
        found = " and ".join(f"{row['units']:,} {row['are']}" for row in rows)
        return [Text(f"{text} After round {rows[0]['round']} there were {found} ones.")]
    chart = lines(rows, Axis("round", "Round", kind="ordinal"), Axis("units", "Units", zero=True), "are")
    return [Text(text), Chart(chart, "idle", "Saturated and dead units after every round", text)]
