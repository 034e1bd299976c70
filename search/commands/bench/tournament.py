"""`structnet bench tournament`: what a tournament on Ray costs beside the training in it, and how fast it trains.

Three cases. `overhead`: a heat from its first dispatch until the winner is back, against the seconds its forks trained;
the share of a round in which only one worker or none has work; and a network sent to a worker and back.
`heats`: the rounds of a tournament with its forks in cohorts, against the same with its forks one by one. `shares`:
what the time of a whole tournament goes into.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, ClassVar

from search.commands.bench.command import TournamentOptions
from search.commands.bench.measuring import (
    Pairs,
    Rows,
    benchmark_row,
    check_case,
    check_repeats,
    console_for_tables,
    ray_with,
    row_of_pairs,
    write_rows,
)
from search.commands.bench.shares import measure_shares
from search.session.console import Console
from search.session.run import architecture_of
from search.session.tables import table_of
from structnet.data.dataset import Dataset
from structnet.data.datasets import defaults_of, load_dataset
from structnet.data.torchvision_sets import TORCHVISION
from structnet.errors import UserError
from structnet.experiments.initialisation import random_network
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.training.batches import steps_per_epoch
from structnet.training.recipe import Recipe
from tournament.coordinator import Tournament
from tournament.observer import Observer
from tournament.rules.ledger import Economy
from tournament.settings import Settings, fitted_epochs, fitted_lengths, fitted_settings
from tournament.workers.contender import Contender
from tournament.workers.fork import Arrays, ForkReport
from tournament.workers.pool import Job, Pool, RayPool, StateHandle
from tournament.workers.work import RunForks, TellProcess

HIDDEN, DENSITY = 100, 0.01
FORKS, STEPS, HEATS = 16, 200, 5
ROUNDS = 3
ROUND_TRIPS = 30
TRAVELLER, TRAVELLING_PARAMETERS = (784, 1000, 100, 10), 100_000

GROWTH_ROUNDS, GROWTH_LIMIT, GROWTH_REPEATS = 12, 4000, 3


def run(options: TournamentOptions) -> None:
    """Measures, prints a table per case and writes the rows to `results`, if given.

    case: one of CASES; None for all. repeats: pairs of tournaments of the case heats; None for GROWTH_REPEATS.
    Raises UserError for what is none of these, a dataset that is not there, or workers below 1.
    """
    check_case(options.case, CASES)
    if options.workers < 1:
        raise UserError(f"workers is {options.workers}, but must be at least 1")
    check_repeats(options.repeats)
    data, console = _load(options.dataset, options.data_dir), console_for_tables()
    console.print(f"A tournament on {data.name} with {options.workers} workers of one CPU each")
    with ray_with(options.workers), closing(RayPool(data, options.workers)) as pool:
        _wake(pool, data)
        for name in [options.case] if options.case else CASES:
            rows = CASES[name](pool, data, options.repeats or GROWTH_REPEATS, console)
            write_rows(options.results, f"bench-tournament-{name}", rows, console)


def _load(dataset: str, data_dir: str | None) -> Dataset:
    try:
        return load_dataset(dataset, data_dir=data_dir)
    except UserError as error:
        if dataset not in TORCHVISION:
            raise
        raise UserError(
            f"{dataset} is not whole in '{data_dir or 'data'}': say where it lies with --data-dir, or take "
            "--dataset digits, which needs no files"
        ) from error


def _fork_jobs(state: StateHandle, forks: int, steps: int) -> list[Job[list[ForkReport]]]:
    """Forks that add nothing, a job for each."""
    work = RunForks(((0, None),), Recipe(), steps, 2e-3)
    return [Job(work, (state,), f"fork:{index}") for index in range(forks)]


@dataclass(frozen=True)
class Echo:
    """The state as it came, or rebuilt and taken apart again: what sending a fork costs."""

    rebuild: bool = False
    name: ClassVar[str] = "echo"
    makes: ClassVar[int] = 1

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[None, Sequence[Arrays]]:
        """The state as it came, or rebuilt."""
        (state,) = states
        if self.rebuild:
            state = TrainState.from_arrays(state, contender.device).to_arrays()
        return None, [state]


def _seed_arrays(data: Dataset) -> dict[str, Any]:
    network = StructNet([data.input_units, HIDDEN, data.classes], DENSITY)
    return TrainState.fresh(network).to_arrays()


def _wake(pool: Pool, data: Dataset) -> None:
    """Lets every worker import, fetch the dataset and train before anything is timed."""
    pool.run(_fork_jobs(pool.put(_seed_arrays(data)), 2 * pool.workers, 20))


# What a tournament costs beside its training


def _measure_overhead(pool: Pool, data: Dataset, repeats: int, console: Console) -> Rows:
    rows = _heat_rows(pool, data) + _round_rows(pool, data) + _travel_rows(pool)
    table = table_of(["measured"], ("ms", "against", "ms", "ratio"))
    table.columns[2].justify = "left"
    for row in rows:
        ours, theirs = (f"{1000 * row[name]:,.1f}" for name in ("ours_seconds", "theirs_seconds"))
        table.add_row(row["case"], ours, row["theirs"], theirs, f"{row['ratio']:.3f}")
    console.print(table)
    console.print(
        "Medians. Ratio of a heat: its wall time ÷ its training, spread over the workers without a gap; of a "
        "round:\nthe share of its wall time in which no heat runs; rebuilt: into a TrainState, at both ends."
    )
    return rows


# A heat


def _heat_rows(pool: Pool, data: Dataset) -> Rows:
    """Wall time of a heat, against the seconds of its forks spread over the workers without a gap."""
    arrays = _seed_arrays(data)
    walls, ideals = [], []
    for _ in range(HEATS):
        started = perf_counter()
        outcomes = pool.run(_fork_jobs(pool.put(arrays), FORKS, STEPS))
        reports = [outcome.value()[0] for outcome in outcomes]
        losses = [_loss_of(report) for report in reports]
        pool.get(outcomes[losses.index(min(losses))].states[0])
        walls.append(perf_counter() - started)
        ideals.append(sum(report.seconds for report in reports) / pool.workers)
    ratio = median(wall / ideal for wall, ideal in zip(walls, ideals))
    case = f"heat of {FORKS} forks × {STEPS} steps, {data.name}, {pool.workers} workers"
    theirs = "seconds of its forks ÷ workers"
    return [benchmark_row("tournament", case, median(walls), theirs, median(ideals), ratio, HEATS)]


def _loss_of(report: ForkReport) -> float:
    if report.measured is None:
        raise RuntimeError(f"a fork failed: {report.error}")
    return report.measured.loss


# A round


class Timeline(Observer):
    """Wall seconds of every round, and those of them within its heats; a heat ends with its last fork."""

    def __init__(self) -> None:
        self.walls: list[float] = []
        self.heats: list[float] = []
        self._round_began: float | None = None
        self._heat_began, self._running, self._in_heats = 0.0, 0, 0.0

    def round_started(self, number: int) -> None:
        """Starts the clock of a round."""
        self._round_began, self._in_heats = perf_counter(), 0.0

    def heat_started(self, heat: int, heats: int, forks: int) -> None:
        """Starts the clock of a heat."""
        self._heat_began, self._running = perf_counter(), forks

    def fork_done(self) -> None:
        """Stops the clock of the heat with its last fork."""
        self._running -= 1
        if not self._running:
            self._in_heats += perf_counter() - self._heat_began

    def round_done(self, row: dict[str, Any]) -> None:
        """Notes the round that ended, if it had heats."""
        # Round 0 and the final phase end with this as well, but have no heats and no beginning.
        if self._round_began is not None:
            self.walls.append(perf_counter() - self._round_began)
            self.heats.append(self._in_heats)
            self._round_began = None


def _round_rows(pool: Pool, data: Dataset) -> Rows:
    """The serial share: what of a round is training the line, diagnosing, judging and writing."""
    settings = Settings(
        rounds=ROUNDS,
        heat_steps=STEPS,
        candidates=FORKS,
        growth_share=1.0,
        epochs=-(-(ROUNDS + 1) * (100 + STEPS) // steps_per_epoch(len(data.train), 128)),
    )
    timeline = Timeline()
    seed = StructNet([data.input_units, HIDDEN, data.classes], DENSITY)
    Tournament(seed, data, settings=settings, pool=pool, observer=timeline).run()
    serial = [wall - inside for wall, inside in zip(timeline.walls, timeline.heats)]
    share = median(outside / wall for outside, wall in zip(serial, timeline.walls))
    case = f"round of {FORKS} forks, {data.name}, {pool.workers} workers: not in heats"
    wall = median(timeline.walls)
    return [benchmark_row("tournament", case, median(serial), "the whole round", wall, share, len(serial))]


# Heats as cohorts


def _measure_heats(pool: Pool, data: Dataset, repeats: int, console: Console) -> Rows:
    """The rounds of a tournament both ways, in turns, with the same workers; what comes after growth is not timed."""
    settings = _growth_settings(data)
    seconds: dict[tuple[str, bool], list[float]] = {}
    same = True
    for _ in range(repeats):
        found = {}
        for together in (True, False):
            pool.together = together
            timeline, found[together] = _grown(pool, data, settings)
            for part, spans in (("rounds", timeline.walls), ("their heats", timeline.heats)):
                seconds.setdefault((part, together), []).append(sum(spans))
        same = same and found[True] == found[False]
    pool.together = True
    table, rows = table_of(["part"], ("s in cohorts", "s one by one", "times as fast")), []
    for part in ("rounds", "their heats"):
        pairs = Pairs(seconds[part, True], seconds[part, False])
        table.add_row(part, f"{median(pairs.ours):,.2f}", f"{median(pairs.theirs):,.2f}", pairs.shown())
        case = f"{GROWTH_ROUNDS} rounds of a tournament, {data.name}, {pool.workers} workers: {part}"
        rows.append(row_of_pairs("tournament", case, pairs, "forks one by one"))
    console.print(table)
    console.print(
        f"Medians of {repeats} pairs (smallest-largest). All candidates, rounds and decisions are "
        f"{'the same, to the bit' if same else 'NOT the same'}. Aim: rounds at least 2 times as fast."
    )
    return rows


def _growth_settings(data: Dataset) -> Settings:
    """Those of `grow`, with a line that is about as long as its growth."""
    images = len(data.train)
    epochs = defaults_of(data.name, "grow").get("epochs") or fitted_epochs(images)
    batch_size, round_steps, heat_steps = fitted_lengths(images, epochs)
    steps = (GROWTH_ROUNDS + 1) * (round_steps + heat_steps)
    return fitted_settings(
        images,
        epochs=-(-steps // steps_per_epoch(images, batch_size)),
        rounds=GROWTH_ROUNDS,
        round_steps=round_steps,
        heat_steps=heat_steps,
        growth_share=1.0,
        max_parameters=GROWTH_LIMIT,
        policy="score",
        economy=Economy(fork_price=0.0),
    )


def _grown(pool: Pool, data: Dataset, settings: Settings) -> tuple[Timeline, Rows]:
    """When what happened, and all rows but for times and names of workers."""
    own = defaults_of(data.name, "grow")
    shape = architecture_of(own.get("architecture", f"input,{HIDDEN},classes"), data)
    seed = StructNet(shape, own.get("density", DENSITY), ensure_paths=True)
    timeline = Timeline()
    result = Tournament(seed, data, settings=settings, pool=pool, observer=timeline).run()
    rows = result.candidates + result.rounds
    return timeline, [
        {name: value for name, value in row.items() if name not in ("seconds", "worker")} for row in rows
    ]


# To a worker and back


def _travel_rows(pool: Pool) -> Rows:
    """A large fork sent to a worker and back, as it is and rebuilt at both ends, against a job without one."""
    network = random_network(TRAVELLER, TRAVELLING_PARAMETERS)
    state = TrainState.fresh(network)

    def empty() -> None:
        pool.run([Job(TellProcess())])

    def unchanged() -> None:
        pool.get(pool.run([Job(Echo(), (pool.put(state.to_arrays()),))])[0].states[0])

    def rebuilt() -> None:
        outcome = pool.run([Job(Echo(rebuild=True), (pool.put(state.to_arrays()),))])[0]
        TrainState.from_arrays(pool.get(outcome.states[0]))

    seconds = _medians([empty, unchanged, rebuilt])
    case = f"{network.parameter_count:,} parameters there and back"
    return [
        benchmark_row(
            "tournament", name, ours, "a job without a state", seconds[0], ours / seconds[0], ROUND_TRIPS
        )
        for name, ours in ((case, seconds[1]), (f"{case}, rebuilt", seconds[2]))
    ]


def _medians(trips: list[Callable[[], None]]) -> list[float]:
    """Median seconds of each, taken in turns; the first turn of each is not counted."""
    times: list[list[float]] = [[] for _ in trips]
    for turn in range(ROUND_TRIPS + 1):
        for trip, taken in zip(trips, times):
            started = perf_counter()
            trip()
            if turn:
                taken.append(perf_counter() - started)
    return [median(taken) for taken in times]


def _measure_shares(pool: Pool, data: Dataset, repeats: int, console: Console) -> Rows:
    """What a bare `grow` goes into, on workers of its own."""
    own = defaults_of(data.name, "grow")
    epochs = own.get("epochs") or fitted_epochs(len(data.train))
    shape = architecture_of(own.get("architecture", f"input,{HIDDEN},classes"), data)
    seed = StructNet(shape, own.get("density", DENSITY), ensure_paths=True)
    settings = fitted_settings(
        len(data.train), epochs=epochs, policy="score", economy=Economy(fork_price=0.0)
    )
    pool.close()
    return measure_shares(data, seed, settings, pool.workers, console)


CASES: dict[str, Callable[[Pool, Dataset, int, Console], Rows]] = {
    "overhead": _measure_overhead,
    "heats": _measure_heats,
    "shares": _measure_shares,
}
