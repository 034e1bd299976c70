"""Does it pay to let ways of pruning compete?

A path of sizes is walked as in tournament.descent, without growth before it: from a seed as that of `grow` down the
sizes, each reached from above and annealed, the first of them twice. On the way connections are pruned by one of WAYS,
or at every size by all of them from the same state, of which the one of most information on validation goes on. A
competition costs as much as its parts, so its rival is the first way alone, trained for TIMES as long at every size.

What was chosen on validation flatters itself there a little, so a competition that is not ahead has no excuse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from search.commands.study.comparison import (
    COST,
    POINTS,
    arm_table,
    draw_arms,
    lead_of,
    leads_over,
    means_of,
    values_of,
)
from search.commands.study.study import Finding, Measurement, Place, Row, Scale, Study, Task, verdict
from search.commands.study.tasks import has_few_inputs, tasks_of
from search.report import charts
from search.report.charts import Chart
from structnet.data.dataset import Dataset
from structnet.measure.information import label_entropy
from structnet.network.architecture import parameters_dense
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.training.batches import steps_per_epoch
from structnet.training.evaluation import evaluate
from structnet.training.schedules import cosine
from structnet.training.shrinking import Shrinking, shrink_steps, worth
from tournament.descent import FIRST, LATER
from tournament.final_phase import FULL_SHARE, OVERSHOOT
from tournament.settings import Settings, fitted_settings

SIZES, FEW_SIZES = (2400, 1200, 600), (240, 120, 60)
BASE, BEST, LONGER = "saliency", "best of four", "saliency longer"
TIMES = 2
INFORMATION = ("information", "information, bits", 1.0, 4)
TEST_MEAN = ("test_accuracy", "test, %", 100.0, 2)
SHARE = ("share", f"of the cost of {BASE}, %", 100.0, 0)


def by_layer(state: TrainState) -> np.ndarray:
    """(connections,) rank of each connection's worth within its link, in (0, 1): every link loses the same share."""
    each = worth(state)
    ranks = np.empty(len(each))
    for span in state.network.topology.links.values():
        ranks[span] = (_places(np.argsort(each[span], kind="stable")) + 0.5) / (span.stop - span.start)
    return ranks


def by_unit(state: TrainState) -> np.ndarray:
    """(connections,) places in the order of the hidden units' mean worth, and of their own within a unit.

    A connection between hidden units goes with the one of less; one that skips all of them stands for itself.
    """
    topology, each = state.network.topology, worth(state)
    ends = np.stack([topology.source, topology.target])
    total = sum(np.bincount(end, each, topology.units) for end in ends)
    mean = np.full(topology.units, np.inf)
    mean[topology.hidden] = (total / np.maximum(1, topology.fan_in() + topology.fan_out()))[topology.hidden]
    least = mean[ends].min(axis=0)
    return _places(np.lexsort((each, np.where(np.isinf(least), each, least))))


def _places(order: np.ndarray) -> np.ndarray:
    """The place of each in an order."""
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    return places


class Way(NamedTuple):
    """A way of pruning. ranked: as in shrink_steps. move_share: as in Shrinking."""

    ranked: Callable[[TrainState], np.ndarray]
    move_share: float = Shrinking.move_share


WAYS = {
    BASE: Way(worth),
    "no regrowth": Way(worth, 0.0),
    "by layer": Way(by_layer),
    "by unit": Way(by_unit, 0.0),
}


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    few = has_few_inputs(data)
    arms = {way: {"ways": [way], "times": 1} for way in WAYS}
    return tasks_of(
        arms | {BEST: {"ways": [*WAYS], "times": 1}, LONGER: {"ways": [BASE], "times": TIMES}},
        scale,
        architecture=[data.input_units, 32 if few else 100, data.classes],
        density=0.05 if few else 0.01,
        epochs=4 if scale.quick else 40 if few else 20,
        sizes=list(FEW_SIZES if few else SIZES),
    )


@dataclass
class Path:
    """A line on its way down the sizes.

    dense: parameters of the dense network of the seed. spent: parameter-steps of everything. chosen: the way that won
    each phase.
    """

    data: Dataset
    settings: Settings
    state: TrainState
    dense: int
    spent: int = 0
    chosen: list[str] = field(default_factory=list)

    def walk(self, ways: Sequence[str], size: int, epochs: float) -> None:
        """To a size in so many epochs: by each of the ways, of which the one of most information goes on."""
        ends = {way: self._phase(WAYS[way], size, epochs) for way in ways}
        best = max(ways, key=lambda way: information_of(ends[way].network, self.data))
        self.state = ends[best]
        self.chosen.append(best)

    def _phase(self, way: Way, size: int, epochs: float) -> TrainState:
        state, recipe = self.state.copy(), self.settings.recipe
        per_epoch = steps_per_epoch(len(self.data.train), recipe.batch_size)
        stop = state.step + max(per_epoch, round(epochs * per_epoch))
        shrinking, rate = schedule(state, size, stop, self.dense, way.move_share)
        falling = cosine(self.settings.learning_rate * rate, shrinking.start, stop)
        while state.step < stop:
            here = min(shrinking.every, stop - state.step)
            state, _ = shrink_steps(state, self.data.train, recipe, here, falling, shrinking, way.ranked)
            self.spent += here * state.network.parameter_count
        return state


def schedule(
    state: TrainState, size: int, stop: int, dense: int, move_share: float
) -> tuple[Shrinking, float]:
    """A phase from here down to a size, and the factor of its learning rate: as tournament.final_phase has them."""
    now = state.network.parameter_count
    peak = max(now, min(OVERSHOOT * size, dense))
    shrinking = Shrinking(state.step, stop, size=now, peak=peak, limit=size, move_share=move_share)
    return shrinking, math.sqrt(max(1.0, FULL_SHARE * dense / max(now, OVERSHOOT * size)))


def information_of(network: StructNet, data: Dataset) -> float:
    """Usable information on validation, in bits."""
    found = evaluate(network, data.validation).log2_likelihood
    return label_entropy(data.validation.labels) + float(found.mean())


def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    options = task.options
    settings = fitted_settings(len(data.train), epochs=options["epochs"])
    settings = replace(settings, recipe=replace(settings.recipe, rng_seed=task.rng_seed))
    network = StructNet(
        options["architecture"], options["density"], rng_seed=task.rng_seed, ensure_paths=True
    )
    path = Path(data, settings, TrainState.fresh(network), parameters_dense(network.architecture))
    length = options["times"] * options["epochs"]
    path.walk(options["ways"], options["sizes"][0], FIRST * length)
    found = []
    for size in options["sizes"]:
        path.walk(options["ways"], size, LATER * length)
        found += _reached(path.state.network, data, size)
    wins = [Measurement(f"chosen:{way}", path.chosen.count(way)) for way in options["ways"]]
    return [*found, *wins, Measurement("parameter_steps_all", path.spent)]


def _reached(network: StructNet, data: Dataset, size: int) -> list[Measurement]:
    return [
        Measurement("information", information_of(network, data), size),
        Measurement("accuracy", evaluate(network, data.validation).accuracy, size),
        Measurement("test_accuracy", evaluate(network, data.test).accuracy, size),
        Measurement("parameters", network.parameter_count, size),
    ]


def over_sizes(rows: Sequence[Row], quantity: str) -> list[Row]:
    """For every arm and rng_seed the mean of a quantity over the sizes."""
    found: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        if row.quantity == quantity:
            found.setdefault((row.arm, row.rng_seed), []).append(row.value)
    return [Row(arm, seed, quantity, 0, float(np.mean(values))) for (arm, seed), values in found.items()]


def shares(rows: Sequence[Row]) -> list[Row]:
    """For every arm and rng_seed its cost as a share of that of the base with the same rng_seed."""
    costs = values_of(rows, "parameter_steps_all")
    return [
        Row(arm, seed, "share", 0, cost / costs[BASE][seed])
        for arm, spent in costs.items()
        for seed, cost in spent.items()
        if seed in costs[BASE]
    ]


def judge(rows: Sequence[Row]) -> Finding:
    """Competing has to be surely ahead of the base trained for longer, which costs less."""
    found = [*over_sizes(rows, "information"), *over_sizes(rows, "test_accuracy"), *shares(rows)]
    share, rival = means_of(found, "share"), lead_of(BEST, LONGER, found, "information")
    wins = {way: sum(values_of(rows, f"chosen:{way}").get(BEST, {}).values()) for way in WAYS}
    sentences = [
        f"{arm}: {lead.shown(digits=4)} bits against {BASE} over the sizes, at {share[arm]:.0%} of its cost."
        for arm, lead in leads_over(BASE, found, "information").items()
    ]
    sentences += [
        f"{BEST} against {LONGER}: {rival.shown(digits=4)} bits, at {share[BEST] / share[LONGER]:.0%} of its cost.",
        f"Of the four went on: {', '.join(f'{way} {count:.0f} times' for way, count in wins.items())}.",
    ]
    costs = [row for row in rows if row.quantity == COST[0]]
    table = arm_table([*found, *costs], (INFORMATION, TEST_MEAN, COST, SHARE), BASE)
    return Finding(verdict(yes=rival.is_above_zero), tuple(sentences), table)


def draw(rows: Sequence[Row]) -> Chart:
    information = draw_arms(
        over_sizes(rows, "information"), "information", "Information over the sizes, bits"
    )
    cost = draw_arms(rows, COST[0], COST[1].capitalize(), scale=COST[2])
    return charts.beside({"what is reached": information, "what it costs": cost}, same_y=False)


STUDY = Study(
    name="prunes",
    question="Does it pay to let ways of pruning compete?",
    claim="the best of several ways of pruning, chosen at every size, is worth more than training for longer",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    seen="Information over the sizes, and what it costs",
    reading=POINTS,
)
