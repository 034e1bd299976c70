"""The pages of the single networks of `heads`: their numbers and decisions, and what they say."""

from __future__ import annotations

from collections.abc import Sequence

import fsspec

from search.commands.heads.results import Row, settings_of
from search.report.blocks import Block, Chart, Column, Folded, HeatMap, Sample, Section, Side, Table, Text
from search.report.charts import Axis, beside, lines
from search.report.records import Records

Rows = Sequence[Row]
FRAMED = "Heads of the highest values go first; those that went are framed."
PHASES = {
    "baseline": "Before the warm-up",
    "warmup": "After the warm-up",
    "pruning": "When the last heads had gone",
    "final": "In the end",
}
LOSS = Axis("loss", "Validation loss, nats")
NUMBERS: dict[str, Column] = {
    "network": Column("network"),
    "rng_seed": Column("rng_seed"),
    "heads": Column("heads"),
    "parameters": Column("parameters"),
    "baseline_loss": Column("baseline loss", ".4f"),
    "pruned_loss": Column("pruned loss", ".4f"),
    "loss": Column("loss", ".4f"),
    "recovery": Column("recovery", ".2f"),
    "accuracy": Column("accuracy", ".2%"),
    "test_loss": Column("test loss", ".4f"),
    "test_accuracy": Column("test accuracy", ".2%"),
    "steps": Column("steps"),
    "steps_all": Column("steps in all"),
    "stabilised_at": Column("steps of the warm-up"),
    "stabilised_by": Column("which ended by"),
}


def every_network(rows: Rows, epochs: Rows, decisions: Rows) -> list[Section]:
    """Numbers, losses and decisions of every network."""
    if not rows:
        return []
    numbers = Table([*NUMBERS.values()], [[row[name] for name in NUMBERS] for row in rows])
    told = [
        Folded(f"{row['method']}, {row['level']:.0%} of the heads, rng_seed {row['rng_seed']}", blocks)
        for row in rows
        if (blocks := decided([one for one in decisions if one["network"] == row["network"]]))
    ]
    return [
        Section("Numbers", [numbers]),
        *([Section("Losses", [_losses(rows, epochs)])] if epochs else []),
        *([Section("Decisions", [Text(FRAMED), *told])] if told else []),
    ]


def _losses(rows: Rows, epochs: Rows) -> Chart:
    """Validation loss behind the warm-up of every network, a chart for each strategy and level."""
    drawn = {}
    for level, method, mine in settings_of(rows):
        names = {row["network"]: f"rng_seed {row['rng_seed']}" for row in mine}
        found = [
            {"rng_seed": names[one["network"]], "look": one["epoch"], "loss": one["loss"]}
            for one in epochs
            if one["network"] in names
        ]
        drawn[f"{method}, {level:.0%}"] = lines(found, Axis("look", "Look", kind="ordinal"), LOSS, "rng_seed")
    title = "Validation loss after heads went, by strategy and share of removed heads"
    return Chart(beside(drawn), "losses", title, f"{title}.", "A line for each rng_seed.")


def decided(decisions: Rows) -> list[Block]:
    """A map of what heads were chosen by for every step at which some went, and a table of those."""
    if not decisions:
        return []
    maps: list[list[Block]] = []
    for step in sorted({one["step"] for one in decisions}):
        mine = [one for one in decisions if one["step"] == step]
        gone = frozenset((one["layer"], one["index"]) for one in mine if one["removed"])
        title = f"{mine[0]['method']}, {step} steps after the warm-up"
        maps.append([HeatMap(title, values_of(mine), gone)])
    table = Table(
        (
            "step",
            "",
            "layer",
            "head",
            "by",
            Column("value", ".4g"),
            Column("loss", ".4f"),
            Column("without", ".4f"),
        ),
        [
            [
                *(one["step"], "removed" if one["removed"] else "came back", one["layer"], one["index"]),
                *(one["method"], one["value"], one["loss"], one["loss_without"]),
            ]
            for one in decisions
            if one["removed"] or one["regrown"]
        ],
    )
    return [Side(maps), table]


def values_of(decisions: Rows) -> list[list[float | None]]:
    """Rows of layers, with what every head was judged by."""
    values = {(one["layer"], one["index"]): one["value"] for one in decisions}
    layers, heads = (1 + max(key[axis] for key in values) for axis in (0, 1))
    return [[values.get((layer, number)) for number in range(heads)] for layer in range(layers)]


def samples_of(records: Records, rows: Rows) -> list[Section]:
    """What every model said by phase, from the files of the networks beside the page; nothing without such files."""
    files, root = fsspec.url_to_fs(f"{records.results}/reports/{records.name}")
    paths = {
        f"{root}/{row['network']}/inference/{phase}_samples.txt": (row["network"], phase)
        for row in rows
        for phase in PHASES
    }
    texts = files.cat(list(paths), on_error="omit") if paths else {}
    found: dict[str, list[Block]] = {}
    for path, (network, phase) in paths.items():
        if path in texts:
            said = Sample(texts[path].decode(errors="replace"), PHASES[phase])
            found.setdefault(network, []).append(said)
    if not found:
        return []
    return [Section("What the models say", [Folded(name, blocks) for name, blocks in found.items()])]
