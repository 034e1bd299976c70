"""Growth, random placement, moving and training on, from one start: the four arms of structnet.experiments.rescue."""

from __future__ import annotations

from collections.abc import Sequence

from search.commands.study.comparison import arm_table
from search.commands.study.study import Measured, Row, Task
from structnet.data.datasets import Dataset
from structnet.experiments.rescue import ARMS, ArmResult, rescue
from structnet.training.loop import Recipe


def run_arms(task: Task, data: Dataset) -> list[ArmResult]:
    """All four arms. task.options: arguments of structnet.experiments.rescue.rescue, and batch_size."""
    options = dict(task.options)
    recipe = Recipe(options.pop("batch_size"))
    return rescue(data, **options, rng_seed=task.rng_seed, recipe=recipe)


def measured_arms(results: list[ArmResult]) -> list[Measured]:
    """accuracy:ARM, information:ARM, parameters:ARM and parameter_steps:ARM of each."""
    return [
        Measured(f"{quantity}:{result.arm}", getattr(result, quantity))
        for result in results
        for quantity in ("accuracy", "information", "parameters", "parameter_steps")
    ]


def as_arms(rows: Sequence[Row], task_arm: str) -> list[Row]:
    """The rows of one arm of the tasks, with the four arms of the rescue in its place: `accuracy` of `growth` …"""
    found = []
    for row in rows:
        quantity, _, arm = row.quantity.partition(":")
        if row.arm == task_arm and arm in ARMS:
            found.append(row._replace(arm=arm, quantity=quantity))
    return sorted(found, key=lambda row: (ARMS.index(row.arm), row.rng_seed))


def four_arm_table(rows: Sequence[Row]) -> tuple[tuple[str, ...], ...]:
    """What `as_arms` gives, as a table: accuracy, parameters, and the lead over moving."""
    return arm_table(
        rows, (("accuracy", "accuracy, %", 100, 2), ("parameters", "parameters", 1, 0)), "rewire"
    )
