"""How much of the source's results is a starved output layer?

The source gives every link the same density, which leaves the output a handful of connections; its patches then
lift accuracy by a lot. Here the same number of connections is shared uniformly and in proportion to n_in + n_out,
and both starts are patched by the same rule with the same budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from search.commands.study.comparison import arm_table, compare, draw_arms, is_above, shown
from search.commands.study.studies.growth_arms import measured_arms, run_arms
from search.commands.study.study import Finding, Measured, Place, Row, Scale, Study, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from structnet.data.datasets import Dataset

DENSITY, BUDGET_SHARE = 0.02, 0.3


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    from structnet.network.topology import parameters_dense

    hidden = 32 if data.input_units < 200 else 128
    shape = [data.input_units, hidden, data.classes]
    possible = parameters_dense(shape) - hidden - data.classes
    connections = round(DENSITY * possible)
    options = {
        "architecture": shape,
        "density": DENSITY,
        "mechanism": "patch",
        "budget": max(1, round(BUDGET_SHARE * connections)),
        "epochs": 2 if scale.quick else 10,
        "batch_size": 32 if data.input_units < 200 else 128,
    }
    return [
        Task(allocation, seed, {**options, "allocation": allocation})
        for allocation in ("uniform", "proportional")
        for seed in scale.rng_seeds
    ]


def measure(task: Task, data: Dataset, place: Place) -> list[Measured]:
    results = run_arms(task, data)
    reached = {result.arm: result.accuracy for result in results}
    lift = Measured("lift", reached["growth"] - reached["static"])
    return [*measured_arms(results), lift]


def judge(rows: Sequence[Row]) -> Finding:
    static = compare(rows, "accuracy:static", "uniform")["proportional"].lead
    lift = compare(rows, "lift", "proportional")["uniform"]
    repaired = compare(rows, "accuracy:growth", "uniform")["proportional"].lead
    assert static is not None and lift.lead is not None and repaired is not None
    share = 1 - compare(rows, "lift", "uniform")["proportional"].mean / max(1e-9, lift.mean)
    holds = "yes" if is_above(static) and is_above(lift.lead) else "no"
    return Finding(
        holds,
        (
            f"The same connections shared in proportion are ahead of uniform by {shown(static, scale=100)} points "
            "before any growth.",
            f"Patches lift the uniform start by {100 * lift.mean:.2f} points, "
            f"{shown(lift.lead, scale=100)} more than the proportional one: {share:.0%} of what they seem to "
            "bring is repair.",
            f"After patching, the proportional start is ahead by {shown(repaired, scale=100)} points.",
        ),
        arm_table(
            rows,
            (
                ("accuracy:static", "trained only, %", 100, 2),
                ("accuracy:growth", "patched, %", 100, 2),
                ("accuracy:random", "at random, %", 100, 2),
                ("accuracy:rewire", "moved, %", 100, 2),
            ),
            "uniform",
        ),
    )


def draw(rows: Sequence[Row], figure: Figure) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    draw_arms(left, rows, "accuracy:static", "Validation accuracy, %", scale=100)
    draw_arms(right, rows, "accuracy:growth", "", scale=100)
    left.set_title("trained only", fontsize="small")
    right.set_title("patched", fontsize="small")


STUDY = Study(
    name="allocation",
    question="How much of what patches bring to a sparse network is repair of a starved output layer?",
    claim="a large part: shared in proportion to n_in + n_out, the same connections learn far more unpatched",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
)
