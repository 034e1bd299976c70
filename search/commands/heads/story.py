"""The story of `heads`: what the strategies came to, which heads went, and how the models learned."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from search.commands.heads.results import (
    NUMBERS,
    TEXTS,
    Row,
    cells_of,
    first_of,
    level_of,
    sentences_of,
    settings_of,
)
from search.commands.heads.story_networks import LOSS, every_network, samples_of
from search.grid.telling import failures, means, on_data, query, so_far, with_spread
from search.report.blocks import Block, Card, Chart, HeatMap, Link, Section, Side, Story, Table, Text
from search.report.charts import Axis, beside, lines, strips
from search.report.records import Records
from structnet.heads.strategies import NONE
from structnet.trials.head_warm_up import WARM_UP

Rows = Sequence[Row]
ENOUGH_SEEDS = 5  # from which on a comparison is a claim
SHOWN = {
    "gradient": "Gradient of the output projection",
    "entropy": "Entropy of what is looked at",
    "saliency": "Saliency of the gate",
}
LOOK = Axis("look", "Look at validation data", kind="ordinal")
SPREAD = (Axis("spread", "standard deviation"), Axis("n", "rng_seeds", format="d"))


def story(records: Records) -> Story:
    """Of the networks that have ended; before that, of the warm-ups."""
    every = records.rows("networks")
    warm = [row for row in every if row["method"] == WARM_UP]
    networks = [row for row in every if row["method"] != WARM_UP]
    rows = [row for row in networks if row["status"] == "finished"]
    epochs, decisions = records.rows("epochs"), records.rows("decisions")
    pages = {
        "networks.html": every_network(rows, epochs, decisions),
        "samples.html": samples_of(records, rows),
    }
    pages = {file: sections for file, sections in pages.items() if sections}
    sections = [
        *([Section("What the strategies came to", _reached(rows, networks))] if networks else []),
        *([Section("After heads went", [_curves(rows, epochs)])] if rows and epochs else []),
        *_heads(records, warm),
        *_often(rows, decisions),
        *([Section("Warm-up", _warm_up(warm, epochs))] if warm else []),
        *([Section("More of every network", [Link(PAGES[file], file) for file in pages])] if pages else []),
    ]
    return Story(
        _lead(records, warm, networks, rows),
        _cards(warm, rows),
        sections,
        _commands(records, networks),
        pages,
    )


PAGES = {
    "networks.html": "Numbers, decisions and losses of every network",
    "samples.html": "What the models say",
}


def _lead(records: Records, warm: Rows, networks: Rows, rows: Rows) -> str:
    begins = so_far(records.status, len(networks), 0)
    if not rows:
        return (
            begins
            + f"{len(warm)} models are warmed up, and none of them has come to the end without heads yet."
        )
    settings = settings_of(rows)
    level = settings[-1][0]
    means_of = {method: _loss(mine) for own, method, mine in settings if own == level}
    best = min(means_of, key=lambda method: means_of[method])
    mine = next(mine for own, method, mine in settings if (own, method) == (level, best))
    text = f"{begins}Without {level:.0%} of its heads, a model has the lowest test loss by {best}: {_nats(mine)}."
    control = [row for row in rows if row["method"] == NONE]
    return text + (f" With all of them it has {_nats(control)}." if control and level else "")


def _loss(rows: Rows) -> float:
    return sum(row["test_loss"] for row in rows) / len(rows)


def _nats(rows: Rows) -> str:
    return f"{with_spread([row['test_loss'] for row in rows], '.3f')} nats (n = {len(rows)})"


def _cards(warm: Rows, rows: Rows) -> list[Card]:
    """What the best strategy of each level came to, beside the control, and how much it rests on."""
    found = []
    by_level: dict[float, list[tuple[str, list[Row]]]] = {}
    for level, method, mine in settings_of(rows) if rows else []:
        by_level.setdefault(level, []).append((method, mine))
    for level, methods in by_level.items():
        method, mine = min(methods, key=lambda one: _loss(one[1]))
        title = f"Without {level:.0%} of the heads" if level else "With all heads"
        found.append(
            Card(title, with_spread([row["test_loss"] for row in mine], ".3f"), f"nats on test, {method}")
        )
    if warm:
        found.append(Card("Heads", f"{warm[0]['heads']:,}", f"{warm[0]['parameters']:,} parameters"))
        seeds = len({row["rng_seed"] for row in warm})
        note = "" if seeds >= ENOUGH_SEEDS else f"a claim has at least {ENOUGH_SEEDS}"
        found.append(Card("rng_seeds", f"{seeds}", note))
    return found


def _reached(rows: Rows, networks: Rows) -> list[Block]:
    if not rows:
        return failures(networks)
    blocks: list[Block] = [Text(line) for line in sentences_of(rows)]
    told = (
        "Losses in nats. Pruned and final: on validation data, before and after training on. Recovery: of the loss "
        f"that pruning added, the share that is gone again. Last column: test loss above that of {first_of(rows)}, "
        "paired over rng_seeds with a 95 % interval. All spend the same steps: what is tried out or scored trains less."
    )
    table = Table([*TEXTS, *NUMBERS], cells_of(rows), "Mean ± standard deviation over rng_seeds")
    return [*blocks, _losses(rows), table, Text(told, "note"), *failures(networks)]


def _losses(rows: Rows) -> Chart:
    """The test loss of every network by its strategy, side by side for every level, the control in each."""
    drawn = {
        title: strips(
            [
                {"strategy": method, "loss": row["test_loss"], "rng_seed": row["rng_seed"]}
                for own, method, mine in settings_of(rows)
                if own in (0.0, level)
                for row in mine
            ],
            Axis("strategy", kind="nominal"),
            Axis("loss", "Test loss, nats"),
            more=[Axis("rng_seed", format="d")],
        )
        for level, title in _levels(rows)
    }
    text = "; ".join(
        f"{method} at {level_of(mine[0])}: {_nats(mine)}" for _, method, mine in settings_of(rows)
    )
    return Chart(
        _joined(drawn),
        "test-loss",
        "Test loss of every network",
        text,
        "A point for each rng_seed, a line at their mean; lower is better. Test data were read once, at the end.",
    )


def _levels(rows: Rows) -> list[tuple[float, str]]:
    """The levels at which heads were removed, with what their charts are called."""
    levels = sorted({row["level"] for row in rows} - {0.0}) or [0.0]
    return [(level, f"{level:.0%} of the heads") for level in levels]


def _joined(drawn: Mapping[str, Any]) -> Any:
    """Charts by their titles as one; strategies have long names, so at most two stand side by side."""
    if len(drawn) == 1:
        return next(chart.properties(title=title) for title, chart in drawn.items())
    return beside(drawn, columns=2)


def _curves(rows: Rows, epochs: Rows) -> Chart:
    """Validation loss behind the warm-up by strategy, the mean over rng_seeds, side by side for every level."""
    looks: dict[str, list[Row]] = {}
    for one in epochs:
        looks.setdefault(one["network"], []).append(one)
    drawn = {}
    for level, title in _levels(rows):
        found = [
            {"strategy": method, "look": one["epoch"], "loss": one["loss"]}
            for own, method, mine in settings_of(rows)
            if own in (0.0, level)
            for row in mine
            for one in looks.get(row["network"], [])
        ]
        mean = means(found, "strategy", "look", "loss")
        drawn[title] = lines(mean, LOOK, LOSS, "strategy", more=SPREAD)
    return Chart(
        _joined(drawn),
        "validation-loss",
        "Validation loss after heads went",
        f"Validation loss of {len(rows)} networks while they train on.",
        f"Means over rng_seeds; {NONE}, where it is there, keeps all heads.",
    )


# Heads


def _heads(records: Records, warm: Rows) -> list[Section]:
    """The scores of all heads after the first warm-up."""
    for row in warm:
        if scores := [one for one in records.rows("head_scores") if one["network"] == row["network"]]:
            maps = [
                [HeatMap(title, grid_of([(one["layer"], one["index"], one[name]) for one in scores]))]
                for name, title in SHOWN.items()
            ]
            text = (
                f"What the scores say of every head when the model of rng_seed {row['rng_seed']} has warmed up; least "
                "seem to matter heads of little gradient and saliency, and of much entropy."
            )
            return [Section("Heads after the warm-up", [Text(text), Side(maps)])]
    return []


def grid_of(cells: Sequence[Sequence[Any]]) -> list[list[float | None]]:
    """Of (layer, head, value) rows of layers; None where there is no head."""
    values = {(layer, number): value for layer, number, value in cells}
    layers, heads = (1 + max(key[axis] for key in values) for axis in (0, 1))
    return [[values.get((layer, number)) for number in range(heads)] for layer in range(layers)]


def _often(rows: Rows, decisions: Rows) -> list[Section]:
    """Of every head in how many of the networks of a setting it is gone."""
    maps = []
    for level, method, mine in settings_of(rows) if rows else []:
        names = {row["network"] for row in mine}
        counts = Counter[tuple[int, int]]()
        for one in decisions:
            if one["network"] in names:
                counts[one["layer"], one["index"]] += one["removed"] - one["regrown"]
        if level and counts:
            grid = grid_of([[*key, count] for key, count in counts.items()])
            maps.append([HeatMap(f"{method}, {level:.0%}, of {len(mine)}", grid, format=".0f")])
    return [Section("How often a head was removed", [Side(maps)])] if maps else []


def _warm_up(warm: Rows, epochs: Rows) -> list[Block]:
    """How the models came to be that heads are removed from."""
    names = {row["network"]: f"rng_seed {row['rng_seed']}" for row in warm}
    mine = [
        {"rng_seed": names[one["network"]], "look": one["epoch"], "loss": one["loss"]}
        for one in epochs
        if one["network"] in names
    ]
    ended = Table(
        ("rng_seed", "steps", "ended by", "validation loss", "accuracy"),
        [
            [row[name] for name in ("rng_seed", "stabilised_at", "stabilised_by", "loss", "accuracy")]
            for row in warm
        ],
    )
    if not mine:
        return [ended]
    chart = lines(mine, LOOK, LOSS, "rng_seed")
    title, text = (
        "Validation loss while the models warm up",
        "Each ends where its training loss falls no more.",
    )
    return [Chart(chart, "warm-up", title, f"{title}, for {len(names)} rng_seeds.", text), ended]


def _commands(records: Records, networks: Rows) -> list[tuple[str, str]]:
    """The table by strategy, and the same on rng_seeds that are new."""
    columns = "method, level, avg(test_loss) loss, stddev(test_loss) spread, avg(heads) heads"
    where = f"experiment = '{records.name}' and level is not null"
    asked = query(
        records.where, f"select {columns} from networks where {where} group by all order by level, loss"
    )
    if not networks:
        return [("See how it stands", f"structnet status {records.name}{records.where}")]
    config, fresh = records.config, 1 + max(row["rng_seed"] for row in networks)
    named = ("text", "model", "strategies", "levels", "images")
    told = "".join(f" --{name} {shlex.quote(str(config[name]))}" for name in named if config.get(name))
    data = "" if config.get("text") else on_data(config)
    again = f"structnet heads{data}{told} --rng-seed {fresh} --rng-seeds {ENOUGH_SEEDS}{records.where}"
    return [
        ("Does it hold on rng_seeds that are new?", again),
        ("Every strategy at every level, from the tables", asked),
    ]
