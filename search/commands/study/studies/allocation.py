"""How much of the source's results is a starved output layer?

The source gives every link the same density, which leaves the output a handful of connections; its patches then
lift accuracy by a lot. Here the same number of connections is shared uniformly and in proportion to n_in + n_out,
and both starts are patched by the same rule with the same budget.
"""

from __future__ import annotations

from collections.abc import Sequence

from search.commands.study.comparison import POINTS, arm_table, draw_arms, in_points, lead_of, means_of
from search.commands.study.studies.growth_arms import measured_arms, run_arms
from search.commands.study.study import Finding, Measurement, Place, Row, Scale, Study, Task, verdict
from search.commands.study.tasks import batch_size_for, has_few_inputs, tasks_of
from search.report import charts
from search.report.charts import Chart
from structnet.data.dataset import Dataset
from structnet.network.architecture import parameters_dense

DENSITY, BUDGET_SHARE = 0.02, 0.3


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    hidden = 32 if has_few_inputs(data) else 128
    shape = [data.input_units, hidden, data.classes]
    possible = parameters_dense(shape) - hidden - data.classes
    connections = round(DENSITY * possible)
    return tasks_of(
        {allocation: {"allocation": allocation} for allocation in ("uniform", "proportional")},
        scale,
        architecture=shape,
        density=DENSITY,
        mechanism="patch",
        budget=max(1, round(BUDGET_SHARE * connections)),
        epochs=2 if scale.quick else 10,
        batch_size=batch_size_for(data),
    )


def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    results = run_arms(task, data)
    reached = {result.arm: result.accuracy for result in results}
    lift = Measurement("lift", reached["growth"] - reached["static"])
    return [*measured_arms(results), lift]


def judge(rows: Sequence[Row]) -> Finding:
    static = lead_of("proportional", "uniform", rows, "accuracy:static")
    lift = lead_of("uniform", "proportional", rows, "lift")
    patched = lead_of("proportional", "uniform", rows, "accuracy:growth")
    lifts = means_of(rows, "lift")
    share = 1 - lifts["proportional"] / max(1e-9, lifts["uniform"])
    return Finding(
        verdict(yes=static.is_above_zero and lift.is_above_zero),
        (
            f"The same connections shared in proportion are ahead of uniform by {in_points(static)} points "
            "before any growth.",
            f"Patches lift the uniform start by {100 * lifts['uniform']:.2f} points, "
            f"{in_points(lift)} more than the proportional one: {share:.0%} of what they seem to "
            "bring is repair.",
            f"After patching, the proportional start is ahead by {in_points(patched)} points.",
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


def draw(rows: Sequence[Row]) -> Chart:
    found = {"trained only": "accuracy:static", "patched": "accuracy:growth"}
    return charts.beside(
        {
            title: draw_arms(rows, quantity, "Validation accuracy, %", scale=100)
            for title, quantity in found.items()
        }
    )


STUDY = Study(
    name="allocation",
    question="How much of what patches bring to a sparse network is repair of a starved output layer?",
    claim="a large part: shared in proportion to n_in + n_out, the same connections learn far more unpatched",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    seen="Accuracy of both starts, before and after patching",
    reading=POINTS,
)
