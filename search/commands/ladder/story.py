"""The story of a ladder: how accuracy falls with density, and where the cliff is."""

from __future__ import annotations

from typing import Any, NamedTuple

from search.commands.ladder.rungs import LEAST_RUNGS, allocations_of, rungs_of, share_of
from search.grid.telling import (
    chance_of,
    failures,
    finished,
    means,
    numbers_of,
    on_data,
    query,
    so_far,
    with_spread,
)
from search.report.blocks import Block, Card, Chart, Column, Section, Story, Table, Text
from search.report.charts import COLOURS, Axis, data_of, layered, lines, points, rule, span
from search.report.records import Records
from structnet.experiments.cliff import Cliff, Rung, halfway, ladder_rows, locate_cliff
from structnet.network.architecture import architecture_of_row, dashed

Row = dict[str, Any]
DENSITY = Axis("density", "Density: connections that exist ÷ possible", log=True, format=".2~g")
ACCURACY = Axis("accuracy", "Accuracy on validation", format=".0%", within=(0.0, 1.0))
FEW_EPOCHS = 2  # fewer are no curve


class Ladder(NamedTuple):
    """The networks of one allocation. cliff: None as long as it is not known."""

    share: str
    rungs: list[Rung]
    cliff: Cliff | None

    @property
    def said(self) -> str:
        """How connections are shared, and where the cliff is."""
        if self.cliff is None:
            return self.share
        if self.cliff.density is not None:
            return f"{self.share}, cliff at {self.cliff.density:.2g}"
        return self.share if self.cliff.below is None else f"{self.share}, cliff below {self.cliff.below:.2g}"


def story(records: Records) -> Story:
    """What the ladder shows."""
    rows = records.rows("networks")
    chance, shares = chance_of(rows), allocations_of(records.config.get("allocation") or "proportional")
    ladders = [_ladder(rows, share, shares, chance, records.status) for share in shares]
    ladders = [ladder for ladder in ladders if ladder.rungs]
    sections = []
    if ladders:
        sections.append(
            Section("Accuracy against density", [_curve(ladders, chance), *_cliffs(ladders, chance)])
        )
        sections.append(Section("Rungs", [_table(rows, ladders), *failures(rows)]))
        sections += _learning(records, rows, shares)
    elif rows:
        sections.append(Section("Networks", failures(rows)))
    return Story(
        _lead(records, rows, ladders), _cards(rows, ladders, chance), sections, _commands(records, ladders)
    )


def _ladder(rows: list[Row], share: str, shares: list[str], chance: float | None, status: str) -> Ladder:
    """A curve that is not whole has no cliff yet: it would lie where the rows end."""
    rungs = rungs_of(finished(rows), share, shares)
    each: dict[int, int] = {}
    for rung in rungs:
        each[rung.rng_seed] = each.get(rung.rng_seed, 0) + 1
    whole = status == "finished" and chance is not None and each and min(each.values()) >= LEAST_RUNGS
    return Ladder(share, rungs, locate_cliff(rungs, chance) if whole and chance is not None else None)


def _lead(records: Records, rows: list[Row], ladders: list[Ladder]) -> str:
    config = records.config
    seeds = int(config.get("rng_seeds") or 0)
    shares = len(allocations_of(config.get("allocation") or "proportional"))
    begins = so_far(records.status, len(rows), len(numbers_of(config, "densities")) * seeds * shares)
    known = [ladder for ladder in ladders if ladder.cliff is not None]
    if not known:
        return begins + (
            "Where the cliff is, is said when all rungs are there." if rows else "No rung has ended yet."
        )
    shape = dashed(architecture_of_row(rows[0]))
    falls = [_fall(ladder) for ladder in known]
    return f"{begins}Where does {shape} become too sparse to learn? {' '.join(falls)}"


def _fall(ladder: Ladder) -> str:
    cliff = ladder.cliff
    shared = f"With connections shared {ladder.share}"
    if cliff is None or cliff.density is None:
        if cliff is None or cliff.below is None:
            return f"{shared} it learns at no density."
        return f"{shared} it still learns at the sparsest rung: the cliff lies below a density of {cliff.below:.2g}."
    sure = "" if cliff.interval is None else " (95 % interval {:.2g} to {:.2g})".format(*cliff.interval)
    return f"{shared} half of its accuracy above chance is lost at a density of {cliff.density:.2g}{sure}."


def _cards(rows: list[Row], ladders: list[Ladder], chance: float | None) -> list[Card]:
    cards = []
    for ladder in ladders:
        cliff = ladder.cliff
        if cliff is None:
            continue
        if cliff.density is not None:
            reach = "" if cliff.interval is None else "95 % {:.2g} to {:.2g}".format(*cliff.interval)
            parameters = _parameters_at(rows, cliff.density)
            value, note = f"{cliff.density:.2g}", ", ".join(part for part in (reach, parameters) if part)
        else:
            value, note = (
                ("none", "nothing learned")
                if cliff.below is None
                else (f"< {cliff.below:.2g}", "not reached")
            )
        cards.append(Card(f"cliff, {ladder.share}", value, note))
        cards.append(
            Card(f"plateau, {ladder.share}", f"{cliff.plateau:.1%}", "mean of the three densest rungs")
        )
    if chance is not None:
        cards.append(Card("chance", f"{chance:.1%}", "of saying the commonest class"))
    return cards


def _parameters_at(rows: list[Row], density: float) -> str:
    """About how many parameters a network of this density has, from the rung that is nearest."""
    known = [row for row in rows if row["parameters"] and row["density_real"]]
    if not known:
        return ""
    near = min(known, key=lambda row: abs(row["density_real"] - density))
    return f"near {near['parameters']:,} parameters"


def _curve(ladders: list[Ladder], chance: float | None) -> Block:
    """Mean and spread of every rung, each network, chance, and the cliffs with their intervals."""
    rows, networks = [], []
    for ladder in ladders:
        rows += [
            {
                "density": row["density_real"],
                "accuracy": row["mean"],
                "low": row["mean"] - row["spread"],
                "high": row["mean"] + row["spread"],
                "n": row["n"],
                "allocation": ladder.said,
            }
            for row in ladder_rows(ladder.rungs)
        ]
        networks += [
            {
                "density": rung.density_real,
                "accuracy": rung.accuracy,
                "allocation": ladder.said,
                "seed": rung.rng_seed,
            }
            for rung in ladder.rungs
        ]
    charts: list[Any] = []
    for number, ladder in enumerate(ladders):
        cliff, colour = ladder.cliff, COLOURS[number]
        if cliff is not None and cliff.interval is not None:
            charts.append(span(*cliff.interval, colour=colour))
        if cliff is not None and cliff.density is not None:
            charts.append(rule(cliff.density, "", vertical=True, colour=colour))
    if chance is not None:
        charts.append(rule(chance, "chance"))
    more = [Axis("seed", "rng_seed", kind="nominal")]
    charts.append(points(networks, DENSITY, ACCURACY, "allocation", more=more, size=14))
    charts.append(
        lines(rows, DENSITY, ACCURACY, "allocation", band=("low", "high"), more=[Axis("n", "rng_seeds")])
    )
    return Chart(
        layered(*charts),
        "ladder",
        "How accuracy falls with density",
        text="Accuracy on validation over density on a logarithmic axis: "
        + "; ".join(one.said for one in ladders),
        caption="Lines are means over the rng_seeds, bands one standard deviation each way, small points networks. A "
        "dashed upright line is a cliff, where accuracy above chance is half of the plateau's; shaded around it, where "
        "it has a colour, its 95 % interval.",
    )


def _cliffs(ladders: list[Ladder], chance: float | None) -> list[Block]:
    if chance is None:
        return []
    return [
        Text(
            f"{ladder.share}: {ladder.cliff.describe()}. Half of its plateau of {ladder.cliff.plateau:.1%} is "
            f"{halfway(ladder.cliff.plateau, chance):.1%}."
        )
        for ladder in ladders
        if ladder.cliff is not None
    ]


def _table(rows: list[Row], ladders: list[Ladder]) -> Table:
    """The rungs, densest first, the allocations side by side."""
    parameters = {row["density_real"]: row for row in rows}
    columns: list[Column | str] = [
        Column("density", ".3g"),
        Column("parameters", ","),
        Column("of a dense one", ".2%"),
    ]
    values: list[dict[float, list[float]]] = []
    for ladder in ladders:
        columns += [
            Column(ladder.share, ".2%", bar=True),
            "± spread",
            "n",
        ]
        values.append({})
        for rung in ladder.rungs:
            values[-1].setdefault(rung.density_real, []).append(rung.accuracy)
    cells = []
    for density in sorted({rung.density_real for ladder in ladders for rung in ladder.rungs}, reverse=True):
        row = parameters[density]
        dense = row["parameters_dense"]
        line: list[Any] = [density, row["parameters"], row["parameters"] / dense if dense else None]
        for found in values:
            here = found.get(density, [])
            mean, _, spread = with_spread(here, ".4f").partition(" ± ")
            line += [float(mean) if mean else None, f"± {float(spread):.2%}" if spread else "", len(here)]
        cells.append(line)
    return Table(columns, cells, "Rungs, the densest first")


def _learning(records: Records, rows: list[Row], shares: list[str]) -> list[Section]:
    """Accuracy over the epochs of the first allocation, by density: whether the sparse would need longer."""
    mine = {row["network"]: row for row in finished(rows) if share_of(row, shares) == shares[0]}
    epochs = [
        {"density": mine[row["network"]]["density"], "epoch": row["epoch"], "accuracy": row["accuracy"]}
        for row in records.rows("epochs")
        if row["network"] in mine and row["accuracy"] is not None
    ]
    if len({row["epoch"] for row in epochs}) < FEW_EPOCHS:
        return []
    chart = _by_density(
        means(sorted(epochs, key=lambda row: -row["density"]), "density", "epoch", "accuracy")
    )
    found = Chart(
        chart,
        "learning",
        "How each rung learns",
        text="Mean accuracy on validation over the epochs, a line for every density.",
        caption=f"Means over the rng_seeds, {shares[0]} allocation. A line that still rises at its end would gain from "
        "more epochs: the cliff is that of this training.",
    )
    return [Section("On the way", [found])]


def _by_density(rows: list[Row]) -> Any:
    """Lines in colours from the densest to the sparsest, all of which stand out from light and from dark ground."""
    import altair as alt

    densities = list(dict.fromkeys(row["density"] for row in rows))
    scale = alt.Scale(domain=densities, range=_graded(len(densities)))
    legend = alt.Legend(orient="right", columns=1, symbolType="circle")
    epoch = Axis("epoch", "Epoch", kind="ordinal")
    accuracy = Axis("accuracy", "Accuracy on validation", format=".0%")
    based = alt.Chart(data_of(rows)).encode(
        x=epoch.encoded("x"),
        y=accuracy.encoded("y"),
        color=alt.Color("density:N", title="density", scale=scale, legend=legend),
        tooltip=[alt.Tooltip("density:Q"), epoch.told(), accuracy.told()],
    )
    return alt.layer(based.mark_line(strokeWidth=2), based.mark_point(filled=True, size=30))


def _graded(count: int) -> list[str]:
    """So many colours from blue to orange."""
    ends = [[int(colour[place : place + 2], 16) for place in (1, 3, 5)] for colour in COLOURS[:2]]
    shares = [number / max(1, count - 1) for number in range(count)]
    return [
        "#" + "".join(f"{round(one + share * (other - one)):02x}" for one, other in zip(*ends))
        for share in shares
    ]


def _commands(records: Records, ladders: list[Ladder]) -> list[tuple[str, str]]:
    config, data = records.config, on_data(records.config)
    shape = config.get("architecture") or "input-256-classes"
    lines_ = []
    cliffs = [ladder for ladder in ladders if ladder.cliff is not None and ladder.cliff.density is not None]
    if cliffs:
        first = cliffs[0]
        assert first.cliff is not None and first.cliff.density is not None
        lines_.append(
            (
                "Can growth bring back a network from below the cliff?",
                f"structnet rescue{data} --architecture {shape} --density {first.cliff.density / 2:.1g} "
                f"--allocation {first.share}{records.where}",
            )
        )
        lines_.append(
            (
                "Grow one from just above it",
                f"structnet grow{data} --architecture {str(shape).replace('-', ',')} "
                f"--density {2 * first.cliff.density:.1g}{records.where}",
            )
        )
    sql = (
        "select density, network like '%_uniform_%' as uniform, avg(accuracy) accuracy, stddev(accuracy) spread "
        f"from networks where experiment = '{records.name}' group by all order by all"
    )
    return [*lines_, ("Ask the table", query(records.where, sql))]
