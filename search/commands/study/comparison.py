"""Comparing the arms of a study: paired by rng_seed, with mean, spread and a 95 % t interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search.commands.study.study import Finding, Row, TextTable, verdict
from search.report import charts
from search.report.charts import Axis, Chart
from structnet.measure.statistics import ConfidenceInterval, mean_and_spread, paired_lead, shown_with_spread

# Columns of a table of arms: quantity, heading, scale, digits.
Column = tuple[str, str, float, int]
VALIDATION: Column = ("accuracy", "validation, %", 100, 2)
TEST: Column = ("test_accuracy", "test, %", 100, 2)
PARAMETERS: Column = ("parameters", "parameters", 1, 0)
COST: Column = ("parameter_steps_all", "parameter-steps, millions", 1e-6, 0)

# Of charts side by side: pixels that an arm needs, and what stands beside the arms.
ARM_WIDTH, LABEL_WIDTH, MOST_PANELS = 28, 60, 3

# How charts are read.
POINTS = "A point for each rng_seed, a line at the mean of each arm."
SPREAD = "Means over rng_seeds; whiskers reach one standard deviation each way."


def values_of(rows: Sequence[Row], quantity: str) -> dict[str, dict[int, float]]:
    """arm -> rng_seed -> value, arms in the order of their first row; the last item of each counts."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.quantity == quantity:
            found.setdefault(row.arm, {})[row.rng_seed] = row.value
    return found


def means_of(rows: Sequence[Row], quantity: str) -> dict[str, float]:
    """arm -> mean over its rng_seeds."""
    return {arm: mean_and_spread([*values.values()])[0] for arm, values in values_of(rows, quantity).items()}


def leads_over(base: str, rows: Sequence[Row], quantity: str) -> dict[str, ConfidenceInterval]:
    """arm -> its lead over the base, paired by the rng_seeds of both; without the base, and arms that share none.

    Raises ValueError if the base has no such rows.
    """
    found = values_of(rows, quantity)
    if base not in found:
        raise ValueError(f"no {quantity} of {base} was measured")
    leads = {arm: paired_lead(values, found[base]) for arm, values in found.items() if arm != base}
    return {arm: lead for arm, lead in leads.items() if lead is not None}


def lead_of(arm: str, base: str, rows: Sequence[Row], quantity: str) -> ConfidenceInterval:
    """Of one arm over another. Raises ValueError if either was not measured, or they share no rng_seed."""
    leads = leads_over(base, rows, quantity)
    if arm not in leads:
        raise ValueError(f"{arm} and {base} were measured with no rng_seed in common")
    return leads[arm]


def in_points(lead: ConfidenceInterval) -> str:
    """A lead in a share as text, in percentage points."""
    return lead.shown(scale=100)


def arms_within(rows: Sequence[Row], task_arm: str | None = None) -> list[Row]:
    """The rows of QUANTITY:ARM as rows of QUANTITY of this arm, for tasks that measure several arms each.

    task_arm: only of this arm of the tasks, whose place those within take.
    """
    found = []
    for row in rows:
        quantity, _, arm = row.quantity.partition(":")
        if arm and task_arm in (None, row.arm):
            found.append(row._replace(arm=arm, quantity=quantity))
    return found


def arm_table(rows: Sequence[Row], columns: Sequence[Column], base: str) -> TextTable:
    """A table of all arms; the first column's quantity also as a lead over the base."""
    first, heading, scale, digits = columns[0]
    leads = leads_over(base, rows, first)
    found = [values_of(rows, quantity) for quantity, *_ in columns]
    table = [("arm", *(name for _, name, _, _ in columns), f"{heading}: lead over {base} (95 % interval)")]
    for arm in found[0]:
        cells = [
            shown_with_spread([*values[arm].values()], scale=factor, digits=places)
            for values, (_, _, factor, places) in zip(found, columns, strict=True)
        ]
        lead = leads[arm].shown(scale=scale, digits=digits) if arm in leads else ""
        table.append((arm, *cells, lead))
    return tuple(table)


def nowhere_worse(base: str, cases: Mapping[str, Sequence[Row]], columns: Sequence[Column]) -> Finding:
    """Whether an arm is in no case surely worse on test than any other, and in one surely better than all."""
    sentences, tables, worse, better = [], {}, [], []
    for case, own in cases.items():
        leads = leads_over(base, own, "test_accuracy")
        worse += [f"{case}: {arm}" for arm, lead in leads.items() if lead.is_above_zero]
        if all(lead.is_below_zero for lead in leads.values()):
            better.append(case)
        best = max(leads, key=lambda arm: leads[arm].mean)
        sentences.append(
            f"{case}: the best of the others is {best}, {in_points(leads[best])} points against {base}."
        )
        tables[case] = arm_table(own, columns, base)
    sentences.append(f"{base.capitalize()} are surely worse than: {', '.join(worse) or 'nothing'}.")
    sentences.append(f"Surely better than everything: {', '.join(better) or 'nowhere'}.")
    holds = verdict(yes=bool(better) and not worse, in_part=not worse)
    return Finding(holds, tuple(sentences), stacked("case", tables))


def stacked(heading: str, tables: Mapping[str, TextTable]) -> TextTable:
    """Tables of the same columns as one, the name of each in a first column; those without rows are left out."""
    found: list[tuple[str, ...]] = []
    for name, (header, *body) in ((name, table) for name, table in tables.items() if table):
        found = found or [(heading, *header)]
        found += [(name, *cells) for cells in body]
    return tuple(found)


def draw_arms(rows: Sequence[Row], quantity: str, label: str, *, scale: float = 1.0) -> Chart:
    """A point for every arm and rng_seed, and a line at the mean of each arm."""
    found = [
        {"arm": arm, "rng_seed": rng_seed, "value": scale * value}
        for arm, values in values_of(rows, quantity).items()
        for rng_seed, value in values.items()
    ]
    return charts.strips(
        found, Axis("arm", kind="nominal"), Axis("value", label), more=[Axis("rng_seed", format="d")]
    )


def draw_panels(
    panels: Mapping[str, Sequence[Row]],
    quantity: str,
    label: str,
    *,
    scale: float = 1.0,
    marks: Sequence[Chart] = (),
) -> Chart:
    """`draw_arms` side by side, under titles, with one scale. marks: what lies over each of them."""
    drawn = {
        title: charts.layered(draw_arms(rows, quantity, label, scale=scale), *marks)
        for title, rows in panels.items()
    }
    if len(drawn) == 1:
        # One alone fits the width of whatever it is shown on.
        return next(chart.properties(title=title) for title, chart in drawn.items())
    arms = max((len(values_of(rows, quantity)) for rows in panels.values()), default=0)
    fitting = charts.WIDTH // (ARM_WIDTH * arms + LABEL_WIDTH)
    return charts.beside(drawn, columns=max(1, min(MOST_PANELS, fitting)))


def draw_errors(
    curves: Mapping[str, Sequence[tuple[float, Sequence[float]]]], x_label: str, *, log: bool = False
) -> Chart:
    """For each name a line through the mean test error in %, with its spread, over a logarithmic x.

    curves: name -> x and the accuracies of its rng_seeds. log: whether errors are on a logarithmic axis as well.
    """
    found = []
    for name, points in curves.items():
        for x, accuracies in sorted(points, key=lambda point: point[0]):
            mean, spread = mean_and_spread([100 * (1 - value) for value in accuracies])
            if log and mean <= 0:
                continue  # a logarithmic axis has no place for it
            found.append({"name": name, "x": x, "error": mean, "spread": spread, "n": len(accuracies)})
    return charts.errors(
        found,
        Axis("x", x_label, log=True),
        Axis("error", "Test error, %", log=log),
        "spread",
        "name",
        more=[Axis("spread", "standard deviation"), Axis("n", "rng_seeds", format="d")],
    )
