"""Are grown networks ahead of rewired, pruned, static and dense ones, over a range of sizes, at equal cost?

Every method makes a network of each size, and the area between two curves of test error against size compares
them (structnet.experiments.error_curve). A tournament pays for its forks and for its overshoot: each rival trains for
as many steps as bring its parameter-steps to those of the tournament of the same size and rng_seed. `pruning long` is
gradual pruning for as many steps as the line of the tournament, whatever its dense start costs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.commands.study.comparison import SPREAD, draw_errors, in_points
from search.commands.study.studies.tournaments import grow_options, run_tournament
from search.commands.study.study import (
    Finding,
    Measurement,
    Place,
    Row,
    Scale,
    Study,
    Task,
    TextTable,
    verdict,
)
from search.commands.study.tasks import batch_size_for, has_few_inputs, tasks_of
from search.report.charts import Chart
from structnet.data.dataset import Dataset
from structnet.experiments.baselines import evolve_steps
from structnet.experiments.error_curve import Gap, Point, gap_between
from structnet.experiments.methods import METHODS
from structnet.measure.statistics import shown_with_spread
from structnet.network.architecture import density_for
from structnet.network.state import TrainState
from structnet.training.evaluation import evaluate
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine
from tournament.coordinator import Result

GROWN = "grown"
L1, INPUT_DROPOUT = 5e-5, 0.2
SIZES, SMALL_SIZES = (2_000, 4_000, 10_000, 30_000), (200, 400, 800)
ROUNDS, EPOCHS = 5, 26  # by validation at 4,000 parameters, against 12 and 20, which cost the same
# Learning rates at SIZES, by validation on rng_seeds 10 and 11, of 0.003, 0.006, 0.012, 0.024 and so on up to one that
# was worse. Where there is one, it was picked at 4,000 parameters: what it trains is behind by more than a rate brings.
RATES: dict[str, tuple[float, ...]] = {
    GROWN: (0.006, 0.006, 0.006, 0.006),
    "rigl": (0.048, 0.024, 0.012, 0.003),
    "set": (0.048, 0.024, 0.024, 0.006),
    "pruning": (0.012,),
    "pruning long": (0.012,),
    "static": (0.012,),
    "dense": (0.006,),
}
RIVALS = tuple(RATES)[1:]
LEAST_AHEAD_OF_DENSE, JUDGED_SIZE = 0.01, 4_000


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    small = has_few_inputs(data)
    sizes: Sequence[int] = SMALL_SIZES if small else SIZES
    return tasks_of(
        {f"{size}": {"limit": size} for size in (sizes[:2] if scale.quick else sizes)},
        scale,
        architecture=[data.input_units, *((32,) if small else (300, 100)), data.classes],
        seed_parameters=sizes[0] - 1,
        epochs=(4 if small else 1) if scale.quick else EPOCHS,
        batch_size=batch_size_for(data),
    )


def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    """QUANTITY:METHOD of the tournament, and then of every rival at its cost."""
    result = _grown(task, data, place)
    cost, steps = result.progress.parameter_steps_all, result.progress.step
    found = _named(
        GROWN,
        result.measured.accuracy,
        result.test.accuracy,
        result.network.parameter_count,
        cost,
    )
    for rival in RIVALS:
        found += _rival(rival, task, data, cost, steps)
    return found


def _grown(task: Task, data: Dataset, place: Place) -> Result:
    options = task.options
    given = grow_options(
        data,
        options["architecture"],
        density=density_for(options["architecture"], options["seed_parameters"]),
        max_parameters=options["limit"],
        learning_rate=rate_of(GROWN, options["limit"]),
        rounds=ROUNDS,
        epochs=options["epochs"],
        batch_size=options["batch_size"],
        l1=L1,
        input_dropout=INPUT_DROPOUT,
    )
    return run_tournament(data, place, task.rng_seed, given)


def _rival(rival: str, task: Task, data: Dataset, cost: int, line_steps: int) -> list[Measurement]:
    options = task.options
    kind = METHODS[rival.removesuffix(" long")]
    about = tuple(options["architecture"]), options["limit"]
    method = kind(*about, line_steps, task.rng_seed)
    if not rival.endswith(" long"):
        method = kind(*about, max(1, round(cost / method.mean_parameters)), task.rng_seed)
    recipe = Recipe(options["batch_size"], L1, INPUT_DROPOUT, rng_seed=task.rng_seed)
    rate = cosine(rate_of(rival, options["limit"]), 0, method.steps)
    state = TrainState.fresh(method.start())
    state, _, spent = evolve_steps(state, method, data.train, recipe, method.steps, rate)
    found, test = evaluate(state.network, data.validation), evaluate(state.network, data.test)
    return _named(rival, found.accuracy, test.accuracy, state.network.parameter_count, spent.parameter_steps)


def rate_of(method: str, limit: int) -> float:
    """The learning rate of a method for so many parameters: that of the nearest size it was picked at, by ratio."""
    rates = RATES[method]
    nearest = min(range(len(rates)), key=lambda index: abs(np.log(SIZES[index] / limit)))
    return rates[nearest]


def _named(
    method: str, accuracy: float, test_accuracy: float, parameters: int, parameter_steps_all: int
) -> list[Measurement]:
    return [
        Measurement(f"accuracy:{method}", accuracy),
        Measurement(f"test_accuracy:{method}", test_accuracy),
        Measurement(f"parameters:{method}", parameters),
        Measurement(f"parameter_steps_all:{method}", parameter_steps_all),
    ]


# method -> limit -> rng_seed -> value.
Values = dict[str, dict[int, dict[int, float]]]


def values_by_size(rows: Sequence[Row], quantity: str) -> Values:
    """What every method measured of a quantity, by limit and rng_seed."""
    found: Values = {}
    for row in sorted(rows, key=lambda row: (int(row.arm), row.rng_seed)):
        name, _, method = row.quantity.partition(":")
        if method and name == quantity:
            found.setdefault(method, {}).setdefault(int(row.arm), {})[row.rng_seed] = row.value
    return found


def gaps(rows: Sequence[Row]) -> dict[str, Gap]:
    """How far the error of each rival lies above that of the tournament; none without two sizes that both reach."""
    curves = _curves(rows)
    found = {rival: gap_between(curves[rival], curves[GROWN]) for rival in RIVALS if rival in curves}
    return {rival: gap for rival, gap in found.items() if gap is not None}


def _curves(rows: Sequence[Row]) -> dict[str, dict[int, list[Point]]]:
    accuracies, sizes = values_by_size(rows, "test_accuracy"), values_by_size(rows, "parameters")
    curves: dict[str, dict[int, list[Point]]] = {}
    for method, by_size in accuracies.items():
        for limit, values in by_size.items():
            for seed, accuracy in values.items():
                point = Point(round(sizes[method][limit][seed]), 1 - accuracy)
                curves.setdefault(method, {}).setdefault(seed, []).append(point)
    return curves


def judge(rows: Sequence[Row]) -> Finding:
    """Ahead of all at equal cost, and of dense networks by a point where that is judged."""
    found = gaps(rows)
    equal = {rival: gap for rival, gap in found.items() if not rival.endswith(" long")}
    behind = any(gap.area.is_below_zero for gap in equal.values())
    level = not all(gap.area.is_below_zero or gap.area.is_above_zero for gap in equal.values())
    lead = _lead_over_dense(rows)
    sentences = [
        f"{rival}: {in_points(gap.height)} points more error than grown networks, averaged over "
        f"{gap.smallest:,.0f} to {gap.largest:,.0f} parameters; area {100 * gap.area.mean:+.2f} points × doublings; "
        f"{_relative_cost(rows, rival):.0%} of the cost."
        for rival, gap in found.items()
    ]
    if lead is not None:
        sentences.append(f"Ahead of dense networks of {JUDGED_SIZE:,} parameters by {100 * lead:.2f} points.")
    enough = lead is None or lead >= LEAST_AHEAD_OF_DENSE
    holds = verdict(yes=enough and not behind and not level, in_part=enough and not behind)
    return Finding(holds, tuple(sentences), _table(rows))


def _lead_over_dense(rows: Sequence[Row]) -> float | None:
    accuracies = values_by_size(rows, "test_accuracy")
    if JUDGED_SIZE not in accuracies[GROWN]:
        return None
    grown, dense = (list(accuracies[method][JUDGED_SIZE].values()) for method in (GROWN, "dense"))
    return float(np.mean(grown) - np.mean(dense))


def _relative_cost(rows: Sequence[Row], rival: str) -> float:
    cost = values_by_size(rows, "parameter_steps_all")
    both = [
        (cost[rival][limit][seed], grown)
        for limit, by_seed in cost[GROWN].items()
        for seed, grown in by_seed.items()
    ]
    return float(np.mean([mine / grown for mine, grown in both]))


def _table(rows: Sequence[Row]) -> TextTable:
    accuracies, cost = values_by_size(rows, "test_accuracy"), values_by_size(rows, "parameter_steps_all")
    limits = list(accuracies[GROWN])
    table = [("test accuracy, % (million parameter-steps)", *(f"{limit:,}" for limit in limits))]
    for method, by_size in accuracies.items():
        cells = []
        for limit in limits:
            reached = shown_with_spread([*by_size[limit].values()], scale=100, digits=2)
            spent = np.mean(list(cost[method][limit].values())) / 1e6
            cells.append(f"{reached} ({spent:,.0f})")
        table.append((method, *cells))
    return tuple(table)


def draw(rows: Sequence[Row]) -> Chart:
    curves = {
        method: [(limit, list(values.values())) for limit, values in by_size.items()]
        for method, by_size in values_by_size(rows, "test_accuracy").items()
    }
    return draw_errors(curves, "Parameters", log=True)


STUDY = Study(
    name="rivals",
    question="Are grown networks ahead of RigL, SET, pruning, static and dense ones at equal cost, over all sizes?",
    claim="at equal parameter-steps growth is not behind any rival, and ahead of dense networks by at least a point",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    seen="Test error against size, at equal cost",
    reading=SPREAD,
)
