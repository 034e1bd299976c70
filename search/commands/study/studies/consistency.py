"""How alike are the architectures that grow from different seeds?

With each rng_seed two networks grow from different starts on the same data; their hidden units are matched and the
connections in common are counted, and again after one of them has been rewired at random with all degrees kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from search.commands.study.comparison import arm_table, compare, draw_arms, is_above, shown
from search.commands.study.studies.tournaments import run_tournament, tournament_tasks
from search.commands.study.study import Finding, Measured, Place, Row, Scale, Study, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from structnet.data.datasets import Dataset

OTHER_SEED = 1000  # what is added to the rng_seed of the one for that of the other
NULLS = 20


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    return tournament_tasks({"pair": {}}, data, scale)


def measure(task: Task, data: Dataset, place: Place) -> list[Measured]:
    import numpy as np

    from structnet.experiments.similarity import (
        fan_in_matrix,
        input_likeness,
        likeness,
        with_swapped_connections,
    )
    from structnet.seeds import stream

    seeds = task.rng_seed, task.rng_seed + OTHER_SEED
    places = [replace(place, trial=f"{place.trial}-{number}") for number in range(2)]
    grown = [
        run_tournament(data, where, seed, task.options) for where, seed in zip(places, seeds, strict=True)
    ]
    one, other = (fan_in_matrix(result.network.topology) for result in grown)
    rng = stream(task.rng_seed, "likeness")
    nulls = [with_swapped_connections(other, rng) for _ in range(NULLS)]
    return [
        Measured("likeness:grown", likeness(one, other)),
        Measured("likeness:null", float(np.mean([likeness(one, null) for null in nulls]))),
        Measured("inputs:grown", input_likeness(one, other)),
        *(Measured("accuracy", result.measured.accuracy, number) for number, result in enumerate(grown)),
        *(Measured("hidden", result.network.architecture[1], number) for number, result in enumerate(grown)),
    ]


def _arms(rows: Sequence[Row]) -> list[Row]:
    found = []
    for row in rows:
        quantity, _, arm = row.quantity.partition(":")
        if arm:
            found.append(row._replace(arm=arm, quantity=quantity))
    return found


def judge(rows: Sequence[Row]) -> Finding:
    arms = compare(_arms(rows), "likeness", "null")
    inputs = compare(_arms(rows), "inputs", "grown")["grown"]
    grown = arms["grown"]
    assert grown.lead is not None
    return Finding(
        "yes" if is_above(grown.lead) else "no" if grown.lead.high < 0 else "open",
        (
            f"Two grown networks have {grown.mean:.1%} ± {grown.spread:.1%} of the connections from the input in "
            f"common, units matched; rewired at random with all degrees kept, {arms['null'].mean:.1%}: "
            f"{shown(grown.lead, scale=100)} points more.",
            f"How many units an input feeds correlates between them: {inputs.mean:.2f} ± {inputs.spread:.2f}.",
        ),
        arm_table(_arms(rows), (("likeness", "connections in common, %", 100, 1),), "null"),
    )


def draw(rows: Sequence[Row], figure: Figure) -> None:
    draw_arms(figure.subplots(), _arms(rows), "likeness", "Connections in common, %", scale=100)


STUDY = Study(
    name="consistency",
    question="Do different seeds grow into the same architecture?",
    claim="growth discovers the structure of the task: architectures converge",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
)
