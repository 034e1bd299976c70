"""Growth, random placement, moving and training on, from one start: the four arms of structnet.experiments.rescue."""

from __future__ import annotations

from collections.abc import Sequence

from search.commands.study.comparison import PARAMETERS, arm_table, arms_within
from search.commands.study.study import Measurement, Row, Task, TextTable
from structnet.data.dataset import Dataset
from structnet.experiments.rescue import ARMS, ArmResult, rescue
from structnet.training.recipe import Recipe


def run_arms(task: Task, data: Dataset) -> list[ArmResult]:
    """All four arms. task.options: arguments of structnet.experiments.rescue.rescue, and batch_size."""
    options = dict(task.options)
    recipe = Recipe(options.pop("batch_size"))
    return rescue(data, **options, rng_seed=task.rng_seed, recipe=recipe)


def measured_arms(results: list[ArmResult]) -> list[Measurement]:
    """accuracy:ARM, information:ARM, parameters:ARM and parameter_steps:ARM of each."""
    return [
        Measurement(f"{quantity}:{result.arm}", getattr(result, quantity))
        for result in results
        for quantity in ("accuracy", "information", "parameters", "parameter_steps")
    ]


def as_arms(rows: Sequence[Row], task_arm: str) -> list[Row]:
    """The rows of one arm of the tasks, with the four arms of the rescue in its place: such as `growth`."""
    return sorted(arms_within(rows, task_arm), key=lambda row: (ARMS.index(row.arm), row.rng_seed))


def four_arm_table(rows: Sequence[Row]) -> TextTable:
    """What `as_arms` gives, as a table: accuracy, parameters, and the lead over moving."""
    return arm_table(rows, (("accuracy", "accuracy, %", 100, 2), PARAMETERS), "rewire")
