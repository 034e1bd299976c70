"""What does accuracy at a fixed final size cost in training: from above, from below, and by a tournament?

The main figure of the project: final error against parameter-steps (the parameter count summed over all training
steps, forks included). Every arm ends at the same number of parameters after the same number of steps of its line.
`dense` starts with every connection and is only pruned; `random N` and `gradient N` start with a seed of at most 2,000
parameters, grow to N in the first 15 % of the training, at random places or where the gradient is largest, and are
pruned on the same schedule; `tournament` is `grow` with its defaults. Its rounds train a small network, which costs few
parameter-steps and a quarter of the steps, so `tournament longer` has as many steps more, and overshoots to no more
than the largest N.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from search.commands.study.comparison import (
    COST,
    PARAMETERS,
    SPREAD,
    arm_table,
    draw_errors,
    in_points,
    leads_over,
    means_of,
    values_of,
)
from search.commands.study.studies.tournaments import grow_options, measured_of, run_tournament
from search.commands.study.study import Finding, Measurement, Place, Row, Scale, Study, Task, verdict
from search.commands.study.tasks import batch_size_for, has_few_inputs, tasks_of
from search.report.charts import Chart
from structnet.data.dataset import Dataset
from structnet.network.architecture import density_for
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.training.batches import steps_per_epoch
from structnet.training.evaluation import evaluate
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine
from structnet.training.shrinking import Shrinking, shrink_steps

SEED_PARAMETERS = 2000
L1, INPUT_DROPOUT = 5e-5, 0.2
# At the peak, by validation: 0.006 is too much for the dense one, as it rises eightfold on the way down.
LEARNING_RATE, RATE_OF_DENSE = 0.006, 0.003
TOLERATED = 0.001  # a tenth of a point: what rng_seeds differ by
LONGER = 1.3
PEAKS = (5_000, 10_000, 20_000, 60_000)


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    small = has_few_inputs(data)
    hidden = (32,) if small else (300, 100)
    epochs = 3 if scale.quick else 30
    peaks = (600, 1200) if small else PEAKS[1::2] if scale.quick else PEAKS
    arms: dict[str, dict[str, Any]] = {"dense": {"start": "dense"}}
    for placement in ("random", "gradient"):
        arms |= {f"{placement} {peak}": {"start": placement, "peak": peak} for peak in peaks}
    arms["tournament"] = {"start": "tournament"}
    longer = {"epochs": round(LONGER * epochs), "overshoot": max(peaks)}
    arms["tournament longer"] = {"start": "tournament", **longer}
    return tasks_of(
        arms,
        scale,
        architecture=[data.input_units, *hidden, data.classes],
        seed_parameters=200 if small else SEED_PARAMETERS,
        limit=300 if small else 4_000,
        epochs=epochs,
        batch_size=batch_size_for(data),
    )


def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    if task.options["start"] == "tournament":
        return _tournament(task, data, place)
    return _scheduled(task, data)


def _tournament(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    options = task.options
    given = grow_options(
        data,
        options["architecture"],
        density=density_for(options["architecture"], options["seed_parameters"]),
        max_parameters=options["limit"],
        overshoot=options.get("overshoot"),
        learning_rate=LEARNING_RATE,
        epochs=options["epochs"],
        batch_size=options["batch_size"],
        l1=L1,
        input_dropout=INPUT_DROPOUT,
    )
    return measured_of(run_tournament(data, place, task.rng_seed, given))


def _scheduled(task: Task, data: Dataset) -> list[Measurement]:
    """A line that grows and is pruned by the clock; its parameter-steps are all that it costs, but for diagnoses."""
    options = task.options
    is_dense = options["start"] == "dense"
    density = 1.0 if is_dense else density_for(options["architecture"], options["seed_parameters"])
    network = StructNet(options["architecture"], density, rng_seed=task.rng_seed, ensure_paths=True)
    recipe = Recipe(options["batch_size"], L1, INPUT_DROPOUT, rng_seed=task.rng_seed)
    stop = options["epochs"] * steps_per_epoch(len(data.train), recipe.batch_size)
    size = network.parameter_count
    shrinking = Shrinking(
        start=0,
        stop=stop,
        size=size,
        peak=size if is_dense else options["peak"],
        limit=options["limit"],
        placed="gradient" if options["start"] == "gradient" else "random",
    )
    rate = cosine(RATE_OF_DENSE if is_dense else LEARNING_RATE, 0, stop)
    state, spent = TrainState.fresh(network), 0
    while state.step < stop:
        steps = min(shrinking.every, stop - state.step)
        state, _ = shrink_steps(state, data.train, recipe, steps, rate, shrinking)
        spent += steps * state.network.parameter_count
    found, test = evaluate(state.network, data.validation), evaluate(state.network, data.test)
    return [
        Measurement("accuracy", found.accuracy),
        Measurement("test_accuracy", test.accuracy),
        Measurement("parameters", state.network.parameter_count),
        Measurement("parameter_steps_all", spent),
    ]


def judge(rows: Sequence[Row]) -> Finding:
    """At most half of the cost of the dense start, and not behind it.

    So by a tenth of a point at most, without proof of more than nothing.
    """
    leads, cost = leads_over("dense", rows, "test_accuracy"), means_of(rows, "parameter_steps_all")
    share = {arm: spent / cost["dense"] for arm, spent in cost.items()}
    level = [
        arm
        for arm, lead in leads.items()
        if not lead.is_below_zero and lead.mean >= -TOLERATED and cost[arm] <= cost["dense"] / 2
    ]
    sentences = [
        f"The lead of {arm} over the dense start is {in_points(lead)} points on test, at {share[arm]:.0%} of its "
        "parameter-steps."
        for arm, lead in leads.items()
        if arm.startswith("tournament")
    ]
    if level:
        cheapest = min(level, key=lambda arm: cost[arm])
        sentences.append(
            f"Not behind the dense start at half of its cost or less: {', '.join(level)}; the cheapest, {cheapest}, "
            f"costs {share[cheapest]:.0%}."
        )
    else:
        sentences.append("Nothing reaches the dense start at half of its cost.")
    return Finding(
        verdict(yes=any(arm.startswith("tournament") for arm in level), in_part=bool(level)),
        tuple(sentences),
        arm_table(rows, (("test_accuracy", "test accuracy, %", 100, 2), COST, PARAMETERS), "dense"),
    )


def draw(rows: Sequence[Row]) -> Chart:
    cost = means_of(rows, "parameter_steps_all")
    families: dict[str, list[tuple[float, list[float]]]] = {}
    for arm, values in values_of(rows, "test_accuracy").items():
        families.setdefault(arm.split()[0], []).append((cost[arm], list(values.values())))
    return draw_errors(families, "Parameter-steps of everything")


STUDY = Study(
    name="overshoot",
    question="Does growth reach the accuracy of pruning from dense with at most half of its parameter-steps?",
    claim="growing a sparse seed is cheaper than pruning a dense network, at the same final size and accuracy",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    seen="Test error against what training costs, at one final size",
    reading=SPREAD,
)
