"""Which policy makes the best network of a given size for a given cost?

Policies differ in what their forks and networks cost, so each runs at two lengths, and the accuracy of each is read
where its cost - parameter-steps of everything, forks included - is that of `score`, on the line through the two
points in the logarithm of the cost. `control` only moves connections: it starts with all parameters it will have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from search.commands.grow.fitting import seed_shape
from search.commands.study.comparison import (
    POINTS,
    TEST,
    VALIDATION,
    arm_table,
    draw_arms,
    in_points,
    leads_over,
    means_of,
    values_of,
)
from search.commands.study.studies.tournaments import (
    base_options,
    measure_tournament,
    options_of_grow,
    tournament_tasks,
)
from search.commands.study.study import Finding, Row, Scale, Study, Task, verdict
from search.report.charts import Chart
from structnet.data.dataset import Dataset
from structnet.network.architecture import density_for

POLICIES = ("score", "surplus", "gain", "random")
ALONE = ("patch", "widen", "insert_layer", "clone")
SHORT = 0.6  # of the length of the others


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    base = base_options(data, scale)
    arms: dict[str, dict[str, Any]] = {policy: {"policy": policy} for policy in POLICIES if policy != "shape"}
    arms |= {f"only {action}": {"actions": action} for action in ALONE}
    arms["control"] = {"policy": "control", "density": _full_density(data, base["max_parameters"])}
    short = max(1, round(SHORT * base["epochs"]))
    lengths = {"": base["epochs"], " short": short}
    both = {
        arm + suffix: {**options, "epochs": epochs}
        for arm, options in arms.items()
        for suffix, epochs in lengths.items()
    }
    return tournament_tasks(both, data, scale)


def _full_density(data: Dataset, parameters: int) -> float:
    """That of a seed of the default architecture that has so many parameters from the start."""
    return density_for(seed_shape(options_of_grow(data), data), parameters)


def at_equal_cost(rows: Sequence[Row], base: str = "score") -> list[Row]:
    """`accuracy` and `test_accuracy` of every arm at the cost of the base with the same rng_seed.

    Each arm has two lengths, `ARM` and `ARM short`. Beyond them the nearer one counts: nothing is extrapolated.
    """
    cost = values_of(rows, "parameter_steps_all")
    found = []
    for quantity in ("accuracy", "test_accuracy"):
        values = values_of(rows, quantity)
        for arm in (name for name in values if not name.endswith(" short")):
            for seed in sorted(values[arm].keys() & cost[base].keys()):
                lengths = [name for name in (f"{arm} short", arm) if seed in values.get(name, {})]
                points = sorted((np.log(cost[name][seed]), values[name][seed]) for name in lengths)
                at = np.log(cost[base][seed])
                costs, accuracies = zip(*points)
                value = values[arm][seed] if arm == base else float(np.interp(at, costs, accuracies))
                found.append(Row(arm, seed, quantity, 0, value))
    return found


def judge(rows: Sequence[Row]) -> Finding:
    level = at_equal_cost(rows)
    leads, means = leads_over("score", level, "accuracy"), means_of(level, "accuracy")
    beaten = [policy for policy, lead in leads.items() if lead.is_below_zero]
    ahead = [policy for policy, lead in leads.items() if lead.is_above_zero]
    sentences = [
        f"At the cost of score, {policy} is at {in_points(lead)} points against it."
        for policy, lead in leads.items()
    ]
    sentences.append(
        f"Best on validation: {max(means, key=lambda policy: means[policy])}. Score is surely ahead of "
        f"{', '.join(beaten) or 'none'}, and surely behind {', '.join(ahead) or 'none'}."
    )
    holds = verdict(
        yes=not ahead and {"random", "control"} <= {*beaten},
        no=bool(ahead),
        in_part=bool(beaten),
        otherwise="open",
    )
    return Finding(holds, tuple(sentences), arm_table(level, (VALIDATION, TEST), "score"))


def draw(rows: Sequence[Row]) -> Chart:
    found = at_equal_cost(rows)
    return draw_arms(found, "accuracy", "Validation accuracy at equal cost, %", scale=100)


STUDY = Study(
    name="policies",
    question="Which policy makes the best network of a given size at equal total cost?",
    claim="choosing by information per parameter is ahead of random growth and of only moving connections",
    dataset="mnist",
    tasks=tasks,
    measure=measure_tournament,
    judge=judge,
    draw=draw,
    seen="Validation accuracy of every policy at the cost of score",
    reading=POINTS,
)
