"""Is the front of one run as good as a network trained for each of its sizes alone?

`front` is `grow --front` with its defaults: one run, whose sizes follow each other. `alone` trains a network for each
of them from a seed of its own, and each costs half of what the whole run does: connections are added at random up to
PEAK of the dense ones, and pruned while the rate falls.
"""

from __future__ import annotations

from collections.abc import Sequence

from search.commands.grow.fitting import seed_network
from search.commands.study.comparison import SPREAD, draw_errors, in_points, lead_of, means_of, values_of
from search.commands.study.studies.tournaments import options_of_grow, run_tournament
from search.commands.study.study import Finding, Measurement, Place, Row, Scale, Study, Task, verdict
from search.commands.study.tasks import has_few_inputs, tasks_of
from search.report.charts import Chart
from structnet.data.dataset import Dataset
from structnet.network.architecture import parameters_dense
from structnet.network.state import TrainState
from structnet.training.batches import steps_per_epoch
from structnet.training.evaluation import evaluate
from structnet.training.recipe import recipe_of
from structnet.training.schedules import cosine
from structnet.training.shrinking import Shrinking, shrink_steps

SIZES, FEW_SIZES = (400, 600, 1000, 1600, 2500, 4000), (60, 100, 160, 250, 400)
PEAK = 0.18  # of the dense network: what the credits of the tournament buy by default
TOLERATED = 0.002  # of the accuracy
TRIAL_EPOCHS = 2  # after which the cost of an epoch of a schedule is known


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    sizes = FEW_SIZES if has_few_inputs(data) else SIZES
    epochs = {"epochs": 2} if scale.quick else {}
    wanted = sizes[-2:] if scale.quick else sizes
    options = {"front": ",".join(map(str, wanted)), **epochs}
    return tasks_of({"front": {}, "alone": {}}, scale, grow=options, sizes=list(wanted))


def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    options = {"dataset": data.name, **task.options["grow"]}
    result = run_tournament(data, place, task.rng_seed, options)
    spent = result.progress.parameter_steps_all
    if task.arm == "alone":
        return [
            found
            for size in task.options["sizes"]
            for found in _alone(data, options, task.rng_seed, size, spent / 2)
        ]
    tested = [row for row in result.progress.front if row.get("test_accuracy") is not None]
    found = [Measurement("parameter_steps_all", spent)]
    for row in tested:
        if row["size"] in task.options["sizes"]:
            found.append(Measurement("accuracy", row["accuracy"], row["size"]))
            found.append(Measurement("test_accuracy", row["test_accuracy"], row["size"]))
    return found


def _alone(
    data: Dataset, options: dict[str, object], rng_seed: int, size: int, budget: float
) -> list[Measurement]:
    """A network of this size, by as many epochs as so many parameter-steps are enough for."""
    per_epoch = _schedule(data, options, rng_seed, size, TRIAL_EPOCHS)[1] / TRIAL_EPOCHS
    state, spent = _schedule(data, options, rng_seed, size, budget / per_epoch)
    return [
        Measurement("accuracy", evaluate(state.network, data.validation).accuracy, size),
        Measurement("test_accuracy", evaluate(state.network, data.test).accuracy, size),
        Measurement("parameter_steps_all", spent, size),
    ]


def _schedule(
    data: Dataset, options: dict[str, object], rng_seed: int, size: int, epochs: float
) -> tuple[TrainState, float]:
    """From the seed of grow to this size in so many epochs; the state and its parameter-steps."""
    given = options_of_grow(data, options)
    assert given.learning_rate is not None
    recipe = recipe_of(dict(given), rng_seed=rng_seed)
    network = seed_network(given, data, rng_seed)
    stop = max(1, round(epochs * steps_per_epoch(len(data.train), recipe.batch_size)))
    peak = round(PEAK * parameters_dense(network.architecture))
    shrinking = Shrinking(start=0, stop=stop, size=network.parameter_count, peak=peak, limit=size)
    state, spent = TrainState.fresh(network), 0
    while state.step < stop:
        here = min(shrinking.every, stop - state.step)
        rate = cosine(given.learning_rate, 0, stop)
        state, _ = shrink_steps(state, data.train, recipe, here, rate, shrinking)
        spent += here * state.network.parameter_count
    return state, spent


def judge(rows: Sequence[Row]) -> Finding:
    """At every size not behind by more than is tolerated."""
    sizes = sorted({row.item for row in rows if row.quantity == "test_accuracy"})
    table: list[tuple[str, ...]] = [("parameters", "the front of one run, %", "alone, %", "lead, points")]
    leads = []
    for size in sizes:
        of_size = [row for row in rows if row.item == size]
        lead = lead_of("front", "alone", of_size, "test_accuracy")
        means = means_of(of_size, "test_accuracy")
        leads.append(lead)
        shown = (f"{100 * means[arm]:.2f}" for arm in ("front", "alone"))
        table.append((f"{size:,}", *shown, in_points(lead)))
    worst = min(leads, key=lambda lead: lead.mean)
    sentences = (
        f"The front of one run is ahead of networks trained alone at {sum(lead.mean > 0 for lead in leads)} of "
        f"{len(sizes)} sizes, surely at {sum(lead.is_above_zero for lead in leads)}; at its worst size its lead is "
        f"{in_points(worst)} points on test.",
    )
    return Finding(verdict(yes=worst.mean >= -TOLERATED), sentences, tuple(table))


def draw(rows: Sequence[Row]) -> Chart:
    curves: dict[str, list[tuple[float, list[float]]]] = {}
    for arm in ("front", "alone"):
        for size in sorted({row.item for row in rows if row.quantity == "test_accuracy"}):
            values = values_of([row for row in rows if row.item == size], "test_accuracy").get(arm)
            if values:
                curves.setdefault(arm, []).append((size, [*values.values()]))
    return draw_errors(curves, "Parameters", log=True)


STUDY = Study(
    name="front",
    question="Is the front of one run as good as a network trained for each of its sizes alone, for half of its cost?",
    claim="one run finds the whole front between accuracy and size",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    seen="Test error against size: one run, and a network for each size",
    reading=SPREAD,
)
