"""Does choosing pay on pictures, with feature maps, at the same final size and equal total cost?

A case is a size and what cost is counted in, parameter-steps or multiply-adds of training. Every method gets what a run
of `grow` is planned to take, forks and all that is thrown away included:

- `grown`, the default of `grow` for pictures: overshot at random and pruned, in the pyramid that fits the size;
- `growths`, its `--policy score`, and `at random`, the same growth without asking;
- `hand-designed`: the widest dense network of four convolutions of 3 × 3 that is no larger;
- `widened`: the seed with as many maps as make it so large, at its own density, trained as it is;
- `RigL` on taps (Evci et al. 2020), in the pyramid that `grow` begins with;
- `halving`: asynchronous successive halving (Li et al. 2020) by the scheduler of Ray Tune, over sides, maps and
  windows of static sparse networks of that size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from search.commands.grow.fitting import DENSITY_OF_MAPS, seed_network, settings_for
from search.commands.study.comparison import POINTS, draw_panels, nowhere_worse
from search.commands.study.studies.tournaments import measured_of, options_of_grow, run_tournament
from search.commands.study.study import Finding, Measurement, Place, Row, Scale, Study, Task
from search.commands.study.tasks import tasks_of
from search.report.charts import Chart
from structnet.data.dataset import Dataset
from structnet.experiments.baselines import evolve_steps
from structnet.experiments.methods import METHODS
from structnet.experiments.smallest import REDUCTION, milestones
from structnet.measure.size import multiply_adds, training_multiply_adds, training_share
from structnet.network.architecture import POINT, Architecture, Side, density_for, parameters_dense
from structnet.network.network import StructNet
from structnet.network.pyramid import dense_architecture, pyramid
from structnet.network.random_topology import least_density
from structnet.network.state import TrainState
from structnet.seeds import stream
from structnet.training.batches import steps_per_epoch
from structnet.training.evaluation import evaluate
from structnet.training.loop import train_steps
from structnet.training.meter import Meter, metered
from structnet.training.schedules import cosine
from tournament.final_phase import planned_cost
from tournament.opponents import connected_shape, rate_for
from tournament.settings import Settings
from tournament.winning_line import WinningLine
from tournament.workers.pool import InlinePool

DEFAULT, HAND, WIDENED, RIGL, HALVING = "grown", "hand-designed", "widened", "RigL", "halving"
GROWN: dict[str, dict[str, Any]] = {
    DEFAULT: {"rounds": 0},
    "growths": {"policy": "score"},
    "at random": {"policy": "random"},
}
METHODS_HERE = (*GROWN, HAND, WIDENED, RIGL, HALVING)
PARAMETER_STEPS, MULTIPLY_ADDS = "parameter-steps", "multiply-adds"
CLOSE = 0.9  # a run that costs less than this share, or more by as much, is made longer or shorter
LARGE = 1000  # numbers of an image, from which on sizes are those of colour pictures
COLUMNS = (
    ("test_accuracy", "test, %", 100.0, 2),
    ("accuracy", "validation, %", 100.0, 2),
    ("parameters", "parameters", 1.0, 0),
    ("macs", "multiply-adds an image, thousands", 1e-3, 0),
    ("parameter_steps_all", "million parameter-steps", 1e-6, 1),
    ("training_macs", "training, 10¹² multiply-adds", 1e-12, 2),
)


@dataclass(frozen=True)
class Budget:
    """What a method may spend, and in what. macs: what the reference takes for a parameter-step."""

    parameter_steps: float
    macs: float
    currency: str

    @property
    def whole(self) -> float:
        """In its own currency."""
        return self.parameter_steps * (self.macs if self.currency == MULTIPLY_ADDS else 1.0)

    def of_step(self, network: StructNet, batch: int) -> float:
        """What a step of a network costs."""
        if self.currency == MULTIPLY_ADDS:
            return batch * training_multiply_adds(network.topology)
        return network.parameter_count

    def steps_of(self, network: StructNet, batch: int) -> int:
        """As many steps as a network that stays as large can have."""
        return max(1, round(self.whole / self.of_step(network, batch)))


@dataclass
class Found:
    """What a method came to. parameter_steps: of all that it trained."""

    network: StructNet
    parameter_steps: float
    deciding: float = 0.0


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    """Case: method, for every case and method."""
    sizes = (5000,) if data.input_units >= LARGE else (1000, 2000)
    arms = {
        f"{size} by {currency}: {method}": {
            "method": method,
            "currency": currency,
            "max_parameters": size,
            "architecture": str(pyramid(data.input_shape, data.classes, size)),
        }
        for size in sizes
        for currency in (PARAMETER_STEPS, MULTIPLY_ADDS)
        for method in METHODS_HERE
    }
    return tasks_of(arms, scale, epochs=1 if scale.quick else 10)


def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    given = dict(task.options)
    method, currency = given.pop("method"), given.pop("currency")
    options = options_of_grow(data, given)
    settings, size = settings_for(options, task.rng_seed), task.options["max_parameters"]
    budget = _budget(seed_network(options, data, task.rng_seed), data, settings, size, currency)
    with metered() as meter:
        if method in GROWN:
            return _grown(task, data, place, given | GROWN[method], budget, meter)
        found = ALONE[method](data, settings, size, budget)
    return _measured(found, data, meter)


def _budget(seed: StructNet, data: Dataset, settings: Settings, size: int, currency: str) -> Budget:
    """What `grow` is planned to take. Its multiply-adds: those of taps that lie as in the dense network."""
    macs = settings.recipe.batch_size * training_share(seed.topology.architecture)
    planned = planned_cost(WinningLine(seed, data, settings, InlinePool(data)), size)
    return Budget(planned, macs, currency)


def _grown(
    task: Task, data: Dataset, place: Place, given: dict[str, Any], budget: Budget, meter: Meter
) -> list[Measurement]:
    """A run of `grow` of about this cost: of the epochs that it is estimated to pay for, or of as many as it does."""
    epochs = options_of_grow(
        data, {**given, "epochs": None, "budget": f"{budget.parameter_steps:.0f}"}
    ).epochs
    assert epochs is not None
    for _ in range(2):
        meter.multiply_adds = 0
        result = run_tournament(data, place, task.rng_seed, {**given, "epochs": epochs})
        spent = {
            PARAMETER_STEPS: result.progress.parameter_steps_all,
            MULTIPLY_ADDS: meter.multiply_adds,
        }[budget.currency]
        ratio = budget.whole / spent
        if CLOSE < ratio < 1 / CLOSE:
            break
        epochs = max(1, round(epochs * ratio))
    progress = result.progress
    return [
        *measured_of(result),
        Measurement("share_deciding", 1 - progress.parameter_steps / progress.parameter_steps_all),
        *_costs(result.network, meter),
    ]


def _measured(found: Found, data: Dataset, meter: Meter) -> list[Measurement]:
    network = found.network
    measured, test = evaluate(network, data.validation), evaluate(network, data.test)
    return [
        Measurement("accuracy", measured.accuracy),
        Measurement("test_accuracy", test.accuracy),
        Measurement("parameters", network.parameter_count),
        Measurement("parameter_steps_all", found.parameter_steps),
        Measurement("share_deciding", found.deciding),
        *_costs(network, meter),
    ]


def _costs(network: StructNet, meter: Meter) -> list[Measurement]:
    return [
        Measurement("macs", multiply_adds(network.topology)),
        Measurement("training_macs", meter.multiply_adds),
    ]


def _trained(network: StructNet, data: Dataset, settings: Settings, budget: Budget) -> Found:
    """A network that stays as it is, for all of the cost."""
    recipe = settings.recipe
    steps = budget.steps_of(network, recipe.batch_size)
    rate = rate_for(settings, network.topology.architecture, network.parameter_count)
    train_steps(TrainState.fresh(network), data.train, recipe, steps, cosine(rate, 0, steps))
    return Found(network, steps * network.parameter_count)


def _hand_designed(data: Dataset, settings: Settings, size: int, budget: Budget) -> Found:
    shape = dense_architecture(pyramid(data.input_shape, data.classes), size)
    return _trained(StructNet(shape, 1.0, rng_seed=settings.recipe.rng_seed), data, settings, budget)


def _widened(data: Dataset, settings: Settings, size: int, budget: Budget) -> Found:
    """In the widest pyramid in which as many connections exist as in a seed, or more."""
    told = data.input_shape, data.classes
    wide = max(
        (shape for wanted in range(50, 8 * size, 50) if _is_within(shape := pyramid(*told, wanted), size)),
        key=parameters_dense,
    )
    density = density_for(wide, min(size, parameters_dense(wide)))
    network = StructNet(wide, density, rng_seed=settings.recipe.rng_seed, ensure_paths=True)
    return _trained(network, data, settings, budget)


def _is_within(shape: Architecture, size: int) -> bool:
    """Whether a network of this shape and the density of a seed has at most so many parameters."""
    return density_for(shape, min(size, parameters_dense(shape))) >= DENSITY_OF_MAPS


def _evolved(data: Dataset, settings: Settings, size: int, budget: Budget) -> Found:
    shape, recipe = connected_shape(pyramid(data.input_shape, data.classes, size), size), settings.recipe
    method = METHODS["rigl"](shape, size, 1, recipe.rng_seed)
    steps = budget.steps_of(method.start(), recipe.batch_size)
    method = METHODS["rigl"](shape, size, steps, recipe.rng_seed)
    rate = cosine(rate_for(settings, shape, size), 0, steps)
    state = TrainState.fresh(method.start())
    state, _, spent = evolve_steps(state, method, data.train, recipe, steps, rate)
    return Found(state.network, spent.parameter_steps)


def _halved(data: Dataset, settings: Settings, size: int, budget: Budget) -> Found:
    """The best on validation of those that were trained furthest, when all of the cost is spent."""
    from ray.tune.schedulers import ASHAScheduler

    recipe, per_epoch = settings.recipe, steps_per_epoch(len(data.train), settings.recipe.batch_size)
    steps = per_epoch * settings.epochs
    asha = ASHAScheduler(
        "epochs", "accuracy", "max", max_t=settings.epochs, grace_period=1, reduction_factor=REDUCTION
    )
    shapes = _drawn_shapes(data, size, stream(recipe.rng_seed, "halving"))
    best, spent, parameter_steps, number = (0, 0.0), 0.0, 0.0, 0
    chosen = StructNet(pyramid(data.input_shape, data.classes, size), DENSITY_OF_MAPS)
    while spent < budget.whole:
        shape, number = next(shapes), number + 1
        trial = cast("Any", SimpleNamespace(trial_id=str(number)))
        asha.on_trial_add(cast("Any", None), trial)
        state = TrainState.fresh(
            StructNet(shape, density_for(shape, size), rng_seed=number, ensure_paths=True)
        )
        falling = cosine(rate_for(settings, shape, size), 0, steps)
        for epochs in milestones(settings.epochs):
            a_step = budget.of_step(state.network, recipe.batch_size)
            here = min(epochs * per_epoch - state.step, max(1, round((budget.whole - spent) / a_step)))
            train_steps(state, data.train, recipe, here, falling)
            spent += here * a_step
            parameter_steps += here * state.network.parameter_count
            accuracy = evaluate(state.network, data.validation).accuracy
            if (state.step, accuracy) > best:
                best, chosen = (state.step, accuracy), state.network.fork()
            if spent >= budget.whole:
                break
            said = asha.on_trial_result(cast("Any", None), trial, {"epochs": epochs, "accuracy": accuracy})
            if said == ASHAScheduler.STOP:
                break
    return Found(chosen, parameter_steps, deciding=1.0)


def _drawn_shapes(data: Dataset, size: int, rng: np.random.Generator) -> Iterator[Architecture]:
    """Pyramids of three to six groups of maps, halved twice or three times somewhere, that this size can connect."""
    channels, side = data.input_shape[0], cast(Side, tuple(data.input_shape[-2:]))
    while True:
        groups = int(rng.integers(3, 7))
        halved = np.sort(rng.choice(groups, min(groups, int(rng.integers(2, 4))), replace=False))
        times = [int((halved <= group).sum()) for group in range(groups)]
        sides = [(math.ceil(side[0] / 2**often), math.ceil(side[1] / 2**often)) for often in times]
        widths = [round(math.exp(rng.uniform(math.log(3), math.log(48)))) for _ in range(groups)]
        window = int(rng.choice([3, 5]))
        shape = Architecture([channels, *widths, data.classes], [side, *sides, POINT], window)
        if parameters_dense(shape) >= size and density_for(shape, size) >= least_density(shape):
            yield shape


ALONE = {HAND: _hand_designed, WIDENED: _widened, RIGL: _evolved, HALVING: _halved}


def by_case(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Case -> its rows, with the method as their arm."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        case, method = row.arm.split(": ")
        found.setdefault(case, []).append(row._replace(arm=method))
    return {case: sorted(own, key=lambda row: METHODS_HERE.index(row.arm)) for case, own in found.items()}


def judge(rows: Sequence[Row]) -> Finding:
    """In no case surely worse than any other method, and in one surely better than all."""
    return nowhere_worse(DEFAULT, by_case(rows), COLUMNS)


def draw(rows: Sequence[Row]) -> Chart:
    return draw_panels(by_case(rows), "test_accuracy", "Test accuracy, %", scale=100)


STUDY = Study(
    name="pictures",
    question="Does choosing pay on pictures, at equal total cost?",
    claim="grown networks of maps are nowhere surely worse than those made without, and somewhere surely better",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    seen="Test accuracy of every method, at equal size and cost",
    reading=POINTS,
)
