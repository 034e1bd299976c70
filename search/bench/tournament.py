"""`structnet bench tournament`: what a tournament on Ray costs beside the training in it.

Three things: a heat from its first dispatch until the winner is back, against the seconds its forks trained; the
share of a round in which only one worker or none has work; and a network sent to a worker and back.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

import torch
from rich.table import Table

from search.bench.command import benchmark_row, console_for_tables, write_rows
from structnet.data import TORCHVISION, Dataset, load_dataset
from structnet.errors import UserError
from structnet.network import StructNet
from structnet.train_state import TrainState
from structnet.training import Recipe, steps_per_epoch
from tournament.coordinator import Tournament
from tournament.observer import Observer
from tournament.pool import Job, Pool, RayPool, start_ray
from tournament.settings import Settings

HIDDEN, DENSITY = 100, 0.01
FORKS, STEPS, HEATS = 16, 200, 5
ROUNDS = 3
ROUND_TRIPS = 30
TRAVELLER, TRAVELLING_PARAMETERS = (784, 1000, 100, 10), 100_000

Rows = list[dict[str, Any]]
CPU = torch.device("cpu")


def run(
    *, workers: int = 2, dataset: str = "mnist", data_dir: str | None = None, results: str | None = None
) -> None:
    """Measures, prints a table and writes the rows to `results`, if given.

    Raises UserError for a dataset that is not there, or workers below 1.
    """
    if workers < 1:
        raise UserError(f"workers is {workers}, but must be at least 1")
    data, console = _load(dataset, data_dir), console_for_tables()
    console.print(f"A tournament on {data.name} with {workers} workers of one CPU each")
    is_ours = start_ray(workers, 1, 0, None)
    try:
        pool = RayPool(data, workers)
        try:
            _wake(pool, data)
            rows = _heat_rows(pool, data) + _round_rows(pool, data) + _travel_rows(pool)
        finally:
            pool.close()
    finally:
        if is_ours:
            import ray

            ray.shutdown()
    table = Table("measured", box=None, header_style="bold")
    for name in ("ms", "against", "ms", "ratio"):
        table.add_column(name, justify="left" if name == "against" else "right")
    for row in rows:
        milliseconds = (f"{1000 * row[name]:,.1f}" for name in ("ours_seconds", "theirs_seconds"))
        table.add_row(
            row["case"], next(milliseconds), row["theirs"], next(milliseconds), f"{row['ratio']:.3f}"
        )
    console.print(table)
    console.print(
        "Medians. Ratio of a heat: its wall time ÷ its training, spread over the workers without a gap; of a "
        "round:\nthe share of its wall time in which no heat runs; rebuilt: into a TrainState, at both ends."
    )
    path = write_rows(results, "bench-tournament", rows)
    if path:
        console.print(f"{len(rows)} rows in {path}")


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


def _fork_jobs(state: Any, forks: int, steps: int) -> list[Job]:
    return [Job("run_fork", (state, None, Recipe(), steps, 2e-3), f"fork:{index}") for index in range(forks)]


def _seed_arrays(data: Dataset) -> dict[str, Any]:
    network = StructNet([data.input_units, HIDDEN, data.classes], DENSITY)
    return TrainState.fresh(network).to_arrays()


def _wake(pool: Pool, data: Dataset) -> None:
    """Lets every worker import, fetch the dataset and train before anything is timed."""
    pool.run(_fork_jobs(pool.put(_seed_arrays(data)), 2 * pool.workers, 20))


# A heat


def _heat_rows(pool: Pool, data: Dataset) -> Rows:
    """Wall time of a heat, against the seconds of its forks spread over the workers without a gap."""
    arrays = _seed_arrays(data)
    walls, ideals = [], []
    for _ in range(HEATS):
        started = perf_counter()
        outcomes = pool.run(_fork_jobs(pool.put(arrays), FORKS, STEPS))
        failed = [
            outcome for outcome in outcomes if outcome.report is None or outcome.report.measured is None
        ]
        if failed:
            raise RuntimeError(f"a fork failed: {failed[0].error or failed[0].report.error}")
        pool.get(min(outcomes, key=lambda outcome: outcome.report.measured.loss).state)
        walls.append(perf_counter() - started)
        ideals.append(sum(outcome.report.seconds for outcome in outcomes) / pool.workers)
    ratio = median(wall / ideal for wall, ideal in zip(walls, ideals))
    case = f"heat of {FORKS} forks × {STEPS} steps, {data.name}, {pool.workers} workers"
    theirs = "seconds of its forks ÷ workers"
    return [
        benchmark_row("tournament", case, median(walls), theirs, median(ideals), ratio, HEATS, CPU),
    ]


# A round


class Timeline(Observer):
    """Wall seconds of every round, and those of them within its heats; a heat ends with its last fork."""

    def __init__(self) -> None:
        self.walls: list[float] = []
        self.heats: list[float] = []
        self._round_began: float | None = None
        self._heat_began, self._running, self._in_heats = 0.0, 0, 0.0

    def round_started(self, number: int) -> None:
        self._round_began, self._in_heats = perf_counter(), 0.0

    def heat_started(self, heat: int, heats: int, forks: int) -> None:
        self._heat_began, self._running = perf_counter(), forks

    def fork_done(self) -> None:
        self._running -= 1
        if not self._running:
            self._in_heats += perf_counter() - self._heat_began

    def round_done(self, row: dict[str, Any]) -> None:
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
    return [
        benchmark_row("tournament", case, median(serial), "the whole round", wall, share, len(serial), CPU)
    ]


# To a worker and back


def _travel_rows(pool: Pool) -> Rows:
    """A large fork sent to a worker and back, as it is and rebuilt at both ends, against a job without one."""
    dense = sum(before * after for before, after in pairwise(TRAVELLER))
    density = (TRAVELLING_PARAMETERS - sum(TRAVELLER[1:])) / dense
    network = StructNet(list(TRAVELLER), density)
    state = TrainState.fresh(network)

    def empty() -> None:
        pool.run([Job("process_id", ())])

    def unchanged() -> None:
        pool.get(pool.run([Job("echo", (pool.put(state.to_arrays()),))])[0].state)

    def rebuilt() -> None:
        outcome = pool.run([Job("echo", (pool.put(state.to_arrays()), True))])[0]
        TrainState.from_arrays(pool.get(outcome.state))

    seconds = _medians([empty, unchanged, rebuilt])
    case = f"{network.parameter_count:,} parameters there and back"
    return [
        benchmark_row(
            "tournament", name, ours, "a job without a state", seconds[0], ours / seconds[0], ROUND_TRIPS, CPU
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
