"""How alike are the architectures that grow from different seeds?

With each rng_seed two networks grow from different starts on the same data; their hidden units are matched and the
connections in common are counted, and again after one of them has been rewired at random with all degrees kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from search.commands.study.comparison import (
    POINTS,
    arm_table,
    arms_within,
    draw_arms,
    in_points,
    lead_of,
    values_of,
)
from search.commands.study.studies.tournaments import run_tournament, tournament_tasks
from search.commands.study.study import Finding, Measurement, Place, Row, Scale, Study, Task, verdict
from search.report.charts import Chart
from structnet.data.dataset import Dataset
from structnet.experiments.similarity import (
    fan_in_matrix,
    input_similarity,
    similarity,
    with_swapped_connections,
)
from structnet.measure.statistics import mean_and_spread, shown_with_spread
from structnet.seeds import stream

OTHER_SEED = 1000  # what is added to the rng_seed of the one for that of the other
NULLS = 20


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    return tournament_tasks({"pair": {}}, data, scale)


def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    seeds = task.rng_seed, task.rng_seed + OTHER_SEED
    places = [replace(place, trial=f"{place.trial}-{number}") for number in range(2)]
    grown = [
        run_tournament(data, where, seed, task.options) for where, seed in zip(places, seeds, strict=True)
    ]
    one, other = (fan_in_matrix(result.network.topology) for result in grown)
    rng = stream(task.rng_seed, "likeness")
    nulls = [with_swapped_connections(other, rng) for _ in range(NULLS)]
    return [
        Measurement("likeness:grown", similarity(one, other)),
        Measurement("likeness:null", float(np.mean([similarity(one, null) for null in nulls]))),
        Measurement("inputs:grown", input_similarity(one, other)),
        *(Measurement("accuracy", result.measured.accuracy, number) for number, result in enumerate(grown)),
        *(
            Measurement("hidden", result.network.architecture[1], number)
            for number, result in enumerate(grown)
        ),
    ]


def judge(rows: Sequence[Row]) -> Finding:
    arms = arms_within(rows)
    lead = lead_of("grown", "null", arms, "likeness")
    common = values_of(arms, "likeness")
    mean, spread = mean_and_spread([*common["grown"].values()])
    rewired, _ = mean_and_spread([*common["null"].values()])
    inputs = shown_with_spread([*values_of(arms, "inputs")["grown"].values()], digits=2)
    return Finding(
        verdict(yes=lead.is_above_zero, no=lead.is_below_zero, otherwise="open"),
        (
            f"Two grown networks have {mean:.1%} ± {spread:.1%} of the connections from the input in common, units "
            f"matched; rewired at random with all degrees kept, {rewired:.1%}: {in_points(lead)} points more.",
            f"How many units an input feeds correlates between them: {inputs}.",
        ),
        arm_table(arms, (("likeness", "connections in common, %", 100, 1),), "null"),
    )


def draw(rows: Sequence[Row]) -> Chart:
    return draw_arms(arms_within(rows), "likeness", "Connections in common, %", scale=100)


STUDY = Study(
    name="consistency",
    question="Do different seeds grow into the same architecture?",
    claim="growth discovers the structure of the task: architectures converge",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    seen="Connections in common of two grown networks, and of one rewired at random",
    reading=POINTS,
)
