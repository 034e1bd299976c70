"""The story of a hunt: all networks by accuracy and size, the champions among them, and what each density is worth."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from search.grid.telling import (
    MOST_POINTS,
    MOST_ROWS,
    chance_of,
    failures,
    finished,
    numbers_of,
    on_data,
    query,
    said_thinned,
    so_far,
    tally,
    thinned,
)
from search.report.blocks import Block, Card, Chart, Column, HeatMap, Section, Story, Table, Text
from search.report.charts import SHAPES, Axis, data_of, layered, points, rule
from search.report.records import Records
from structnet.network.architecture import architecture_of_row, dashed
from structnet.trials.champions import champions

Row = dict[str, Any]
Champions = dict[tuple[str, float | None], Row]
BEST_BY = {"accuracy": "most accurate", "efficiency": "most efficient", "patchable": "patchable"}
MOST_SHAPES = 60  # rows of a heat map
PARAMETERS = Axis("parameters", "Parameters", log=True)
ACCURACY = Axis("accuracy", "Accuracy on validation", format=".0%")


def story(records: Records) -> Story:
    """What was found among so many networks."""
    rows = records.rows("networks")
    ended = finished(rows)
    found = champions(ended)
    chance = chance_of(rows)
    sections = []
    if ended:
        sections.append(Section("All networks", _overview(ended, found, chance)))
        sections.append(Section("Champions", _champions(found)))
        sections.append(Section("Shapes and densities", _maps(ended, found)))
    if rows:
        sections.append(Section("Every network", [*failures(rows), _table(rows)]))
    return Story(_lead(records, rows, found), _cards(rows, found), sections, _commands(records, found))


def _lead(records: Records, rows: Sequence[Row], found: Champions) -> str:
    begins = so_far(records.status, len(rows), _planned(records))
    if not found:
        return begins + ("No network has been trained to its end." if rows else "No network has ended yet.")
    best = found["accuracy", None]
    text = (
        f"Of {len(rows):,} networks ({tally(rows)}) the most accurate is {best['network']}: "
        f"{best['accuracy']:.1%} on validation with {best['parameters']:,} parameters."
    )
    lean = found.get(("efficiency", None))
    if lean is not None and lean["network"] != best["network"]:
        text += (
            f" Most for each parameter has {lean['network']}: {lean['accuracy']:.1%} "
            f"with {lean['parameters']:,}."
        )
    return begins + text


def _planned(records: Records) -> int:
    """How many networks the options ask for."""
    config = records.config
    shapes = len(str(config.get("architectures") or "").replace(",", " ").split())
    return shapes * len(numbers_of(config, "densities")) * int(config.get("rng_seeds") or 0)


def _cards(rows: Sequence[Row], found: Champions) -> list[Card]:
    if not rows:
        return []
    cards = [Card("networks", f"{len(rows):,}", tally(rows))]
    if best := found.get(("accuracy", None)):
        test = best["test_accuracy"]
        note = "on validation, the best of all" if test is None else f"on validation; {test:.1%} on test"
        cards.append(Card("most accurate", f"{best['accuracy']:.1%}", note))
        cards.append(Card("its parameters", f"{best['parameters']:,}", f"{_share(best)} of a dense one"))
    if lean := found.get(("efficiency", None)):
        worth = f"{1e5 * lean['efficiency']:,.1f} points"
        cards.append(
            Card(
                "most efficient",
                worth,
                f"for 1,000 parameters; {lean['accuracy']:.1%}, {lean['parameters']:,}",
            )
        )
    return cards


def _share(row: Row) -> str:
    return f"{row['parameters'] / row['parameters_dense']:.1%}" if row["parameters_dense"] else "a part"


# Charts and maps


def _overview(ended: Sequence[Row], found: Champions, chance: float | None) -> list[Block]:
    """Accuracy over parameters, with the front and the champions."""
    by, named = _series(ended)
    rows = sorted(named, key=lambda row: (row["order"], row["parameters"]))
    of_all = {row["network"] for (_, density), row in found.items() if density is None}
    kept = {row["network"] for row in found.values()}
    shown = thinned(rows, MOST_POINTS, lambda row: row["network"] in kept)
    more = [Axis("network", "network", kind="nominal"), Axis("density", "density", format=".4~g")]
    charts = [
        points(shown, PARAMETERS, ACCURACY, by, more=more, size=60 if len(shown) < 500 else 24),
        _front(front_of(ended)),
        _rings([row for row in shown if row["network"] in of_all], found),
    ]
    if chance is not None:
        charts.insert(0, rule(chance, "chance"))
    return [
        Chart(
            layered(*charts),
            "hunt",
            "Accuracy against size",
            text=f"Accuracy on validation over parameters of {len(shown):,} networks, with the Pareto front.",
            caption="A point is a network. The line is the front: no smaller network is as accurate as one on it. "
            "Rings are the champions; chance is the share of the commonest class."
            + said_thinned(len(shown), len(rows)),
        )
    ]


def _series(rows: Sequence[Row]) -> tuple[str, list[Row]]:
    """What tells the colours apart, and the rows with it: the density, or where there are many the hidden groups."""
    if len({row["density"] for row in rows}) <= len(SHAPES):
        return "of density", [
            {**_plain(row), "of density": f"density {row['density']:g}", "order": row["density"]}
            for row in rows
        ]
    hidden = [max(0, len(row["architecture"]) - 2) for row in rows]
    return "groups", [
        {**_plain(row), "groups": f"{count} hidden groups", "order": count}
        for row, count in zip(rows, hidden)
    ]


def _plain(row: Row) -> Row:
    return {name: row[name] for name in ("network", "parameters", "accuracy", "density")}


def front_of(rows: Sequence[Row]) -> list[Row]:
    """The networks than which no smaller one is as accurate, smallest first."""
    found: list[Row] = []
    for row in sorted(rows, key=lambda row: (row["parameters"], -row["accuracy"])):
        if not found or row["accuracy"] > found[-1]["accuracy"]:
            found.append(row)
    return found


def _front(rows: Sequence[Row]) -> Any:
    import altair as alt

    data = data_of([_plain(row) for row in rows])
    line = alt.Chart(data).mark_line(interpolate="step-after", strokeWidth=1.5, color="currentColor")
    return line.encode(x=PARAMETERS.encoded("x"), y=ACCURACY.encoded("y"))


def _rings(rows: Sequence[Row], found: Champions) -> Any:
    """Around the champions of all densities, with what they are best by."""
    import altair as alt

    titles: dict[str, list[str]] = {}
    for (criterion, density), row in found.items():
        if density is None:
            titles.setdefault(row["network"], []).append(BEST_BY[criterion])
    named = [
        {**_plain(row), "best": ", ".join(titles[row["network"]])} for row in rows if row["network"] in titles
    ]
    based = alt.Chart(data_of(named)).encode(x=PARAMETERS.encoded("x"), y=ACCURACY.encoded("y"))
    ring = based.mark_point(size=260, strokeWidth=2.2, color="currentColor", filled=False, opacity=1)
    label = based.mark_text(dy=-15, fontSize=11, color="currentColor").encode(text="best:N")
    return alt.layer(ring, label)


def _champions(found: Champions) -> list[Block]:
    columns: list[Column | str] = [
        "best by",
        Column("density"),
        "network",
        Column("parameters", ","),
        Column("bytes", ","),
        Column("multiply-adds", ","),
        Column("accuracy", ".2%"),
        Column("points for 1,000 parameters", ",.1f"),
        Column("patchability", ".3f"),
        Column("accuracy on test", ".2%"),
        "snapshot",
    ]
    rows = [
        (
            BEST_BY[criterion],
            "all" if density is None else f"{density:g}",
            row["network"],
            row["parameters"],
            row["bytes"],
            row["macs"],
            row["accuracy"],
            None if row["efficiency"] is None else 1e5 * row["efficiency"],
            row["patchability"],
            row["test_accuracy"],
            row["snapshot"] or "",
        )
        for (criterion, density), row in found.items()
    ]
    marked = frozenset(number for number, (_, density) in enumerate(found) if density is None)
    text = (
        "The best by accuracy, by accuracy above chance for each parameter, and the one that a patch is predicted to "
        "gain most for: the least accurate of those that have learned and have hidden units. They were chosen on "
        "validation; test was read once, for them alone."
    )
    return [Text(text), Table(columns, rows, "Champions of all densities, in bold, and of each", marked)]


def _maps(ended: Sequence[Row], found: Champions) -> list[Block]:
    """Mean accuracy of every shape at every density, and how many of its units do nothing."""
    shapes: dict[str, int] = {}
    cells: dict[tuple[str, float], list[Row]] = {}
    for row in ended:
        shape = dashed(architecture_of_row(row))
        shapes[shape] = row["parameters_dense"] or 0
        cells.setdefault((shape, row["density"]), []).append(row)
    densities = sorted({row["density"] for row in ended})
    names = sorted(shapes, key=lambda shape: (shapes[shape], shape))
    dropped = len(names) - MOST_SHAPES
    if dropped > 0:
        best = {
            shape: max(_mean(mine, "accuracy") or 0.0 for (one, _), mine in cells.items() if one == shape)
            for shape in names
        }
        kept = set(sorted(names, key=lambda shape: -best[shape])[:MOST_SHAPES])
        names = [name for name in names if name in kept]
    places = {name: number for number, name in enumerate(names)}
    marked = frozenset(
        (places[shape], densities.index(row["density"]))
        for (_, density), row in found.items()
        if density is None and (shape := dashed(architecture_of_row(row))) in places
    )

    def map_of(title: str, column: str, style: str) -> HeatMap:
        values = [[_mean(cells.get((name, density), ()), column) for density in densities] for name in names]
        heads = [f"{density:g}" for density in densities]
        return HeatMap(title, values, marked, ("shape", "density"), names, heads, style)

    text = (
        "Each cell is the mean over the rng_seeds that were trained to their end; one without any is empty. Shapes are "
        "sorted by the parameters that they have when dense. Frames are around the champions."
    )
    if dropped > 0:
        text += f" The {MOST_SHAPES} best shapes are shown; {dropped:,} others are in the table."
    blocks: list[Block] = [Text(text), map_of("Accuracy by shape and density", "accuracy", ".1%")]
    if any(_mean(mine, "unhealthy") is not None for mine in cells.values()):
        blocks.append(map_of("Hidden units that are saturated or dead", "unhealthy", ".0%"))
    return blocks


def _mean(rows: Sequence[Row], column: str) -> float | None:
    values = [_unhealthy(row) if column == "unhealthy" else row[column] for row in rows]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _unhealthy(row: Row) -> float | None:
    """Share of the hidden units that are saturated or dead."""
    if not row["hidden_units"] or None in (row["saturated"], row["dead"]):
        return None
    return float((row["saturated"] + row["dead"]) / row["hidden_units"])


def _table(rows: Sequence[Row]) -> Table:
    """All networks, the most accurate first."""
    columns: list[Column | str] = [
        "network",
        Column("density", "g"),
        Column("parameters", ","),
        Column("accuracy", ".2%"),
        Column("points for 1,000 parameters", ",.1f"),
        Column("information, bits", ".3f"),
        Column("saturated or dead", ".0%"),
        Column("patchability", ".3f"),
        "epochs",
        "how it ended",
    ]
    ordered = sorted(rows, key=lambda row: (row["accuracy"] is None, -(row["accuracy"] or 0.0)))
    cells = [
        (
            row["network"],
            row["density"],
            row["parameters"],
            row["accuracy"],
            None if row["efficiency"] is None else 1e5 * row["efficiency"],
            row["information"],
            _unhealthy(row),
            row["patchability"],
            row["epochs"],
            row["status"],
        )
        for row in ordered[:MOST_ROWS]
    ]
    caption = "Networks, the most accurate first"
    if len(rows) > MOST_ROWS:
        caption += f": {MOST_ROWS:,} of {len(rows):,}"
    return Table(columns, cells, caption)


def _commands(records: Records, found: Champions) -> list[tuple[str, str]]:
    data = on_data(records.config)
    lines = []
    if best := found.get(("accuracy", None)):
        shape = str(architecture_of_row(best))
        lines.append(
            (
                "Grow from the most accurate seed",
                f"structnet grow{data} --architecture {shape} --density {best['density']:g}{records.where}",
            )
        )
        if best["snapshot"]:
            snapshot = shlex.quote(best["snapshot"])
            lines.append(
                ("Take it as it is, as a file for ONNX Runtime", f"structnet export {snapshot} --to onnx")
            )
    sql = (
        "select network, parameters, accuracy, efficiency, patchability from networks where experiment = "
        f"'{records.name}' order by efficiency desc limit 20"
    )
    lines.append(("Ask the table, here for the most efficient", query(records.where, sql)))
    return lines
