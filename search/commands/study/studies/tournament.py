"""Does choosing pay, against everything that does without a tournament, at equal total cost?

A case is a size and what is known of the architecture: `usual`, the seed that `grow` takes by itself, or a seed of
somebody who knows nothing, with 16 hidden units or none. Every method gets the parameter-steps that a run of `grow`
is planned to take, forks and all that is thrown away included:

- `shapes`, the default of `grow`, and `growths`, its `--policy score`, as many epochs as come to that cost;
- `at random`, the same growth without asking (`--policy random`); `without asking`, no growth at all: overshot at
  random and pruned, twice, in the shape of the seed;
- `expert`: that in the shape that somebody who knows the task would take, where one is known;
- `best of three`: that in three widths, a third of the cost each, the best on validation;
- RigL and SET in the usual shape, at a rate that fits the size;
- `halving`: asynchronous successive halving (Li et al. 2020) over depth and widths of static sparse networks of that
  size, which is what somebody does with Ray Tune who does not know the architecture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from search.commands.grow.fitting import seed_network, settings_for
from search.commands.study.comparison import POINTS, draw_panels, nowhere_worse
from search.commands.study.studies.tournaments import measured_of, options_of_grow, run_tournament
from search.commands.study.study import Finding, Measurement, Place, Row, Scale, Study, Task
from search.commands.study.tasks import has_few_inputs, tasks_of
from search.report.charts import Chart
from structnet.data.dataset import Dataset
from structnet.experiments.baselines import evolve_steps
from structnet.experiments.methods import METHODS
from structnet.experiments.smallest import goes_on, milestones
from structnet.network.architecture import density_for, parameters_dense
from structnet.network.network import StructNet
from structnet.network.random_topology import least_density
from structnet.network.state import TrainState
from structnet.seeds import stream
from structnet.training.batches import steps_per_epoch
from structnet.training.evaluation import evaluate
from structnet.training.loop import train_steps
from structnet.training.schedules import cosine
from tournament.coordinator import Tournament
from tournament.final_phase import planned_cost
from tournament.opponents import connected_shape, rate_for
from tournament.rules.shapes import USUAL
from tournament.settings import Settings
from tournament.winning_line import WinningLine
from tournament.workers.pool import InlinePool

if TYPE_CHECKING:
    from tournament.coordinator import Result

SHAPES = "shapes"
GROWN: dict[str, dict[str, Any]] = {
    SHAPES: {},
    "growths": {"policy": "score"},
    "at random": {"policy": "random"},
    "without asking": {"rounds": 0},
}
EVOLVED = {"RigL": "rigl", "SET": "set"}
EXPERT, THREE, HALVING = "expert", "best of three", "halving"
ALONE = (EXPERT, *EVOLVED, THREE, HALVING)  # they do not depend on a seed
# Hidden groups by the name of a dataset: LeCun et al. 1998, which the papers on sparse networks take, and its own.
EXPERTS = {"mnist": (300, 100), "teacher": (12,)}
# A run that costs less than this share is made longer, and one that costs more by as much shorter.
CLOSE = 0.9
WIDTHS = (8, 1024)
FEWEST_INPUTS, MANY_INPUTS = 8, 1000  # from which on networks are larger, and the study smaller
COLUMNS = (
    ("test_accuracy", "test, %", 100.0, 2),
    ("accuracy", "validation, %", 100.0, 2),
    ("parameter_steps_all", "million parameter-steps", 1e-6, 1),
    ("share_deciding", "for deciding, %", 100.0, 0),
)


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    """Case: method, for every case and method."""
    sizes = _sizes(data)
    # Where a step is dear there is one seed.
    seeds = {"usual": ()} if data.input_units >= MANY_INPUTS else {"usual": (), "16": (16,), "none": ()}
    arms = {}
    for size in sizes:
        for known, hidden in seeds.items():
            for method in (*GROWN, *(_alone_on(data) if known == "usual" else ())):
                groups = (data.input_units, *hidden, data.classes)
                arms[f"{size} {known}: {method}"] = {
                    "method": method,
                    "max_parameters": size,
                    **({} if known == "usual" else {"architecture": _in_words(groups)}),
                }
    few = has_few_inputs(data)
    return tasks_of(arms, scale, epochs=(8 if few else 1) if scale.quick else 40 if few else 20)


def _alone_on(data: Dataset) -> list[str]:
    return [method for method in ALONE if method != EXPERT or data.name in EXPERTS]


def _sizes(data: Dataset) -> tuple[int, ...]:
    if data.input_units >= MANY_INPUTS:
        return (20_000,)
    if not has_few_inputs(data):
        return (1600, 4000)
    return (150, 300) if data.input_units > FEWEST_INPUTS else (30,)


def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    given = {"dataset": data.name, **task.options}
    method = given.pop("method")
    options = options_of_grow(data, given)
    settings, size = settings_for(options, task.rng_seed), task.options["max_parameters"]
    seed = seed_network(options, data, task.rng_seed)
    cost = planned_cost(WinningLine(seed, data, settings, InlinePool(data)), size)
    if method in GROWN:
        return _measured(_grown(task, data, place, given | GROWN[method], cost))
    if method == EXPERT:
        shape = _in_words((data.input_units, *EXPERTS[data.name], data.classes))
        return _measured(_grown(task, data, place, given | {"rounds": 0, "architecture": shape}, cost))
    if method in EVOLVED:
        network, spent = _evolved(EVOLVED[method], data, settings, size, cost)
        return _alone(network, data, spent)
    if method == THREE:
        return _best_of_three(task, data, given, cost)
    network, spent = _halved(data, settings, size, cost)
    return _alone(network, data, spent, share=1.0)


def _measured(result: Result) -> list[Measurement]:
    progress = result.progress
    share = 1 - progress.parameter_steps / progress.parameter_steps_all
    return [*measured_of(result), Measurement("share_deciding", share)]


def _grown(task: Task, data: Dataset, place: Place, given: dict[str, Any], cost: float) -> Result:
    """A run of grow of about this cost; where its epochs come to another, with as many as do not."""
    options = options_of_grow(data, given)
    assert options.epochs is not None
    if options.policy != "shape":
        first = Tournament(
            seed_network(options, data, task.rng_seed), data, settings=settings_for(options, task.rng_seed)
        ).run()
        ratio = cost / first.progress.parameter_steps_all
        if not CLOSE < ratio < 1 / CLOSE:
            given = {**given, "epochs": max(1, round(options.epochs * ratio))}
    return run_tournament(data, place, task.rng_seed, given)


def _alone(network: StructNet, data: Dataset, spent: float, *, share: float = 0.0) -> list[Measurement]:
    found, test = evaluate(network, data.validation), evaluate(network, data.test)
    return [
        Measurement("accuracy", found.accuracy),
        Measurement("test_accuracy", test.accuracy),
        Measurement("parameters", network.parameter_count),
        Measurement("parameter_steps_all", spent),
        Measurement("share_deciding", share),
    ]


def _in_words(architecture: Sequence[int]) -> str:
    return "-".join(map(str, architecture))


def _usual(data: Dataset) -> tuple[int, ...]:
    return (data.input_units, *USUAL, data.classes)


def _evolved(kind: str, data: Dataset, settings: Settings, size: int, cost: float) -> tuple[StructNet, float]:
    shape, recipe = connected_shape(_usual(data), size), settings.recipe
    size = min(size, parameters_dense(shape))
    method = METHODS[kind](shape, size, round(cost / size), recipe.rng_seed)
    rate = cosine(rate_for(settings, shape, size), 0, method.steps)
    state = TrainState.fresh(method.start())
    state, _, spent = evolve_steps(state, method, data.train, recipe, method.steps, rate)
    return state.network, spent.parameter_steps


def _best_of_three(task: Task, data: Dataset, given: dict[str, Any], cost: float) -> list[Measurement]:
    results = []
    for units in (USUAL[0] // 3, USUAL[0], 3 * USUAL[0]):
        groups = (data.input_units, units, data.classes)
        epochs = max(1, round(task.options["epochs"] / 3))
        own = {**given, "architecture": _in_words(groups), "epochs": epochs, "rounds": 0}
        options = options_of_grow(data, own)
        seed = seed_network(options, data, task.rng_seed)
        results.append(Tournament(seed, data, settings=settings_for(options, task.rng_seed)).run())
    best = max(results, key=lambda result: result.measured.accuracy)
    spent = sum(result.progress.parameter_steps_all for result in results)
    share = 1 - best.progress.parameter_steps_all / spent
    return _alone(best.network, data, spent, share=share)


def _halved(data: Dataset, settings: Settings, size: int, cost: float) -> tuple[StructNet, float]:
    """The best on validation of those that were trained furthest, when all of the cost is spent."""
    rng, recipe = stream(settings.recipe.rng_seed, "halving"), settings.recipe
    per_epoch, rungs = steps_per_epoch(len(data.train), recipe.batch_size), milestones(settings.epochs)
    recorded: dict[int, list[float]] = {epochs: [] for epochs in rungs}
    best, spent, number = (0, 0.0, StructNet(_usual(data), 0.01)), 0.0, 0
    while spent < cost:
        low, high = (math.log(width) for width in WIDTHS)
        widths = [round(math.exp(rng.uniform(low, high))) for _ in range(rng.integers(1, 3))]
        shape, number = (data.input_units, *widths, data.classes), number + 1
        density = density_for(shape, min(size, parameters_dense(shape)))
        if density < least_density(shape):
            continue  # more units than this size can connect
        state = TrainState.fresh(StructNet(shape, density, rng_seed=number, ensure_paths=True))
        for epochs in rungs:
            here = epochs * per_epoch - state.step
            falling = cosine(rate_for(settings, shape, size), 0, settings.epochs * per_epoch)
            train_steps(state, data.train, recipe, here, falling)
            spent += here * state.network.parameter_count
            accuracy = evaluate(state.network, data.validation).accuracy
            best = max(best, (epochs, accuracy, state.network.fork()), key=lambda one: one[:2])
            stopped = not goes_on(accuracy, recorded[epochs])
            recorded[epochs].append(accuracy)
            if stopped or spent >= cost:
                break
    return best[2], spent


def by_case(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Case -> its rows, with the method as their arm; what needs no seed counts in every case of its size."""
    found: dict[str, list[Row]] = {}
    cases = list(dict.fromkeys(row.arm.split(": ")[0] for row in rows))
    for row in rows:
        own, method = row.arm.split(": ")
        alike = [case for case in cases if case.split()[0] == own.split()[0]]
        for case in alike if method in ALONE else [own]:
            found.setdefault(case, []).append(row._replace(arm=method))
    # The order of the methods is that of the text above, `shapes` first.
    order = (*GROWN, *ALONE)
    return {case: sorted(own, key=lambda row: order.index(row.arm)) for case, own in found.items()}


def judge(rows: Sequence[Row]) -> Finding:
    """In no case surely worse than any other method, and in one surely better than all."""
    return nowhere_worse(SHAPES, by_case(rows), COLUMNS)


def draw(rows: Sequence[Row]) -> Chart:
    return draw_panels(by_case(rows), "test_accuracy", "Test accuracy, %", scale=100)


STUDY = Study(
    name="tournament",
    question="Does choosing pay, at equal total cost?",
    claim="a tournament is nowhere surely worse than what does without one, and somewhere surely better",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    seen="Test accuracy of every method, at equal size and cost",
    reading=POINTS,
)
