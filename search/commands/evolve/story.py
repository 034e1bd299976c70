"""The story of an evolution: what each method reaches at each size, for what cost, and how it got there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from search.commands.evolve.results import compared, curves_of, described, finished, methods_of
from search.grid.telling import failures, lead_row, means, numbers_of, on_data, query, so_far, with_spread
from search.report.blocks import Block, Card, Chart, Column, Section, Side, Steps, Story, Table, Text
from search.report.charts import Axis, errors, leads, lines
from search.report.records import Records
from structnet.experiments.error_curve import gap_between
from structnet.measure.statistics import mean_and_spread, paired_lead

Row = dict[str, Any]
# What a size may cost: the column, how it is called, in what unit.
COSTS = (
    ("parameter_steps", "Million parameter-steps", 1e6, "steps"),
    ("multiply_adds", "Billion multiply-adds", 1e9, "multiply-adds"),
)
TEST = Axis("accuracy", "Accuracy on test", format=".1%")


def story(records: Records) -> Story:
    """What a grown network has to beat."""
    asked = str(records.config.get("methods") or "").replace(",", " ").split()
    rows = sorted(
        (row for row in records.rows("networks") if row["method"] and row["max_parameters"]),
        key=lambda row: (
            asked.index(row["method"]) if row["method"] in asked else len(asked),
            row["network"],
        ),
    )
    ended = [
        row
        for row in rows
        if row["status"] == "finished" and None not in (row["test_accuracy"], row["parameters"])
    ]
    sections = []
    if ended:
        sections.append(Section("Accuracy against size", [_sizes(ended), *_gaps(ended), _table(ended)]))
        if costs := _costs(ended):
            sections.append(Section("What it costs", costs))
        if curves := _curves(records, ended):
            sections.append(Section("On the way", curves))
    if rows:
        sections.append(Section("Every network", [*failures(rows), _networks(rows)]))
    return Story(_lead(records, rows, ended), _cards(rows, ended), sections, _commands(records, ended))


# In words


def _lead(records: Records, rows: list[Row], ended: list[Row]) -> str:
    config = records.config
    methods = len(str(config.get("methods") or "").replace(",", " ").split())
    planned = methods * len(numbers_of(config, "parameters")) * int(config.get("rng_seeds") or 0)
    begins = so_far(records.status, len(rows), planned)
    if not ended:
        return begins + ("No network was trained to its end." if rows else "No network has ended yet.")
    least, most = _sizes_of(ended)[0], _sizes_of(ended)[-1]
    said = [_best_at(ended, size) for size in dict.fromkeys((least, most))]
    return f"{begins}Trained alike, on test: {'; '.join(said)}. A grown network of one of these sizes has to beat them."


def _best_at(ended: list[Row], size: int) -> str:
    best = max(methods_of(ended), key=lambda method: _mean_of(ended, method, size))
    return f"of {size:,} parameters {best} is best with {with_spread(_at(ended, best, size))}"


def _at(rows: Sequence[Row], method: str, size: int, column: str = "test_accuracy") -> list[float]:
    """The values of a method at a size, over the rng_seeds."""
    mine = (row for row in finished(rows, method) if row["max_parameters"] == size)
    return [float(row[column]) for row in mine if row[column] is not None]


def _mean_of(rows: Sequence[Row], method: str, size: int) -> float:
    found = _at(rows, method, size)
    return mean_and_spread(found)[0] if found else 0.0


def _sizes_of(rows: Sequence[Row]) -> list[int]:
    return sorted({row["max_parameters"] for row in rows})


def _cards(rows: list[Row], ended: list[Row]) -> list[Card]:
    if not ended:
        return []
    failed = sum(row["status"] == "failed" for row in rows)
    cards = [Card("networks", f"{len(rows):,}", f"{failed} failed" if failed else "none failed")]
    cards.append(Card("methods", f"{len(methods_of(ended))}", f"{len(_sizes_of(ended))} sizes"))
    sizes = _sizes_of(ended)
    for size in dict.fromkeys((sizes[0], sizes[len(sizes) // 2], sizes[-1])):
        best = max(methods_of(ended), key=lambda method: _mean_of(ended, method, size))
        cards.append(
            Card(f"best of {size:,} parameters", f"{_mean_of(ended, best, size):.1%}", f"{best}, on test")
        )
    return cards


# Charts


def _summaries(ended: list[Row]) -> list[Row]:
    """A row for every method and size: means over the rng_seeds, and the spread of the accuracy."""
    found = []
    for method in methods_of(ended):
        for size in _sizes_of(ended):
            if accuracies := _at(ended, method, size):
                mean, spread = mean_and_spread(accuracies)
                row: Row = {"method": method, "accuracy": mean, "spread": spread, "n": len(accuracies)}
                for column, scale in (("parameters", 1.0), *((name, scale) for name, _, scale, _ in COSTS)):
                    values = _at(ended, method, size, column)
                    row[column] = mean_and_spread(values)[0] / scale if values else None
                found.append(row)
    return found


def _sizes(ended: list[Row]) -> Block:
    chart = errors(
        _summaries(ended),
        Axis("parameters", "Parameters", log=True),
        TEST,
        "spread",
        "method",
        more=[_seeds()],
    )
    return Chart(
        chart,
        "sizes",
        "What each method reaches at each size",
        text="; ".join(
            f"{method}: "
            + ", ".join(f"{_mean_of(ended, method, size):.1%} of {size:,}" for size in _sizes_of(ended))
            for method in methods_of(ended)
        ),
        caption="Means over the rng_seeds after the last epoch, whiskers one standard deviation. Further up and to the "
        "left is better.",
    )


def _seeds() -> Axis:
    return Axis("n", "rng_seeds")


def _gaps(ended: list[Row]) -> list[Block]:
    """How far the others are from the first method: over all sizes, or at the only one."""
    first, *others = methods_of(ended)
    has_curves = len(_sizes_of(ended)) > 1
    rows, sentences = [], []
    for method in others:
        if not has_curves:
            mine, its = (_by_seed(ended, name) for name in (method, first))
            lead, count = paired_lead(mine, its), len(mine.keys() & its.keys())
            sentences.append(compared(ended, method, first))
        else:
            gap = gap_between(curves_of(ended, method), curves_of(ended, first))
            lead, count = (None, 0) if gap is None else (gap.height, gap.rng_seeds)
            if lead is not None and gap is not None:
                lead = type(lead)(-lead.mean, -lead.high, -lead.low)  # of accuracy, where a gap is of errors
                sentences.append(described(method, first, gap))
        if lead is not None:
            rows.append(lead_row(method, lead, count))
    if not rows:
        return []
    where = "averaged over the sizes that both reach" if has_curves else "of the same size"
    axis = Axis("lead", f"Ahead of {first}, points of test accuracy", format="+.3~f")
    chart = Chart(
        leads(rows, Axis("arm", kind="nominal"), axis, "low", "high", more=[_seeds()]),
        "leads",
        f"How far each method is ahead of {first}",
        text="; ".join(sentences),
        caption=f"Differences of accuracy on test, {where}, paired by rng_seed, with their 95 % interval where "
        "there are several.",
    )
    return [chart, *(Text(f"{sentence}.") for sentence in sentences)]


def _by_seed(ended: list[Row], method: str) -> dict[int, float]:
    return {row["rng_seed"]: row["test_accuracy"] for row in finished(ended, method)}


def _costs(ended: list[Row]) -> list[Block]:
    """Accuracy over what it took, in two currencies."""
    rows = _summaries(ended)
    charts = [
        Chart(
            errors(costly, Axis(column, title, log=True), TEST, "spread", "method", more=[_seeds()]),
            f"cost-{name}",
            f"Accuracy for {name}",
            text=f"Mean accuracy on test over the mean {title.lower()} of each method and size.",
        )
        for column, title, _, name in COSTS
        if (costly := [row for row in rows if row[column]])
    ]
    if not charts:
        return []
    text = (
        "Parameter-steps are parameters, summed over all steps of training; multiply-adds are what those take on all "
        "images. What is pruned pays for the parameters that it had."
    )
    return [Text(text), Side([[chart] for chart in charts])]


def _curves(records: Records, ended: list[Row]) -> list[Block]:
    """Accuracy on validation over the epochs, a size at a time."""
    made = {row["network"]: row for row in ended}
    epochs = [row for row in records.rows("epochs") if row["network"] in made and row["accuracy"] is not None]
    sizes = _sizes_of(ended)
    labels, contents = [], []
    for size in sizes:
        mine = [
            {"method": made[row["network"]]["method"], "epoch": row["epoch"], "accuracy": row["accuracy"]}
            for row in epochs
            if made[row["network"]]["max_parameters"] == size
        ]
        order = methods_of(ended)
        rows = means(sorted(mine, key=lambda row: order.index(row["method"])), "method", "epoch", "accuracy")
        if len({row["epoch"] for row in rows}) < 2:
            continue
        chart = lines(
            rows,
            Axis("epoch", "Epoch"),
            Axis("accuracy", "Accuracy on validation", format=".0%"),
            "method",
            band=("low", "high"),
            more=[_seeds()],
        )
        labels.append(f"{size:,} parameters")
        contents.append(
            [
                Chart(
                    chart,
                    f"epochs-{size}",
                    f"How networks of {size:,} parameters learn",
                    text=f"Mean accuracy on validation over the epochs of {len(order)} methods.",
                    caption="Means over the rng_seeds, bands one standard deviation each way.",
                )
            ]
        )
    if not contents:
        return []
    return [Steps(labels, contents, len(labels) - 1, "sizes")] if len(contents) > 1 else list(contents[0])


# Tables


def _table(ended: list[Row]) -> Table:
    columns: list[Column | str] = [
        Column("at most", ","),
        "method",
        Column("parameters", ",.0f"),
        Column("accuracy on test", ".2%"),
        "± spread",
        Column("chosen on validation", ".2%"),
        Column("best on test", ".2%"),
        Column("million parameter-steps", ",.4g"),
        Column("billion multiply-adds", ",.4g"),
        "rng_seeds",
    ]
    cells = []
    for size in _sizes_of(ended):
        for method in methods_of(ended):
            accuracies = _at(ended, method, size)
            if not accuracies:
                continue
            mean, spread = mean_and_spread(accuracies)

            def of(column: str, scale: float = 1.0, method: str = method, size: int = size) -> float | None:
                values = _at(ended, method, size, column)
                return mean_and_spread(values)[0] / scale if values else None

            cells.append(
                [
                    size,
                    method,
                    of("parameters"),
                    mean,
                    f"± {spread:.2%}" if len(accuracies) > 1 else "",
                    of("chosen_test_accuracy"),
                    of("best_test_accuracy"),
                    *(of(column, scale) for column, _, scale, _ in COSTS),
                    len(accuracies),
                ]
            )
    caption = (
        "Means over the rng_seeds. Accuracy on test is that after the last epoch; the best on test, as some papers "
        "report it, is too high"
    )
    return Table(columns, cells, caption)


def _networks(rows: list[Row]) -> Table:
    names = (
        "network",
        "method",
        "parameters",
        "accuracy",
        "test_accuracy",
        "loss",
        "epochs",
        "seconds",
        "status",
    )
    columns: list[Column | str] = [
        "network",
        "method",
        Column("parameters", ","),
        Column("accuracy", ".2%"),
        Column("on test", ".2%"),
        Column("loss", ".4f"),
        "epochs",
        Column("seconds", ",.1f"),
        "how it ended",
    ]
    return Table(columns, [[row[name] for name in names] for row in rows], "Networks")


def _commands(records: Records, ended: list[Row]) -> list[tuple[str, str]]:
    data, where = on_data(records.config), records.where
    lines_ = []
    if ended:
        size = _sizes_of(ended)[len(_sizes_of(ended)) // 2]
        seeds = int(records.config.get("rng_seeds") or 1)
        repeats = f" --repeats {seeds}" if seeds > 1 else ""
        line = f"structnet grow{data} --max-parameters {size}{repeats}{where}"
        lines_.append((f"Grow to {size:,} parameters, and see whether that beats them", line))
    sql = (
        "select method, max_parameters, avg(test_accuracy) test, stddev(test_accuracy) spread, "
        f"avg(parameter_steps) cost from networks where experiment = '{records.name}' and status = 'finished' "
        "group by all order by 2, 3 desc"
    )
    return [*lines_, ("Ask the table", query(where, sql))]
