"""How many times too large is what was grown, where the smallest network is known?

The labels of `teacher` come from a sparse network whose every connection matters. Each method is given one limit after
the other, from the teacher's own size up, until its network agrees with the teacher on 99 % of the validation inputs;
the first such limit is the size that it needs. `prune` starts dense, `overshoot` grows at random to ten times the limit
and is pruned, `grow` is the tournament with credits for as many. (With those that so small a network earns by
itself it has nothing to overshoot with: it stops at 336 to 447 parameters and 93 to 99 % agreement.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.commands.study.comparison import POINTS, arm_table, draw_arms, values_of
from search.commands.study.studies.tournaments import grow_options, run_tournament
from search.commands.study.study import Finding, Measurement, Place, Row, Scale, Study, Task, verdict
from search.commands.study.tasks import tasks_of
from search.report import charts
from search.report.charts import Chart
from structnet.data.dataset import Dataset
from structnet.data.teacher import teacher_network
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.training.batches import steps_per_epoch
from structnet.training.evaluation import evaluate
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine
from structnet.training.shrinking import Shrinking, shrink_steps

AGREEMENT = 0.99
FACTORS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
HIDDEN, SEED_FACTOR, OVERSHOOT = 32, 0.8, 10
LEARNING_RATE = 0.01


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    teacher = teacher_network()  # of any seed: they have one size
    return tasks_of(
        {"grow": {}, "prune": {}, "overshoot": {}},
        scale,
        size=teacher.parameters,
        architecture=[data.input_units, HIDDEN, data.classes],
        epochs=2 if scale.quick else 40,
        factors=FACTORS[::4] if scale.quick else FACTORS,
    )


def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    """The agreement at every limit up to the first that is enough; `needed` is twice the last where none is."""
    options, found = task.options, []
    for factor in options["factors"]:
        limit = round(factor * options["size"])
        agreement = _agreement(task, data, place, limit)
        found.append(Measurement("agreement", agreement, limit))
        if agreement >= AGREEMENT:
            return [*found, Measurement("needed", limit), Measurement("teacher", options["size"])]
    most = round(options["factors"][-1] * options["size"])
    return [*found, Measurement("needed", 2 * most), Measurement("teacher", options["size"])]


def _agreement(task: Task, data: Dataset, place: Place, limit: int) -> float:
    options = task.options
    shape = options["architecture"]
    if task.arm == "grow":
        given = grow_options(
            data,
            shape,
            density=0.1,
            max_parameters=limit,
            opening_credits=OVERSHOOT * limit,
            epochs=options["epochs"],
            learning_rate=LEARNING_RATE,
        )
        return run_tournament(data, place, task.rng_seed, given).measured.accuracy
    recipe = Recipe(128, 5e-5, rng_seed=task.rng_seed)
    stop = options["epochs"] * steps_per_epoch(len(data.train), recipe.batch_size)
    network = StructNet(shape, 1.0 if task.arm == "prune" else 0.1, rng_seed=task.rng_seed, ensure_paths=True)
    size = network.parameter_count
    peak = size if task.arm == "prune" else min(network.topology.possible(), OVERSHOOT * limit)
    shrinking = Shrinking(0, stop, size, max(size, peak), limit)
    rate = cosine(LEARNING_RATE, 0, stop)
    state, _ = shrink_steps(TrainState.fresh(network), data.train, recipe, stop, rate, shrinking)
    return evaluate(state.network, data.validation).accuracy


def judge(rows: Sequence[Row]) -> Finding:
    needed = values_of(rows, "needed")
    size = next(row.value for row in rows if row.quantity == "teacher")
    medians = {arm: float(np.median(list(values.values()))) for arm, values in needed.items()}
    least = min(value for values in needed.values() for value in values.values())
    ratio = medians["grow"] / least
    sentences = [
        f"For {AGREEMENT:.0%} agreement the grown network needs {medians['grow']:.0f} parameters in the median, "
        f"{ratio:.2f} times the least that any method found ({least:.0f}) and {medians['grow'] / size:.2f} times the "
        f"teacher's {size:.0f}.",
        *(
            f"{arm}: {medians[arm]:.0f} in the median, from {min(values.values()):.0f} to {max(values.values()):.0f}."
            for arm, values in needed.items()
        ),
    ]
    return Finding(
        verdict(yes=ratio <= 2),
        tuple(sentences),
        arm_table(rows, (("needed", "parameters needed", 1, 0),), "prune"),
    )


def draw(rows: Sequence[Row]) -> Chart:
    size = next(row.value for row in rows if row.quantity == "teacher")
    needed = draw_arms(rows, "needed", f"Parameters for {AGREEMENT:.0%} agreement")
    return charts.layered(needed, charts.rule(size, "the teacher"))


STUDY = Study(
    name="optimality",
    question="How many times too large is a grown network, where the smallest one is known?",
    claim="growth finds a network at most twice as large as the smallest that any method finds",
    dataset="teacher",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    seen="Parameters that each method needs",
    reading=POINTS,
)
