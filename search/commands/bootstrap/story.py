"""The story of a bootstrap: the smallest network that learns, and whether larger ones are better begun from it."""

from __future__ import annotations

import shlex
from typing import Any

from search.commands.bootstrap.results import in_words, sentence_of
from search.commands.bootstrap.results import leads as leads_of
from search.grid.telling import (
    chance_of,
    failures,
    finished,
    lead_row,
    numbers_of,
    on_data,
    query,
    so_far,
    with_spread,
)
from search.report.blocks import Block, Card, Chart, Column, HeatMap, Section, Story, Table, Text
from search.report.charts import SHAPES, Axis, data_of, errors, layered, leads, rule, strips
from search.report.records import Records
from structnet.experiments.seed_finder import Candidate, candidates, smallest
from structnet.measure.statistics import mean_and_spread
from structnet.trials.starts import COMPARISONS, SMALL

Row = dict[str, Any]
PARAMETERS = Axis("parameters", "Parameters", log=True)
ACCURACY = Axis("accuracy", "Accuracy on validation", format=".0%")


def story(records: Records) -> Story:
    """The three steps, as far as they have come."""
    every = records.rows("networks")
    grid = [row for row in every if not row["trial"].startswith("seed-")]
    started = [row for row in every if row["trial"].startswith("seed-")]
    chance, margin = chance_of(every), float(records.config.get("margin") or 0.0)
    found = _candidates(records, grid, chance, margin)
    chosen = smallest(found)
    sections = []
    if found and chance is not None:
        blocks: list[Block] = [
            _overview(found, chosen, chance, margin),
            _map(found, chosen),
            _table(found, chosen),
        ]
        sections.append(Section("The smallest that learns", blocks))
    for name, comparison in COMPARISONS.items():
        mine = [row for row in started if row["trial"].endswith(name)]
        if any(row["network"] in comparison.arms for row in finished(mine)):
            sections.append(Section(comparison.title, _comparison(name, mine)))
    if failed := failures(every):
        sections.append(Section("What failed", failed))
    lead = _lead(records, grid, chosen, started)
    return Story(lead, _cards(chosen, started, chance), sections, _commands(records, chosen, started))


def _candidates(records: Records, grid: list[Row], chance: float | None, margin: float) -> list[Candidate]:
    """Those of which all rng_seeds are there."""
    if chance is None:
        return []
    seeds = int(records.config.get("rng_seeds") or 0)
    return [one for one in candidates(grid, chance, margin) if one.rng_seeds >= seeds and one.accuracies]


def _lead(records: Records, grid: list[Row], chosen: Candidate | None, started: list[Row]) -> str:
    config = records.config
    shapes = len(str(config.get("architectures") or "").replace(",", " ").split())
    planned = shapes * len(numbers_of(config, "densities")) * int(config.get("rng_seeds") or 0)
    begins = so_far(records.status, len(grid), planned)
    if chosen is None:
        return begins + ("No candidate learns with every rng_seed." if grid else "No network has ended yet.")
    text = (
        f"The smallest network that learns with all of {chosen.rng_seeds} rng_seeds has {chosen.parameters:,} "
        f"parameters: {chosen.shape} at density {chosen.density:g}, {chosen.mean:.1%} on average."
    )
    for name in COMPARISONS:
        mine = [row for row in started if row["trial"].endswith(name)]
        if mine and records.status == "finished":
            text += f" {_verdict(name, mine)}"
    return begins + text


def _verdict(name: str, rows: list[Row]) -> str:
    """How the method of a comparison stands against what it was stated beforehand to be compared with."""
    comparison = COMPARISONS[name]
    lead = leads_of(finished(rows), comparison.method, "accuracy").get(comparison.control)
    if lead is None:
        return f"{comparison.title} was not tested."
    return f"{comparison.title} is {in_words(lead)} {comparison.control} ({100 * lead.mean:+.1f} points)."


def _cards(chosen: Candidate | None, started: list[Row], chance: float | None) -> list[Card]:
    cards = []
    if chosen is not None:
        cards.append(Card("smallest that learns", f"{chosen.parameters:,}", "parameters"))
        cards.append(Card("its shape", chosen.shape, f"density {chosen.density:g}"))
        cards.append(Card("its accuracy", with_spread(list(chosen.accuracies)), "on validation"))
    for name, comparison in COMPARISONS.items():
        rows = [row for row in started if row["trial"].endswith(name)]
        lead = leads_of(finished(rows), comparison.method, "accuracy").get(comparison.control)
        if lead is not None:
            sure = (
                f"; 95 % {100 * lead.low:+.1f} to {100 * lead.high:+.1f}" if lead.high < float("inf") else ""
            )
            cards.append(
                Card(comparison.title, f"{100 * lead.mean:+.1f}", f"points over {comparison.control}{sure}")
            )
    if chance is not None:
        cards.append(Card("chance", f"{chance:.1%}", "of saying the commonest class"))
    return cards


# The smallest that learns


def _overview(found: list[Candidate], chosen: Candidate | None, chance: float, margin: float) -> Block:
    import altair as alt

    few = len({one.shape for one in found}) <= len(SHAPES)
    rows = []
    for one in found:
        mean, spread = mean_and_spread(one.accuracies)
        series = one.shape if few else f"{len(one.architecture) - 2} hidden groups"
        numbers = {"parameters": one.parameters, "accuracy": mean, "spread": spread, "density": one.density}
        rows.append(
            {"of": series, "shape": one.shape, **numbers, "learned": f"{one.learned} of {one.rng_seeds}"}
        )
    more = [
        Axis("shape", "shape", kind="nominal"),
        Axis("density", "density", format=".4~g"),
        Axis("learned", "rng_seeds that learn", kind="nominal"),
    ]
    charts = [
        errors(rows, PARAMETERS, ACCURACY, "spread", "of", more=more),
        rule(chance, "chance"),
        rule(chance + margin, "learns"),
    ]
    if chosen is not None:
        place = [{"parameters": chosen.parameters, "accuracy": chosen.mean}]
        ring = alt.Chart(data_of(place)).mark_point(size=260, strokeWidth=2.2, color="currentColor")
        charts.append(ring.encode(x=PARAMETERS.encoded("x"), y=ACCURACY.encoded("y")))
    return Chart(
        layered(*charts),
        "candidates",
        "Which small networks learn",
        text=f"Mean accuracy over parameters of {len(found)} candidates.",
        caption="A point is the mean of a candidate over its rng_seeds, whiskers one standard deviation; lines join "
        "the densities of a shape. The ring is the smallest of which every rng_seed is above the line.",
    )


def _map(found: list[Candidate], chosen: Candidate | None) -> Block:
    shapes = list(dict.fromkeys(one.shape for one in sorted(found, key=lambda one: sum(one.architecture))))
    densities = sorted({one.density for one in found})
    learned = {(one.shape, one.density): one.learned / one.rng_seeds for one in found}
    marked = (
        frozenset({(shapes.index(chosen.shape), densities.index(chosen.density))})
        if chosen is not None
        else frozenset()
    )
    return HeatMap(
        "Share of the rng_seeds that learn",
        [[learned.get((shape, density)) for density in densities] for shape in shapes],
        marked,
        ("shape", "density"),
        shapes,
        [f"{density:g}" for density in densities],
        ".0%",
    )


def _table(found: list[Candidate], chosen: Candidate | None) -> Table:
    columns: list[Column | str] = [
        "shape",
        Column("density", "g"),
        Column("parameters", ","),
        "rng_seeds that learn",
        Column("least accuracy", ".2%"),
        Column("mean", ".2%"),
        Column("spread", ".2%"),
    ]
    rows = []
    for one in found:
        mean, spread = mean_and_spread(one.accuracies)
        learned = f"{one.learned} of {one.rng_seeds}"
        rows.append((one.shape, one.density, one.parameters, learned, min(one.accuracies), mean, spread))
    marked = frozenset({found.index(chosen)}) if chosen is not None else frozenset()
    return Table(columns, rows, "Candidates, the smallest first", marked)


# What it is good for


def _comparison(name: str, rows: list[Row]) -> list[Block]:
    """The arms of one comparison, how far its method leads, and the verdict."""
    comparison = COMPARISONS[name]
    ended = finished(rows)
    mine = [row for row in ended if row["network"] in comparison.arms]
    order = [arm for arm in comparison.arms if any(row["network"] == arm for row in mine)]
    shown = [
        {"arm": arm, "accuracy": row["accuracy"], "seed": row["rng_seed"]}
        for arm in order
        for row in mine
        if row["network"] == arm
    ]
    more = [Axis("seed", "rng_seed", kind="nominal")]
    what = "; ".join(f"{arm}: {text}" for arm, text in comparison.arms.items() if arm in order)
    blocks: list[Block] = [
        Chart(
            strips(shown, Axis("arm", kind="nominal"), ACCURACY, paired="seed", more=more),
            f"{name}-arms",
            f"What each start reaches: {comparison.title.lower()}",
            text="; ".join(
                f"{arm} {with_spread([row['accuracy'] for row in mine if row['network'] == arm])}"
                for arm in order
            ),
            caption=f"A point is a network, a bar the mean; lines join those of one rng_seed. {what}.",
        )
    ]
    leading = leads_of(mine, comparison.method, "accuracy")
    found = {arm: leading[arm] for arm in comparison.arms if arm in leading}
    if found:
        seeds = len({row["rng_seed"] for row in mine})
        axis = Axis("lead", f"{comparison.method} is ahead, points", format="+.3~f")
        blocks.append(
            Chart(
                leads(
                    [lead_row(arm, lead, seeds) for arm, lead in found.items()],
                    Axis("arm", kind="nominal"),
                    axis,
                    "low",
                    "high",
                ),
                f"{name}-leads",
                f"How far {comparison.method} is ahead",
                text="; ".join(f"{arm} {lead.shown(scale=100)} points" for arm, lead in found.items()),
                caption="Differences of accuracy, paired by rng_seed, with their 95 % interval. Stated beforehand to "
                f"be compared with: {comparison.control}.",
            )
        )
        blocks.append(
            Text(sentence_of(name, [row for row in rows if row["network"] in comparison.arms], found))
        )
    return [*blocks, _arms(name, ended)]


def _arms(name: str, ended: list[Row]) -> Table:
    comparison = COMPARISONS[name]
    by_loss = leads_of([row for row in ended if row["network"] in comparison.arms], comparison.method, "loss")
    columns: list[Column | str] = [
        "arm",
        "what it is",
        Column("parameters", ",.0f"),
        "accuracy",
        "loss",
        "ahead in loss, nats (95 %)",
    ]
    rows = []
    for arm, what in {SMALL: "what it starts from", **comparison.arms}.items():
        mine = [row for row in ended if row["network"] == arm]
        if mine:
            rows.append(
                (
                    arm,
                    what,
                    mean_and_spread([row["parameters"] for row in mine])[0],
                    with_spread([row["accuracy"] for row in mine], ".2%"),
                    with_spread([row["loss"] for row in mine], ".4f"),
                    by_loss[arm].shown(digits=4) if arm in by_loss else "",
                )
            )
    return Table(columns, rows, "Means ± standard deviation over the rng_seeds")


def _commands(records: Records, chosen: Candidate | None, started: list[Row]) -> list[tuple[str, str]]:
    data, where = on_data(records.config), records.where
    lines = []
    if chosen is not None:
        shape = f"--architecture {chosen.architecture} --density {chosen.density:g}"
        lines.append(("Grow from the smallest that learns", f"structnet grow{data} {shape}{where}"))
    saved = [
        row for row in started if row["snapshot"] and row["network"] != SMALL and row["loss"] is not None
    ]
    if saved:
        best = min(saved, key=lambda row: (row["loss"], row["rng_seed"]))
        line = f"structnet train{data} --snapshot {shlex.quote(best['snapshot'])}{where}"
        lines.append(("Train the best of the larger ones on", line))
    sql = (
        "select network, avg(parameters) parameters, avg(accuracy) accuracy, stddev(accuracy) spread from networks "
        f"where experiment = '{records.name}' and trial like 'seed-%' group by all"
    )
    return [*lines, ("Ask the table", query(where, sql))]
