"""Does a start from a small trained network, or from coarse images, do more than a random one of the same size?

The comparisons of structnet.experiments.initialisation: all arms end at one number of parameters after as many steps
on the same batches. A start has to beat its control as well, which has all of it but what the start is named for: the
same placement rule on a small network that was never trained, and the same growing and pruning on the finest images
only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from search.commands.study.comparison import (
    PARAMETERS,
    POINTS,
    arm_table,
    arms_within,
    draw_panels,
    in_points,
    lead_of,
    stacked,
)
from search.commands.study.study import Finding, Measurement, Place, Row, Scale, Study, Task, verdict
from search.commands.study.tasks import batch_size_for, has_few_inputs, tasks_of
from search.report.charts import Chart
from structnet.data.dataset import Dataset
from structnet.experiments.initialisation import compare_coarse_to_fine, compare_hierarchical, random_network
from structnet.growth.scales import default_scales
from structnet.measure.information import label_entropy
from structnet.network.architecture import parameters_dense
from structnet.network.state import TrainState
from structnet.training.batches import steps_per_epoch
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine

BASE = "random"
RENAMED = {"fixed": BASE}  # a random start that sees the finest images and has its final size all the time


class Start(NamedTuple):
    """A start and its control, by their arms of a comparison. others: arms that tell more about it."""

    method: str
    control: str
    others: tuple[str, ...] = ()


STARTS = {
    "hierarchical": Start("hierarchical", "untrained", ("random_longer", "nested")),
    "scales": Start("coarse_to_fine", "regrown"),
}
COLUMNS = (
    ("accuracy", "accuracy, %", 100, 2),
    ("information", "bits", 1, 3),
    PARAMETERS,
)


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    small, scales = has_few_inputs(data), default_scales(data)
    start, larger = ([data.input_units, hidden, data.classes] for hidden in ((8, 32) if small else (16, 64)))
    epochs = (12 if small else 6) // (3 if scale.quick else 1)
    return tasks_of(
        {name: {} for name in STARTS if name != "scales" or scales > 1},
        scale,
        small=start,
        small_parameters=min(150 if small else 500, parameters_dense(start) // 2),
        architecture=larger,
        parameters=min(600 if small else 1500, parameters_dense(larger) // 2),
        epochs=epochs,
        scale_epochs=[max(1, epochs // scales)] * scales,
        batch_size=batch_size_for(data),
        learning_rate=6e-3,
    )


def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    """accuracy:ARM, information:ARM, parameters:ARM and parameter_steps:ARM of each arm of a comparison."""
    options = task.options
    plan = options["architecture"], options["parameters"]
    how: dict[str, Any] = {
        "learning_rate": options["learning_rate"],
        "recipe": Recipe(options["batch_size"]),
        "rng_seed": task.rng_seed,
    }
    if task.arm == "scales":
        arms = vars(compare_coarse_to_fine(data, *plan, epochs=options["scale_epochs"], **how))
    else:
        small = _small(task, data)
        arms = vars(compare_hierarchical(small, data, *plan, epochs=options["epochs"], **how))
    entropy = label_entropy(data.validation.labels)
    return [
        Measurement(f"{quantity}:{RENAMED.get(name, name)}", value)
        for name, arm in arms.items()
        for quantity, value in (
            ("accuracy", arm.accuracy),
            ("information", entropy - arm.loss / math.log(2)),
            ("parameters", arm.network.parameter_count),
            ("parameter_steps", arm.parameter_steps),
        )
    ]


def _small(task: Task, data: Dataset) -> TrainState:
    """The small network, connected at random and trained for as many epochs as the larger ones."""
    options = task.options
    recipe = Recipe(options["batch_size"], rng_seed=task.rng_seed)
    steps = options["epochs"] * steps_per_epoch(len(data.train), recipe.batch_size)
    network = random_network(options["small"], options["small_parameters"], rng_seed=task.rng_seed)
    state = TrainState.fresh(network)
    train_steps(state, data.train, recipe, steps, cosine(options["learning_rate"], 0, steps))
    return state


def judge(rows: Sequence[Row]) -> Finding:
    """Yes if every start is surely ahead of random and of its control, in part if a start or a control is of random.

    So a control counts as a start of its own: placement by data without anything learned, and growing and pruning.
    """
    comparisons = _comparisons(rows)
    ahead_of_both, ahead_of_random, sentences = [], [], []
    for name, arms in comparisons.items():
        start = STARTS[name]
        over = {
            arm: lead_of(start.method, arm, arms, "accuracy") for arm in (BASE, start.control, *start.others)
        }
        control = lead_of(start.control, BASE, arms, "accuracy")
        ahead_of_both.append(over[BASE].is_above_zero and over[start.control].is_above_zero)
        ahead_of_random += [over[BASE].is_above_zero, control.is_above_zero]
        leads = ", ".join(f"{arm} by {in_points(lead)}" for arm, lead in over.items())
        sentences.append(
            f"{start.method} leads {leads} points; its control, {start.control}, leads {BASE} by "
            f"{in_points(control)}."
        )
    tables = {name: arm_table(arms, COLUMNS, BASE) for name, arms in comparisons.items()}
    holds = verdict(yes=all(ahead_of_both), in_part=any(ahead_of_random))
    return Finding(holds, tuple(sentences), stacked("comparison", tables))


def _comparisons(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each comparison that was measured, by its own arms: `accuracy` of `hierarchical`, `untrained` ..."""
    found = {name: arms_within(rows, name) for name in STARTS}
    return {name: arms for name, arms in found.items() if arms}


def draw(rows: Sequence[Row]) -> Chart:
    return draw_panels(_comparisons(rows), "accuracy", "Validation accuracy, %", scale=100)


STUDY = Study(
    name="initialisation",
    question="Does a network that starts from a small one, or from coarse images, end better than a random one?",
    claim="hierarchical initialisation and coarse-to-fine training beat random initialisation at equal parameters",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    seen="Accuracy of every start at one number of parameters",
    reading=POINTS,
)
