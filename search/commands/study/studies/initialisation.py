"""Does a start from a small trained network, or from coarse images, do more than a random one of the same size?

The comparisons of structnet.experiments.initialisation: all arms end at one number of parameters after as many steps
on the same batches. A start has to beat its control as well, which has all of it but what the start is named for: the
same placement rule on a small network that was never trained, and the same buying and selling on the finest images
only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from search.commands.study.comparison import arm_table, compare, draw_arms, is_above, shown
from search.commands.study.study import Finding, Measured, Place, Row, Scale, Study, Task
from structnet.experiments.verdict import Lead

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from structnet.data.datasets import Dataset
    from structnet.network.state import TrainState

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
    ("parameters", "parameters", 1, 0),
)


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    from search.commands.bootstrap.command import default_scales
    from structnet.network.topology import parameters_dense

    small, scales = data.input_units < 200, default_scales(data)
    start, larger = ([data.input_units, hidden, data.classes] for hidden in ((8, 32) if small else (16, 64)))
    epochs = (12 if small else 6) // (3 if scale.quick else 1)
    options = {
        "small": start,
        "small_parameters": min(150 if small else 500, parameters_dense(start) // 2),
        "architecture": larger,
        "parameters": min(600 if small else 1500, parameters_dense(larger) // 2),
        "epochs": epochs,
        "scale_epochs": [max(1, epochs // scales)] * scales,
        "batch_size": 32 if small else 128,
        "learning_rate": 6e-3,
    }
    measured = [name for name in STARTS if name != "scales" or scales > 1]
    return [Task(name, seed, options) for name in measured for seed in scale.rng_seeds]


def measure(task: Task, data: Dataset, place: Place) -> list[Measured]:
    """accuracy:ARM, information:ARM, parameters:ARM and parameter_steps:ARM of each arm of a comparison."""
    import math

    from structnet.experiments.initialisation import compare_coarse_to_fine, compare_hierarchical
    from structnet.measure.information import label_entropy
    from structnet.training.loop import Recipe

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
        Measured(f"{quantity}:{RENAMED.get(name, name)}", value)
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
    from structnet.experiments.initialisation import random_network
    from structnet.network.state import TrainState
    from structnet.training.loop import Recipe, cosine, steps_per_epoch, train_steps

    options = task.options
    recipe = Recipe(options["batch_size"], rng_seed=task.rng_seed)
    steps = options["epochs"] * steps_per_epoch(len(data.train), recipe.batch_size)
    network = random_network(options["small"], options["small_parameters"], rng_seed=task.rng_seed)
    state = TrainState.fresh(network)
    train_steps(state, data.train, recipe, steps, cosine(options["learning_rate"], 0, steps))
    return state


def arms_of(rows: Sequence[Row], comparison: str) -> list[Row]:
    """The rows of a comparison with its arms in its place: `accuracy` of `hierarchical`, `untrained` ..."""
    found = []
    for row in rows:
        quantity, _, arm = row.quantity.partition(":")
        if row.arm == comparison and arm:
            found.append(row._replace(arm=arm, quantity=quantity))
    return found


def judge(rows: Sequence[Row]) -> Finding:
    """Yes if every start is surely ahead of random and of its control, in part if a start or a control is of random.

    So a control counts as a start of its own: placement by data without anything learned, and buying and selling.
    """
    holding, ahead, sentences = [], [], []
    table: list[tuple[str, ...]] = []
    for name, start in STARTS.items():
        arms = arms_of(rows, name)
        if not arms:
            continue
        over = {arm: _lead(arms, start.method, arm) for arm in (BASE, start.control, *start.others)}
        control = _lead(arms, start.control, BASE)
        holding.append(is_above(over[BASE]) and is_above(over[start.control]))
        ahead += [is_above(over[BASE]), is_above(control)]
        leads = ", ".join(f"{arm} by {shown(lead, scale=100)}" for arm, lead in over.items())
        sentences.append(
            f"{start.method} leads {leads} points; its control, {start.control}, leads {BASE} by "
            f"{shown(control, scale=100)}."
        )
        header, *body = arm_table(arms, COLUMNS, BASE)
        table = table or [("comparison", *header)]
        table += [(name, *cells) for cells in body]
    holds = "yes" if all(holding) else "in part" if any(ahead) else "no"
    return Finding(holds, tuple(sentences), tuple(table))


def _lead(arms: Sequence[Row], arm: str, base: str) -> Lead:
    """Of an arm over another in accuracy. Raises ValueError if they have no rng_seed in common."""
    lead = compare(arms, "accuracy", base)[arm].lead
    if lead is None:
        raise ValueError(f"{arm} and {base} were measured with no rng_seed in common")
    return lead


def draw(rows: Sequence[Row], figure: Figure) -> None:
    measured = [name for name in STARTS if arms_of(rows, name)]
    panels = figure.subplots(1, len(measured), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, measured, strict=True):
        label = "Validation accuracy, %" if name == measured[0] else ""
        draw_arms(axes, arms_of(rows, name), "accuracy", label, scale=100)
        axes.set_title(name, fontsize="small")


STUDY = Study(
    name="initialisation",
    question="Does a network that starts from a small one, or from coarse images, end better than a random one?",
    claim="hierarchical initialisation and coarse-to-fine training beat random initialisation at equal parameters",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
)
