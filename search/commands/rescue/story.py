"""The story of a cliff rescue: its verdict, and the arms that it rests on."""

from __future__ import annotations

import shlex
from math import isfinite
from typing import Any

from search.commands.rescue.results import (
    WHAT_ARMS_ARE,
    finished_arms,
    no_plateau,
    plateaus_of,
    verdict_of,
)
from search.grid.telling import chance_of, failures, finished, lead_row, on_data, so_far, with_spread
from search.report.blocks import Block, Card, Chart, Column, Section, Story, Table, Text
from search.report.charts import Axis, layered, leads, rule, strips
from search.report.records import Records
from structnet.actions import growing
from structnet.experiments.verdict import RescueVerdict
from structnet.measure.statistics import mean_and_spread

Row = dict[str, Any]
ACCURACY = Axis("accuracy", "Accuracy on validation", format=".0%")


def story(records: Records) -> Story:
    """Whether growth rescued, and how sure that is."""
    every = records.rows("networks")
    rows = [row for row in every if row["trial"].startswith("seed-")]
    dense = [row for row in every if not row["trial"].startswith("seed-")]
    arms = {arm: finished(found) for arm, found in finished_arms(rows).items()}
    chance, plateau = chance_of([*dense, *rows]), _plateau(records, dense)
    verdict = None
    if records.status == "finished" and chance is not None and plateau is not None:
        verdict = verdict_of(rows, plateau, chance) if no_plateau([plateau], chance) is None else None
    sections = []
    if any(arms.values()):
        blocks: list[Block] = [_strips(arms, verdict, plateau, chance)]
        if verdict is not None:
            blocks += [
                _leads(verdict, len(arms["growth"])),
                *(Text(_capital(one)) for one in verdict.sentences),
            ]
        sections.append(Section("Back over the cliff?", blocks))
        sections.append(Section("Arms", [_arms(arms, verdict)]))
    if every:
        sections.append(Section("Every network", [*failures(every), _table(every)]))
    cards = _cards(arms, verdict, plateau, chance)
    return Story(_lead(records, rows, arms, verdict), cards, sections, _commands(records, rows))


def _plateau(records: Records, dense: list[Row]) -> float | None:
    """What dense networks reach, given or measured; None as long as it is not known."""
    given = records.config.get("plateau")
    if given is not None:
        return float(given)
    found = plateaus_of(finished(dense))
    return mean_and_spread(found)[0] if found else None


def _what(records: Records) -> str:
    config = records.config
    return f"{config.get('architecture')} at density {config.get('density')}"


def _lead(
    records: Records, rows: list[Row], arms: dict[str, list[Row]], verdict: RescueVerdict | None
) -> str:
    config = records.config
    seeds, done = int(config.get("rng_seeds") or 0), len({row["rng_seed"] for row in rows})
    mechanism = config.get("mechanism")
    if verdict is None:
        begins = so_far(records.status, done, seeds).replace("networks have", "rng_seeds have")
        return f"{begins}Can {mechanism} bring back {_what(records)}, which is too sparse to learn?"
    growth, static, random = (
        with_spread([row["accuracy"] for row in arms[arm]]) for arm in ("growth", "static", "random")
    )
    answer = "rescues" if verdict.success else "does not rescue"
    return (
        f"Growth by {mechanism} {answer} {_what(records)}: it reaches {growth}, where {verdict.edge:.1%} would be back "
        f"over the cliff. Without growth it reaches {static}, with as many connections at random places {random} "
        f"({len(arms['growth'])} rng_seeds)."
    )


def _cards(
    arms: dict[str, list[Row]], verdict: RescueVerdict | None, plateau: float | None, chance: float | None
) -> list[Card]:
    cards = []
    if verdict is not None:
        cards.append(Card("rescued", "yes" if verdict.success else "no", "as was stated beforehand"))
        for arm, lead in verdict.leads.items():
            sure = f"; 95 % {100 * lead.low:+.1f} to {100 * lead.high:+.1f}" if isfinite(lead.high) else ""
            cards.append(Card(f"ahead of {arm}", f"{100 * lead.mean:+.1f}", f"points{sure}"))
    elif arms.get("growth"):
        cards.append(Card("grown so far", with_spread([row["accuracy"] for row in arms["growth"]])))
    if plateau is not None:
        cards.append(Card("plateau", f"{plateau:.1%}", "of networks that are dense enough"))
    if chance is not None:
        cards.append(Card("chance", f"{chance:.1%}", "of saying the commonest class"))
    return cards[:6]


def _strips(
    arms: dict[str, list[Row]], verdict: RescueVerdict | None, plateau: float | None, chance: float | None
) -> Block:
    rows = [
        {"arm": arm, "accuracy": row["accuracy"], "seed": row["rng_seed"], "parameters": row["parameters"]}
        for arm, found in arms.items()
        for row in found
    ]
    more = [Axis("seed", "rng_seed", kind="nominal"), Axis("parameters", "parameters", format=",")]
    charts = [strips(rows, Axis("arm", kind="nominal"), ACCURACY, paired="seed", more=more)]
    marks = {
        "chance": chance,
        "plateau": plateau,
        "back over the cliff": None if verdict is None else verdict.edge,
    }
    charts += [rule(value, name) for name, value in marks.items() if value is not None]
    return Chart(
        layered(*charts),
        "arms",
        "What each arm reaches",
        text="Accuracy on validation of every rng_seed in each arm: "
        + ", ".join(
            f"{arm} {with_spread([row['accuracy'] for row in found])}" for arm, found in arms.items()
        ),
        caption="A point is a network, a bar the mean of its arm; lines join those that began alike. "
        + "; ".join(f"{arm}: {what}" for arm, what in WHAT_ARMS_ARE.items())
        + ".",
    )


def _leads(verdict: RescueVerdict, seeds: int) -> Block:
    rows = [lead_row(arm, lead, seeds) for arm, lead in verdict.leads.items()]
    chart = leads(
        rows,
        Axis("arm", kind="nominal"),
        Axis("lead", "Growth is ahead, points", format="+.3~f"),
        "low",
        "high",
    )
    return Chart(
        chart,
        "leads",
        "How far growth is ahead of each control",
        text="; ".join(f"{arm} {lead.shown(scale=100)} points" for arm, lead in verdict.leads.items()),
        caption="Differences of accuracy, paired by rng_seed, with their 95 % interval. What crosses the dashed line "
        "may be luck.",
    )


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:] + "."


def _arms(arms: dict[str, list[Row]], verdict: RescueVerdict | None) -> Table:
    columns: list[Column | str] = [
        "arm",
        "what it is",
        Column("parameters", ",.0f"),
        Column("density", ".3g"),
        "accuracy",
        "growth is ahead, points (95 %)",
        "loss",
        "rng_seeds",
    ]
    rows = []
    for arm, found in arms.items():
        lead = verdict.leads.get(arm) if verdict is not None else None
        rows.append(
            (
                arm,
                WHAT_ARMS_ARE[arm],
                _mean(found, "parameters"),
                _mean(found, "density_real"),
                with_spread([row["accuracy"] for row in found], ".2%"),
                lead.shown(scale=100) if lead is not None else "",
                with_spread([row["loss"] for row in found if row["loss"] is not None], ".4f"),
                len(found),
            )
        )
    return Table(columns, rows, "Means ± standard deviation over the rng_seeds")


def _mean(rows: list[Row], column: str) -> float | None:
    known = [row[column] for row in rows if row[column] is not None]
    return sum(known) / len(known) if known else None


def _table(rows: list[Row]) -> Table:
    columns: list[Column | str] = [
        "trial",
        "network",
        Column("density", ".3g"),
        Column("parameters", ","),
        Column("accuracy", ".2%"),
        Column("loss", ".4f"),
        Column("information, bits", ".3f"),
        "how it ended",
    ]
    names = ("trial", "network", "density_real", "parameters", "accuracy", "loss", "information", "status")
    return Table(columns, [[row[name] for name in names] for row in rows], "The arms, and the dense networks")


def _commands(records: Records, rows: list[Row]) -> list[tuple[str, str]]:
    config, where = records.config, records.where
    if not config.get("architecture"):
        return []
    saved = [row for row in rows if row["snapshot"] and row["loss"] is not None]
    lines = []
    if saved:
        best = min(saved, key=lambda row: (row["loss"], row["rng_seed"]))
        line = f"structnet train{on_data(config)} --snapshot {shlex.quote(best['snapshot'])}{where}"
        lines.append(("Train the best of the grown networks on", line))
    shape, density = shlex.quote(str(config.get("architecture"))), config.get("density")
    lines.append(
        (
            "Where the cliff is",
            f"structnet ladder{on_data(config)} --architecture {shape} "
            f"--allocation {config.get('allocation') or 'proportional'}{where}",
        )
    )
    other = next(name for name in growing() if name != config.get("mechanism"))
    lines.append(
        (
            "Try another mechanism",
            f"structnet rescue{on_data(config)} --architecture {shape} --density {density} --mechanism {other}{where}",
        )
    )
    return lines
