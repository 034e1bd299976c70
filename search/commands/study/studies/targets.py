"""How small a network holds a stated accuracy, and what does finding it cost?

`grow` is `grow --target-accuracy` with its defaults. The others are in structnet.experiments.smallest: bisection over
the size with every size trained in full (overshot at random, or by RigL), one network that is pruned from dense until
the target breaks, and ASHA over width and density. Each has the seed, the rate and the epochs of `grow`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from search.commands.study.comparison import values_of
from search.commands.study.studies.rivals import rate_of
from search.commands.study.studies.tournaments import options_of_grow, run_tournament
from search.commands.study.study import Finding, Measurement, Place, Row, Scale, Study, Task, verdict
from search.commands.study.tasks import has_few_inputs, tasks_of
from search.report import charts
from search.report.charts import Axis, Chart
from structnet.data.dataset import Dataset
from structnet.network.architecture import parameters_dense
from structnet.training.evaluation import evaluate
from structnet.training.recipe import recipe_of

if TYPE_CHECKING:
    from structnet.experiments.smallest import Job, Search

GROWN, BISECTION = "grow", "bisection"
ARMS = (GROWN, BISECTION, "bisection rigl", "pruned from dense", "halving")
TARGETS, FEW_TARGETS = (0.95, 0.97, 0.98), (0.85, 0.9, 0.93)
SIZES, FEW_SIZES = (63, 8000), (20, 600)  # between which bisection looks
PEAKS = {False: 0.18, True: 0.4}  # of the dense network, by whether there are few inputs
WIDTHS, FEW_WIDTHS = (8, 300), (4, 64)
DENSITIES, FEW_DENSITIES = (0.005, 1.0), (0.02, 1.0)
SAMPLES = 64
LARGER, CHEAPER = 1.15, 1 / 3  # what grow may be at most, of the smallest size, and of the cost of bisection


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    targets = FEW_TARGETS if has_few_inputs(data) else TARGETS
    arms = {
        f"{arm} {target:g}": {"way": arm, "target": target}
        for target in (targets[:1] if scale.quick else targets)
        for arm in ARMS
    }
    return tasks_of(
        arms, scale, grow={"epochs": 3} if scale.quick else {}, samples=6 if scale.quick else SAMPLES
    )


def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    way, target = task.options["way"], task.options["target"]
    given = {"dataset": data.name, **task.options["grow"], "target_accuracy": target}
    if way == GROWN:
        result = run_tournament(data, place, task.rng_seed, given)
        spent = result.progress.parameter_steps_all
        if not result.held:
            return _measured(spent)
        return _measured(
            spent, result.network.parameter_count, result.measured.accuracy, result.test.accuracy
        )
    search = _search(way, _job(data, given, task.rng_seed, target), task.options["samples"])
    if search.network is None:
        return _measured(search.spent)
    found, test = (evaluate(search.network, split) for split in (data.validation, data.test))
    return _measured(search.spent, search.network.parameter_count, found.accuracy, test.accuracy)


def _measured(
    spent: int, parameters: int | None = None, accuracy: float = 0.0, test_accuracy: float = 0.0
) -> list[Measurement]:
    """Without parameters nothing held."""
    found = [Measurement("parameter_steps_all", spent), Measurement("held", float(parameters is not None))]
    if parameters is None:
        return found
    return [
        *found,
        Measurement("parameters", parameters),
        Measurement("accuracy", accuracy),
        Measurement("test_accuracy", test_accuracy),
    ]


def _job(data: Dataset, given: Mapping[str, object], rng_seed: int, target: float) -> Job:
    from search.commands.grow.fitting import seed_shape
    from structnet.experiments.smallest import Job

    options, few = options_of_grow(data, given), has_few_inputs(data)
    shape = seed_shape(options, data)
    assert options.density is not None and options.learning_rate is not None and options.epochs is not None
    return Job(
        data=data,
        architecture=shape,
        density=options.density,
        target=target,
        epochs=options.epochs,
        rate=options.learning_rate,
        recipe=recipe_of(dict(options), rng_seed=rng_seed),
        peak=round(PEAKS[few] * parameters_dense(shape)),
        sizes=FEW_SIZES if few else SIZES,
    )


def _search(way: str, job: Job, samples: int) -> Search:
    from structnet.experiments import smallest

    if way == BISECTION:
        return smallest.by_bisection(job)
    if way == "bisection rigl":
        return smallest.by_rigl(job, lambda size: rate_of("rigl", size))
    if way == "pruned from dense":
        return smallest.by_pruning(job)
    few = has_few_inputs(job.data)
    widths, densities = (FEW_WIDTHS, FEW_DENSITIES) if few else (WIDTHS, DENSITIES)
    return smallest.by_halving(job, samples, widths, densities)


def judge(rows: Sequence[Row]) -> Finding:
    """At every target close to the smallest size that any way finds, for a share of the cost of bisection."""
    sizes, costs = (_means(rows, quantity) for quantity in ("parameters", "parameter_steps_all"))
    held = _held(rows)
    targets = sorted({arm.rsplit(" ", 1)[1] for arm in costs})
    table: list[tuple[str, ...]] = [
        ("target", "way", "held", "parameters", "million parameter-steps", "of bisection")
    ]
    sentences, close = [], []
    for target in targets:
        for way in ARMS:
            arm = f"{way} {target}"
            size = f"{sizes[arm]:,.0f}" if arm in sizes else ""
            share = costs[arm] / costs[f"{BISECTION} {target}"]
            table.append((target, way, held[arm], size, f"{costs[arm] / 1e6:,.2f}", f"{share:.0%}"))
        rivals = {way: sizes[f"{way} {target}"] for way in ARMS[1:] if f"{way} {target}" in sizes}
        best = min(rivals, key=lambda way: rivals[way]) if rivals else ""
        ours = sizes.get(f"{GROWN} {target}", np.inf)
        share = costs[f"{GROWN} {target}"] / costs[f"{BISECTION} {target}"]
        always = all(values_of(rows, "held")[f"{GROWN} {target}"].values())
        close.append(always and (not best or ours <= LARGER * rivals[best]) and share <= CHEAPER)
        beside = f"the smallest of the others, {best}, {rivals[best]:,.0f}" if best else "nothing else held"
        sentences.append(
            f"At {target} grow holds with {ours:,.0f} parameters, {beside}; it costs {share:.0%} of bisection."
        )
    return Finding(verdict(yes=all(close), in_part=any(close)), tuple(sentences), tuple(table))


def _means(rows: Sequence[Row], quantity: str) -> dict[str, float]:
    """arm -> geometric mean over its rng_seeds."""
    return {
        arm: float(np.exp(np.mean(np.log([*values.values()]))))
        for arm, values in values_of(rows, quantity).items()
    }


def _held(rows: Sequence[Row]) -> dict[str, str]:
    """arm -> for how many of its rng_seeds."""
    return {
        arm: f"{sum(values.values()):.0f} of {len(values)}" for arm, values in values_of(rows, "held").items()
    }


def draw(rows: Sequence[Row]) -> Chart:
    """A point for every way and target, at the geometric means over rng_seeds."""
    sizes, costs = (_means(rows, quantity) for quantity in ("parameters", "parameter_steps_all"))
    found = [
        {"way": way, "target": target, "cost": costs[arm], "parameters": size}
        for arm, size in sorted(sizes.items(), key=lambda one: ARMS.index(one[0].rsplit(" ", 1)[0]))
        for way, target in [arm.rsplit(" ", 1)]
    ]
    x = Axis("cost", "Parameter-steps of the whole search", log=True)
    y = Axis("parameters", "Parameters that hold the target", log=True)
    return charts.points(found, x, y, "way", more=[Axis("target", kind="nominal")])


STUDY = Study(
    name="targets",
    question="Does one run find as small a network for an accuracy as other searches, for a third of bisection's cost?",
    claim="growing finds the smallest network that does the job",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    seen="Size of the network that was found, against what the search cost",
    reading="A point for each target: means over rng_seeds. Lower is smaller, further left is cheaper.",
)
