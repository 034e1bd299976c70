"""Is the price one dial from accurate to tiny, and do credits bind?

The market (`--policy surplus`) at five prices, without a limit on the parameters: accuracy against size, and which of
the networks no other beats in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from search.commands.study.comparison import PARAMETERS, TEST, VALIDATION, arm_table, means_of, values_of
from search.commands.study.studies.tournaments import measured_of, run_tournament, tournament_tasks
from search.commands.study.study import Finding, Measurement, Place, Row, Scale, Study, Task, verdict
from search.report import charts
from search.report.charts import Axis, Chart
from structnet.data.dataset import Dataset
from structnet.data.datasets import defaults_of

PRICES = (0.0005, 0.002, 0.008, 0.03, 0.12)  # bits per thousand parameters
MARKET = {"policy": "surplus", "max_parameters": None, "rounds": 20}


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    prices = defaults_of(data.name, "study economy").get("prices", PRICES)
    return tournament_tasks({f"{price:g}": {**MARKET, "price": price} for price in prices}, data, scale)


def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    result = run_tournament(data, place, task.rng_seed, task.options)
    won = [row for row in result.candidates if row["won"]]
    dear = {row["round"] for row in result.candidates if not row["affordable"]}
    return [
        *measured_of(result),
        Measurement("bought", sum(row["parameters_added"] > 0 for row in won)),
        Measurement("sold", sum(row["parameters_added"] < 0 for row in won)),
        Measurement("too dear", len(dear)),
        Measurement("rounds", result.progress.round),
    ]


def front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Names of the points, (parameters, accuracy), that no other beats in one and equals in the other."""
    return [
        name
        for name, (size, accuracy) in points.items()
        if not any(
            other != (size, accuracy) and other[0] <= size and other[1] >= accuracy
            for other in points.values()
        )
    ]


def _points(rows: Sequence[Row]) -> dict[str, tuple[float, float]]:
    sizes, accuracies = means_of(rows, "parameters"), means_of(rows, "accuracy")
    return {arm: (sizes[arm], accuracies[arm]) for arm in sorted(sizes, key=float)}


def judge(rows: Sequence[Row]) -> Finding:
    points = _points(rows)
    sizes = [size for size, _ in points.values()]
    falls = all(after < before for before, after in pairwise(sizes))
    best = front(points)
    dear = float(np.mean([row.value for row in rows if row.quantity == "too dear"]))
    sold = ", ".join(f"{mean:.1f} at {price}" for price, mean in means_of(rows, "sold").items())
    return Finding(
        verdict(yes=falls and len(best) == len(points), in_part=sizes[-1] < sizes[0]),
        (
            f"From the lowest price to the highest the size goes {' > '.join(f'{size:,.0f}' for size in sizes)}; "
            f"on the Pareto front: {', '.join(best)}.",
            f"Sales adopted while growing: {sold}.",
            f"A site was too dear in {dear:.1f} rounds of a run on average: credits "
            f"{'bind' if dear >= 1 else 'hardly bind'}.",
        ),
        arm_table(
            rows,
            (
                VALIDATION,
                TEST,
                PARAMETERS,
                ("bought", "bought", 1, 1),
                ("sold", "sold", 1, 1),
            ),
            next(iter(points)),
        ),
    )


def draw(rows: Sequence[Row]) -> Chart:
    """A point for every run, and a line through the means of the prices that no other beats."""
    x, y = Axis("parameters", "Parameters", log=True), Axis("accuracy", "Validation accuracy, %")
    sizes, accuracies = values_of(rows, "parameters"), values_of(rows, "accuracy")
    found = [
        {"price": f"price {arm}", "parameters": size, "accuracy": 100 * accuracies[arm][seed]}
        for arm in sorted(sizes, key=float)
        for seed, size in sorted(sizes[arm].items())
    ]
    points = _points(rows)
    means = [
        {"parameters": size, "accuracy": 100 * accuracy}
        for size, accuracy in sorted(points[name] for name in front(points))
    ]
    return charts.layered(_line(means, x, y), charts.points(found, x, y, "price"))


def _line(rows: Sequence[dict[str, float]], x: Axis, y: Axis) -> Chart:
    """A faint line through rows, in the order of x, that is none of the prices."""
    import altair as alt

    line = alt.Chart(charts.data_of(rows)).mark_line(color=charts.FAINT, strokeWidth=1.5)
    return line.encode(x=x.encoded("x"), y=y.encoded("y"), order=f"{x.field}:Q")


STUDY = Study(
    name="economy",
    question="Is the price one dial from accurate to tiny?",
    claim="a network that pays for its parameters finds its own size; a higher price makes a smaller network",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    seen="Accuracy against size, by price",
    reading="A point for each rng_seed; the line joins the means of the prices that no other beats in both.",
)
